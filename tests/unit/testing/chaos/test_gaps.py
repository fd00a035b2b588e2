"""Gaps of writes: by hand, and what of them is too long."""

from ottla.testing.chaos.gaps import FaultWindow, Gap, acknowledgements, gaps, longest_gap_ms, series
from ottla.testing.chaos.limits import too_slow
from ottla.testing.history import Outcome, Send

S = 1_000_000_000


def sent(partition: int, at_s: float, *, latency_s: float = 0.01, outcome: Outcome = Outcome.OK) -> Send:
    done = int((100 + at_s) * S)
    return Send(
        process="w",
        invoked_ns=done - int(latency_s * S),
        completed_ns=done,
        outcome=outcome,
        topic="t",
        partition=partition,
        value=f"{partition}-{at_s}",
    )


def times(*seconds: float) -> list[tuple[float, float]]:
    return [(second, 1.0) for second in seconds]


def window(kind: str, since_s: float, until_s: float) -> FaultWindow:
    return FaultWindow(kind=kind, detail="node 1", since_s=since_s, until_s=until_s)


def test_only_what_was_acknowledged_counts() -> None:
    sends = [sent(0, 1), sent(0, 2, outcome=Outcome.UNKNOWN), sent(1, 3), sent(0, 0.5)]
    found = acknowledgements(sends, "t", 100 * S)
    assert {partition: [round(at_s, 3) for at_s, _ in rows] for partition, rows in found.items()} == {
        0: [0.5, 1.0],
        1: [3.0],
    }


def test_a_gap_reaches_over_the_edges_of_its_window() -> None:
    assert longest_gap_ms(times(1.0, 1.1, 3.1, 3.2, 5.2), 2.0, 3.0) == 2000


def test_a_gap_that_never_ends_counts_to_the_end() -> None:
    assert longest_gap_ms(times(1.0, 2.0), 1.5, 10.0) == 8000


def test_a_partition_without_any_write_is_one_gap() -> None:
    assert longest_gap_ms([], 1.0, 4.0) == 3000


def test_a_fault_has_the_gap_of_its_worst_partition_and_the_time_after_its_heal() -> None:
    acknowledged = {0: times(0.9, 1.0, 1.5, 2.0, 2.1), 1: times(0.9, 2.9, 3.0)}
    [found] = gaps(acknowledged, [window("kill", 1.0, 2.0)], 10.0)
    assert round(found.gap_ms) == 2000
    assert round(found.after_heal_ms) == 900


def test_a_series_has_a_bucket_for_each_half_second() -> None:
    buckets = series({0: [(0.1, 5.0), (0.2, 7.0)], 1: [(1.2, 3.0)]}, 1.5)
    assert [(one.at_s, one.rate, one.max_ms) for one in buckets] == [(0.0, 4.0, 7.0), (0.5, 0.0, None), (1.0, 2.0, 3.0)]


def test_the_loss_of_one_node_may_take_a_second_and_a_half() -> None:
    windows = [window("kill-leader", 1.0, 3.0), window("kill-leader", 5.0, 6.0), window("pause", 8.0, 9.0)]
    lengths = [
        Gap(kind="kill-leader", gap_ms=1400, after_heal_ms=0),
        Gap(kind="kill-leader", gap_ms=1600, after_heal_ms=0),
        Gap(kind="pause", gap_ms=4000, after_heal_ms=0),
    ]
    [told] = too_slow(lengths, windows)
    assert told.startswith("kill-leader at 5.0 s: no write for 1600 ms")


def test_three_seconds_after_a_partition_writes_go_on() -> None:
    windows = [window("partition-halves", 1.0, 3.0)]
    assert too_slow([Gap(kind="partition-halves", gap_ms=9000, after_heal_ms=2900)], windows) == []
    assert len(too_slow([Gap(kind="partition-halves", gap_ms=9000, after_heal_ms=3100)], windows)) == 1


def test_faults_that_were_done_at_once_are_not_judged() -> None:
    windows = [window("kill", 1.0, 3.0), window("slow-links", 1.1, 3.0)]
    lengths = [Gap(kind="kill", gap_ms=9000, after_heal_ms=0), Gap(kind="slow-links", gap_ms=9000, after_heal_ms=0)]
    assert too_slow(lengths, windows) == []

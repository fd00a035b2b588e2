"""A result: its word, its file, and how it is shown."""

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from ottla.core.errors import ConfigError
from ottla.testing.chaos.gaps import Bucket, FaultWindow, Gap
from ottla.testing.chaos.limits import AFTER_PARTITION_MS
from ottla.testing.chaos.own_cluster import chosen_faults
from ottla.testing.chaos.report import markdown, page
from ottla.testing.chaos.result import AVAILABLE, COLUMNS, GUARANTEES, RECOVERS, Result, Standing
from ottla.testing.chaos.schedule import AFTER_S, kinds, steps
from ottla.testing.chaos.summary import summary
from ottla.testing.chaos.workloads import WORKLOADS, workloads
from ottla.testing.history import Kind
from ottla.testing.history.verdict import CLIENTS_OWN


def result(**changed: object) -> Result:
    found = Result(
        cluster="ottla",
        client="confluent",
        faults=["kill"],
        workloads=["append"],
        seed=7,
        seconds=2.0,
        commit="abc",
        nodes=3,
        windows=[FaultWindow(kind="kill", detail="node <1>", since_s=0.5, until_s=1.0)],
        series=[
            Bucket(at_s=0.0, rate=80.0, p50_ms=2.0, max_ms=9.0),
            Bucket(at_s=0.5, rate=0.0, p50_ms=None, max_ms=None),
            Bucket(at_s=1.0, rate=80.0, p50_ms=3.0, max_ms=700.0),
        ],
        gaps=[Gap(kind="kill", gap_ms=700.0, after_heal_ms=20.0)],
        longest_gap_ms=700.0,
    )
    for name, value in changed.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("changed", "standing"),
    [
        ({}, Standing.OK),
        ({"slow": ["x"]}, Standing.SLOW),
        ({"slow": ["x"], "stuck": ["y"]}, Standing.STUCK),
        ({"stuck": ["y"], "anomalies": {str(Kind.DUPLICATE): 1}}, Standing.ANOMALY),
    ],
)
def test_the_worst_gives_the_word(changed: dict[str, object], standing: Standing) -> None:
    assert result(**changed).standing is standing


def test_every_kind_of_anomaly_breaks_a_guarantee() -> None:
    covered = frozenset().union(*GUARANTEES.values())
    # How long writes may stop is judged by the run, which knows its faults; what is left open does not come to rest.
    assert covered | {Kind.UNAVAILABLE, Kind.LEFT_OPEN} | CLIENTS_OWN == frozenset(Kind)


def test_a_guarantee_counts_its_own_anomalies() -> None:
    found = result(anomalies={str(Kind.DUPLICATE): 2, str(Kind.FROM_NOWHERE): 1}, stuck=["y"], slow=["a", "b"])
    broken = {column: found.broken(column) for column in COLUMNS if found.broken(column)}
    assert broken == {"no record twice, none from nowhere": 3, RECOVERS: 1, AVAILABLE: 2}


def test_a_result_comes_back_from_its_file(tmp_path: Path) -> None:
    found = result(anomalies={str(Kind.LOST_WRITE): 1})
    found.save(tmp_path / "deep" / "one.json")
    assert Result.load(tmp_path / "deep" / "one.json") == found


def test_the_page_stands_alone_and_escapes_what_it_shows() -> None:
    html = page([result(), result(client="ottla", excerpts=["lost write: <b>"])])
    assert html.count("<svg") == 2
    assert "node &lt;1&gt;" in html
    assert "lost write: &lt;b&gt;" in html
    assert "http" not in html


def test_the_table_has_a_line_for_each_row() -> None:
    lines = markdown([result(row="kill"), result(row="kill", client="ottla"), result(row="pause")]).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| kill | 2 | 2 | 0 | 0 | 0 |")


def test_what_clients_do_to_themselves_is_told_and_breaks_nothing() -> None:
    own = result(clients_own=["duplicate of the client's own making: a"], renumbered=["a, rdkafka#producer-1: a gap"])
    assert own.standing is Standing.OK
    told = summary(own)
    assert "no anomaly of the cluster's: 1" in told
    assert "duplicate of the client's own making: a" in told
    assert "a, rdkafka#producer-1: a gap" in told
    assert "client&#x27;s own making: a" in page([own])
    assert markdown([own]).splitlines()[2].startswith("| kill | 1 | 1 | 0 | 1 | 0 |")


def test_the_summary_says_what_is_broken() -> None:
    assert "Nothing found." in summary(result())
    assert "BROKEN" not in summary(result(slow=["kill at 7.0 s: no write for 3529 ms"]))  # it is told, and no failure
    assert "BROKEN: no acknowledged write is lost (1)" in summary(result(anomalies={str(Kind.LOST_WRITE): 1}))


def test_a_seed_gives_the_same_steps_and_every_fault_its_turn() -> None:
    faults = ["kill", "pause+kill-client", "slow-links"]
    first, second = steps(Random(3), faults), steps(Random(3), faults)
    drawn = [next(first) for _ in range(6)]
    assert drawn == [next(second) for _ in range(6)]
    assert sorted(step.kinds for step in drawn[:3]) == [("kill",), ("pause", "kill-client"), ("slow-links",)]
    assert kinds(faults) == ["kill", "pause", "kill-client", "slow-links"]


def test_after_a_network_was_cut_writes_have_the_time_that_they_may_take_to_go_on() -> None:
    drawn = steps(Random(3), ["partition-leader+kill-client", "kill"])
    pairs = list(pairwise(next(drawn) for _ in range(20)))
    quiet = [later.quiet_s for earlier, later in pairs if earlier.kinds[0] == "partition-leader"]
    assert len(quiet) >= 9
    assert min(quiet) > AFTER_PARTITION_MS / 1000
    assert AFTER_S > AFTER_PARTITION_MS / 1000
    assert max(later.quiet_s for earlier, later in pairs if earlier.kinds == ("kill",)) < 2


def test_faults_are_named_alone_in_groups_and_together() -> None:
    assert chosen_faults(["kill", "pause+kill-client"]) == ["kill", "pause+kill-client"]
    with pytest.raises(ConfigError, match="choose among"):
        chosen_faults(["kil"])
    with pytest.raises(ConfigError, match="choose among"):
        chosen_faults(["kill+kil"])


def test_workloads_are_all_or_those_that_are_named() -> None:
    assert [one.name for one in workloads(())] == list(WORKLOADS)
    assert [one.name for one in workloads(("bank",))] == ["bank"]
    with pytest.raises(ConfigError, match="none of"):
        workloads(("banks",))

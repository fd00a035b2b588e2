"""The state machine of one partition: events in, effects out."""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.mirror.core.offset_map import Chunk
from ottla.mirror.core.partition_task import (
    DeadLetter,
    Fetch,
    Lost,
    PartitionTask,
    Pause,
    SourceLog,
    StartedOver,
    State,
    Stop,
    TaskPolicy,
)
from ottla.mirror.core.progress import CopiedPartition, MapId

ID = MapId("cluster", "source-1", "target-1", 0)
LOG = SourceLog(10, 100)


def task(**policy: Any) -> PartitionTask:
    return PartitionTask(ID, TaskPolicy(**policy))


def copy(position: int, **other: Any) -> CopiedPartition:
    copied = CopiedPartition(ID._replace(**other), "a", "orders", "a.orders")
    copied.map.replay(Chunk(0, position, ()))
    return copied


def begun(position: int = 50, **policy: Any) -> PartitionTask:
    one = task(**policy)
    assert one.begin([copy(position)], LOG) == [Fetch(position)]
    return one


def test_a_partition_without_progress_begins_where_it_is_told() -> None:
    assert task().begin([], LOG) == [Fetch(10)]
    assert task(start="latest").begin([], LOG) == [Fetch(100)]


def test_it_goes_on_where_its_progress_ends() -> None:
    one = task()
    assert one.begin([copy(50)], LOG) == [Fetch(50)]
    assert (one.state, one.position) == (State.COPYING, 50)
    one.copied(60)
    assert one.position == 60


def test_an_answer_that_nothing_follows_ends_trouble_without_a_record() -> None:
    one = begun(50)
    one.failed("a: it is denied")
    one.begin([copy(50)], LOG)
    assert (one.last_error, one.tries) == ("a: it is denied", 1)  # the source has not answered yet
    one.at_end()
    assert (one.state, one.position, one.last_error, one.tries) == (State.COPYING, 50, "", 0)


def test_progress_of_other_partitions_and_clusters_is_not_its_own() -> None:
    others = [copy(50, partition=1), copy(60, source_cluster_id="another")]
    assert task().begin(others, LOG) == [Fetch(10)]


def test_a_position_before_the_log_start_is_reported_with_the_range_that_is_lost() -> None:
    one = task()
    assert one.begin([copy(4)], LOG) == [Lost(4, 10), Fetch(10)]
    assert one.lost == [Lost(4, 10)]
    one.copied(20)
    assert one.out_of_range(SourceLog(90, 100)) == [Lost(20, 90), Fetch(90)]
    assert one.lost == [Lost(4, 10), Lost(20, 90)]


def test_the_same_loss_is_counted_once() -> None:
    one = task()
    one.begin([copy(4)], LOG)
    one.failed("a moment later")
    one.begin([copy(4)], LOG)
    assert one.lost == [Lost(4, 10)]


def test_a_source_that_ends_before_the_position_stops_it() -> None:
    one = task()
    (effect,) = one.begin([copy(101)], LOG)
    assert isinstance(effect, Stop)
    assert "lost records that the target has" in effect.reason
    assert one.state is State.STOPPED


def test_a_topic_that_was_made_again_stops_it() -> None:
    for changed, side in (({"source_topic_id": "old"}, "source"), ({"target_topic_id": "old"}, "target")):
        (effect,) = task().begin([copy(50, **changed)], LOG)
        assert isinstance(effect, Stop)
        assert f"made again on the {side}" in effect.reason
        assert "before old" in effect.reason


def test_or_is_copied_from_its_start_when_so_configured() -> None:
    one = task(on_topic_recreated="start-over", start="latest")
    started, fetch = one.begin([copy(50, source_topic_id="old")], LOG)
    assert isinstance(started, StartedOver)
    assert fetch == Fetch(10)  # from its start also where partitions begin at the end: nothing of it was seen yet
    one.copied(20)
    one.failed("x")
    assert one.begin([copy(50, source_topic_id="old"), copy(20)], LOG) == [Fetch(20)]


def test_pauses_double_up_to_the_longest_and_start_anew_after_a_success() -> None:
    one = begun(retry_backoff_ms=100, retry_backoff_max_ms=500)
    pauses = []
    for _ in range(4):
        pauses += one.failed("unreachable")
        assert one.state is State.PAUSED
    assert pauses == [Pause(100), Pause(200), Pause(400), Pause(500)]
    assert (one.tries, one.last_error) == (4, "unreachable")
    one.begin([copy(50)], LOG)
    assert one.tries == 4  # it has not copied anything yet
    one.copied(51)
    assert (one.tries, one.last_error) == (0, "")
    assert one.failed("again") == [Pause(100)]


def test_it_goes_on_trying_or_stops_after_the_last_try() -> None:
    goes_on = begun(retries=2, retry_backoff_max_ms=100)
    assert [goes_on.failed("x") for _ in range(4)] == [[Pause(100)]] * 4
    gives_up = begun(retries=2, after_retries="stop")
    assert [gives_up.failed("denied") for _ in range(3)] == [
        [Pause(100)],
        [Pause(200)],
        [Stop("denied (after 3 tries)")],
    ]
    assert gives_up.state is State.STOPPED


def test_a_record_that_is_too_large_stops_it_or_goes_to_the_dead_letters() -> None:
    stops = begun()
    (effect,) = stops.too_large(57, 2_000_000)
    assert isinstance(effect, Stop)
    assert "offset 57 (2000000 bytes)" in effect.reason
    goes_on = begun(on_record_too_large="dead-letter")
    assert goes_on.too_large(57, 2_000_000) == [DeadLetter(57)]
    assert goes_on.state is State.COPYING


def test_a_source_topic_that_changes_under_it_stops_it() -> None:
    one = begun()
    assert one.source_changed("source-2") == [Stop("the source topic is another one now: source-2 instead of source-1")]


def test_the_operator_lets_it_begin_again() -> None:
    one = begun()
    one.too_large(57, 1)
    one.resume()
    assert (one.state, one.last_error, one.tries) == (State.NEW, "", 0)
    assert one.begin([copy(50)], LOG) == [Fetch(50)]


@pytest.mark.parametrize(
    "event",
    [
        lambda one: one.copied(60),
        lambda one: one.out_of_range(LOG),
        lambda one: one.too_large(5, 5),
        lambda one: one.resume(),
    ],
)
def test_events_out_of_turn_are_errors(event: Callable[[PartitionTask], object]) -> None:
    with pytest.raises(ValueError, match="while new"):
        event(task())


def test_it_neither_begins_twice_nor_goes_back() -> None:
    one = begun()
    with pytest.raises(ValueError, match="begin while copying"):
        one.begin([], LOG)
    with pytest.raises(ValueError, match="copied up to 49 after 50"):
        one.copied(49)
    one.source_changed("x")
    with pytest.raises(ValueError, match="failed while stopped"):
        one.failed("x")

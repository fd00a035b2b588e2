"""Fetch: what is returned at once, what waits, and the limits (KIP-74, KIP-320)."""

import pytest

from ottla.broker.fetch_messages import FetchResponse
from ottla.core.errors import ErrorCode
from ottla.partitions.results import Isolation
from ottla.records.batch import decode_records
from tests.unit.broker.hot_path import EPOCH, HotPath, batch, topic_id, wanted


@pytest.fixture
def broker() -> HotPath:
    return HotPath({"t": 3, "u": 1})


def values(response: FetchResponse, n: int = 0) -> list[bytes | None]:
    data = b"".join(response.partitions[n].buffers)
    found: list[bytes | None] = []
    position = 0
    while position < len(data):
        found += [record.value for record in decode_records(data, position)]
        position += 12 + int.from_bytes(data[position + 8 : position + 12], "big")
    return found


def test_records_are_returned_at_once(broker: HotPath) -> None:
    broker.append("t", 0, b"a")
    broker.append("t", 0, b"b")
    responses, waiting = broker.start_fetch([wanted("t")], min_bytes=1, max_wait_ms=500)
    assert waiting is None
    [response] = responses
    assert values(response) == [b"a", b"b"]
    [partition] = response.partitions
    assert (partition.high_watermark, partition.last_stable_offset, partition.log_start_offset) == (2, 2, 0)
    assert partition.aborted is None


def test_reading_begins_at_the_offset(broker: HotPath) -> None:
    broker.append("t", 0, b"a")
    broker.append("t", 0, b"b")
    assert values(broker.fetch_now([wanted("t", offset=1)])) == [b"b"]


def test_a_topic_can_be_named_by_id(broker: HotPath) -> None:
    broker.append("t", 0, b"a")
    assert values(broker.fetch_now([wanted(topic_id("t"))])) == [b"a"]


def test_an_empty_partition_is_waited_for_until_the_time_is_over(broker: HotPath) -> None:
    before_ms = broker.clock.monotonic_ms()
    response = broker.fetch_now([wanted("t")], min_bytes=1, max_wait_ms=100)
    assert [(p.error, p.size) for p in response.partitions] == [(ErrorCode.NONE, 0)]
    assert 100 <= broker.clock.monotonic_ms() - before_ms <= 110


def test_no_wait_without_min_bytes_or_without_partitions(broker: HotPath) -> None:
    for partitions, fields in (([wanted("t")], {"min_bytes": 0}), ([], {"min_bytes": 1})):
        responses, waiting = broker.start_fetch(partitions, max_wait_ms=500, **fields)
        assert waiting is None
        assert len(responses) == 1


def test_a_record_that_arrives_ends_the_wait(broker: HotPath) -> None:
    responses, waiting = broker.start_fetch([wanted("u"), wanted("t", 1)], min_bytes=1, max_wait_ms=60_000)
    assert waiting is not None
    before_ms = broker.clock.monotonic_ms()
    broker.append("t", 1, b"new")
    broker.clock.run_until(lambda: bool(responses))
    assert broker.clock.monotonic_ms() - before_ms < 100
    assert [partition.size > 0 for partition in responses[0].partitions] == [False, True]
    assert values(responses[0], 1) == [b"new"]
    assert not broker.partition("t", 1).watchers
    assert not broker.partition("u").watchers


def test_nothing_uncommitted_is_returned(broker: HotPath) -> None:
    broker.disk.slowest_ms = 1000
    broker.start_produce([("t", [(0, batch(b"x"))])])
    response = broker.fetch_now([wanted("t")])
    assert (response.partitions[0].size, response.partitions[0].high_watermark) == (0, 0)


def test_min_bytes_are_gathered(broker: HotPath) -> None:
    responses, _ = broker.start_fetch([wanted("t")], min_bytes=5000, max_wait_ms=60_000)
    for _ in range(4):
        broker.append("t", 0, b"x" * 1000)
        broker.clock.run_for(50)
    assert responses == []
    broker.append("t", 0, b"x" * 1000)
    broker.clock.run_until(lambda: bool(responses))
    assert len(values(responses[0])) == 5


def test_a_cancelled_fetch_leaves_nothing_behind(broker: HotPath) -> None:
    responses, waiting = broker.start_fetch([wanted("t")], min_bytes=1, max_wait_ms=100)
    assert waiting is not None
    waiting.cancel()
    broker.append("t")
    broker.clock.run_for(1000)
    assert responses == []
    assert not broker.partition("t").watchers


def test_an_error_of_one_partition_is_told_at_once(broker: HotPath) -> None:
    responses, _ = broker.start_fetch([wanted("t"), wanted("nope")], min_bytes=1, max_wait_ms=60_000)
    assert [p.error for p in responses[0].partitions] == [ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]


def test_losing_the_leadership_ends_the_wait(broker: HotPath) -> None:
    responses, _ = broker.start_fetch([wanted("t")], min_bytes=1, max_wait_ms=60_000)
    partition = broker.partition("t")
    partition.is_leader = False
    partition._notify()
    broker.clock.run_until(lambda: bool(responses))
    assert responses[0].partitions[0].error == ErrorCode.NOT_LEADER_OR_FOLLOWER


@pytest.mark.parametrize(
    ("epoch", "error"),
    [
        (EPOCH, ErrorCode.NONE),
        (-1, ErrorCode.NONE),
        (EPOCH - 1, ErrorCode.FENCED_LEADER_EPOCH),
        (EPOCH + 1, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ],
)
def test_epochs_are_compared(broker: HotPath, epoch: int, error: ErrorCode) -> None:
    assert broker.fetch_now([wanted("t", epoch=epoch)]).partitions[0].error == error


@pytest.mark.parametrize("offset", [-1, 2, 100])
def test_offsets_out_of_range(broker: HotPath, offset: int) -> None:
    broker.append("t")
    assert broker.fetch_now([wanted("t", offset=offset)]).partitions[0].error == ErrorCode.OFFSET_OUT_OF_RANGE


def test_an_offline_partition_says_so(broker: HotPath) -> None:
    broker.partition("t").log.fail(OSError("gone"))
    assert broker.fetch_now([wanted("t")]).partitions[0].error == ErrorCode.KAFKA_STORAGE_ERROR


def test_the_first_batch_is_returned_whole_though_larger_than_all_limits(broker: HotPath) -> None:
    broker.append("t", 0, b"x" * 5000)
    broker.append("t", 1, b"y" * 5000)
    response = broker.fetch_now([wanted("t", 0, max_bytes=10), wanted("t", 1, max_bytes=10)], max_bytes=10)
    assert values(response, 0) == [b"x" * 5000]
    assert response.partitions[1].size == 0
    assert response.partitions[1].high_watermark == 1


def test_max_bytes_bound_the_response(broker: HotPath) -> None:
    for index in range(3):
        for _ in range(5):
            broker.append("t", index, b"x" * 1000)
    response = broker.fetch_now([wanted("t", n) for n in range(3)], max_bytes=7500)
    sizes = [partition.size for partition in response.partitions]
    assert sum(sizes) <= 7500
    assert sizes[0] > 5000
    assert sizes[1] > 0
    response = broker.fetch_now([wanted("t", n, max_bytes=2500) for n in range(3)])
    assert [len(values(response, n)) for n in range(3)] == [2, 2, 2]


def test_the_brokers_own_limit_holds_too(broker: HotPath) -> None:
    for _ in range(5):
        broker.append("t", 0, b"x" * 1000)
    broker.fetch.max_bytes = 2500
    assert len(values(broker.fetch_now([wanted("t")]))) == 2


def test_read_committed_tells_of_aborted_transactions(broker: HotPath) -> None:
    broker.append("t", 0, b"a")
    response = broker.fetch_now([wanted("t")], isolation=Isolation.READ_COMMITTED)
    assert response.partitions[0].aborted == []
    assert values(response) == [b"a"]


@pytest.mark.parametrize("seed", range(20))
def test_cold_reads_give_the_same_answers(seed: int) -> None:
    broker = HotPath({"t": 3}, seed=seed, cached=0.3)
    broker.manager.environment.tail_budget.limit_bytes = 0
    for n in range(30):
        broker.append("t", n % 3, str(n).encode())
    response = broker.fetch_now([wanted("t", 0), wanted("t", 1, 5), wanted("t", 2)], min_bytes=1, max_wait_ms=1000)
    assert values(response, 0) == [str(n).encode() for n in range(0, 30, 3)]
    assert values(response, 1) == [str(n).encode() for n in range(16, 30, 3)]
    assert values(response, 2) == [str(n).encode() for n in range(2, 30, 3)]


def test_what_arrives_during_a_cold_read_is_not_waited_for() -> None:
    broker = HotPath({"t": 2}, cached=0.0)
    broker.manager.environment.tail_budget.limit_bytes = 0
    broker.append("t", 0, b"x" * 100)
    responses, waiting = broker.start_fetch([wanted("t", 1), wanted("t", 0)], min_bytes=300, max_wait_ms=60_000)
    assert waiting is not None
    partition = broker.partition("t", 1)
    broker.start_produce([("t", [(1, batch(b"y" * 300))])])
    broker.clock.run_until(lambda: partition.high_watermark == 1)
    before_ms = broker.clock.monotonic_ms()
    broker.clock.run_until(lambda: bool(responses))
    assert broker.clock.monotonic_ms() - before_ms < 100

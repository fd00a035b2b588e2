"""Produce: what is appended, when it is answered, and with which error."""

import pytest

from ottla.core.errors import ErrorCode
from ottla.records.batch import Record, encode_batch
from ottla.records.compression import Compression
from tests.unit.broker.hot_path import HotPath, batch, only, topic_id


@pytest.fixture
def broker() -> HotPath:
    return HotPath({"t": 2, "u": 1})


def test_acks_all_is_answered_only_when_the_batch_is_durable(broker: HotPath) -> None:
    outcomes = broker.start_produce([("t", [(0, batch(count=3))])])
    assert outcomes == []
    produced = only(broker.finish(outcomes))
    assert (produced.error, produced.base_offset, produced.last_offset) == (ErrorCode.NONE, 0, 2)
    assert broker.partition("t").log.durable_end_offset == 3


def test_acks_0_is_answered_at_once(broker: HotPath) -> None:
    [outcome] = broker.start_produce([("t", [(0, batch())])], acks=0)
    assert only(outcome).error == ErrorCode.NONE


def test_acks_1_is_answered_when_written(broker: HotPath) -> None:
    outcomes = broker.start_produce([("t", [(0, batch())])], acks=1)
    assert outcomes == []
    assert only(broker.finish(outcomes)).base_offset == 0
    assert broker.partition("t").log.written_end_offset == 1


def test_every_partition_of_a_request_is_waited_for(broker: HotPath) -> None:
    outcome = broker.finish(broker.start_produce([("t", [(0, batch()), (1, batch())]), ("u", [(0, batch(count=2))])]))
    assert [(topic, [(p.index, p.error, p.last_offset) for p in partitions]) for topic, partitions in outcome] == [
        ("t", [(0, 0, 0), (1, 0, 0)]),
        ("u", [(0, 0, 1)]),
    ]
    for name, index in (("t", 0), ("t", 1), ("u", 0)):
        partition = broker.partition(name, index)
        assert partition.high_watermark == partition.log_end_offset


def test_a_topic_can_be_named_by_id(broker: HotPath) -> None:
    assert only(broker.finish(broker.start_produce([(topic_id("t"), [(0, batch())])]))).base_offset == 0


@pytest.mark.parametrize(
    ("topic", "index", "error"),
    [
        ("missing", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (topic_id("missing"), 0, ErrorCode.UNKNOWN_TOPIC_ID),
        ("t", 2, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("t", -1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_unknown_partitions_fail_alone(broker: HotPath, topic: str, index: int, error: ErrorCode) -> None:
    [(_, [failed]), (_, [fine])] = broker.finish(
        broker.start_produce([(topic, [(index, batch())]), ("u", [(0, batch())])])
    )
    assert (failed.error, failed.base_offset) == (error, -1)
    assert fine.error == ErrorCode.NONE


def test_a_replica_that_does_not_lead_refuses(broker: HotPath) -> None:
    broker.partition("t").is_leader = False
    [outcome] = broker.start_produce([("t", [(0, batch())])])
    assert only(outcome).error == ErrorCode.NOT_LEADER_OR_FOLLOWER


@pytest.mark.parametrize("acks", [2, -2, 100])
def test_other_acks_are_refused_and_nothing_is_appended(broker: HotPath, acks: int) -> None:
    [outcome] = broker.start_produce([("t", [(0, batch())])], acks=acks)
    assert only(outcome).error == ErrorCode.INVALID_REQUIRED_ACKS
    assert broker.partition("t").log_end_offset == 0


def test_what_is_no_part_of_a_transaction_asks_for_none(broker: HotPath) -> None:
    outcome = broker.finish(broker.start_produce([("t", [(0, batch())])], transactional_id="x"))
    assert only(outcome).error == ErrorCode.NONE


@pytest.mark.parametrize("records", [None, memoryview(b"")])
def test_no_batch_is_an_error(broker: HotPath, records: memoryview | None) -> None:
    [outcome] = broker.start_produce([("t", [(0, records)])])
    assert only(outcome).error == ErrorCode.INVALID_RECORD


def test_a_corrupt_batch_fails_alone_with_a_message(broker: HotPath) -> None:
    bad = batch()
    bad[-1] ^= 1
    [(_, [failed, fine])] = broker.finish(broker.start_produce([("t", [(0, bad), (1, batch())])]))
    assert failed.error == ErrorCode.CORRUPT_MESSAGE
    assert failed.message
    assert fine.error == ErrorCode.NONE


def test_a_transactional_batch_without_a_transaction_is_refused(broker: HotPath) -> None:
    records = [Record(key=b"k", value=b"v", timestamp=broker.clock.time_ms())]
    begun = encode_batch(records, producer_id=1, producer_epoch=0, base_sequence=0, is_transactional=True)
    [outcome] = broker.start_produce([("t", [(0, memoryview(bytearray(begun)))])])
    assert only(outcome).error == ErrorCode.INVALID_TXN_STATE
    assert broker.partition("t").log_end_offset == 0


@pytest.mark.parametrize("topic", ["__consumer_offsets", "__transaction_state"])
def test_clients_cannot_write_to_internal_topics(topic: str) -> None:
    broker = HotPath({topic: 1})
    for key in (topic, topic_id(topic)):
        [outcome] = broker.start_produce([(key, [(0, batch())])])
        assert only(outcome).error == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert broker.partition(topic).log_end_offset == 0


def test_zstd_needs_a_version_that_knows_it(broker: HotPath) -> None:
    records = [Record(offset=0, timestamp=1_700_000_000_000, key=None, value=b"v" * 100, headers=())]
    zstd = memoryview(bytearray(encode_batch(records, compression=Compression.ZSTD)))
    [outcome] = broker.start_produce([("t", [(0, zstd)])], allows_zstd=False)
    assert only(outcome).error == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert only(broker.finish(broker.start_produce([("t", [(0, zstd)])]))).error == ErrorCode.NONE


def test_what_is_not_durable_in_time_is_reported_as_timed_out(broker: HotPath) -> None:
    broker.disk.slowest_ms = 10_000
    before_ms = broker.clock.monotonic_ms()
    outcomes = broker.start_produce([("t", [(0, batch())])], timeout_ms=20)
    produced = only(broker.finish(outcomes))
    assert (produced.error, produced.base_offset) == (ErrorCode.REQUEST_TIMED_OUT, -1)
    assert 20 <= broker.clock.monotonic_ms() - before_ms <= 30
    broker.clock.run_for(60_000)
    assert len(outcomes) == 1


def test_a_failed_write_is_told_to_the_producer(broker: HotPath) -> None:
    outcomes = broker.start_produce([("t", [(0, batch())])])
    broker.partition("t").log.fail(OSError("no space left"))
    assert only(broker.finish(outcomes)).error == ErrorCode.KAFKA_STORAGE_ERROR


def test_answered_requests_leave_no_deadline_behind(broker: HotPath) -> None:
    for _ in range(100):
        broker.append("t")
    assert all(not bucket for bucket in broker.deadlines._buckets.values())

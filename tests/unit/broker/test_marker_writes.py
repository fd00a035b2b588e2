"""WriteTxnMarkers on the leaders' side: one control batch for each partition, acknowledged when it is committed."""

from dataclasses import replace
from typing import Any, cast

import pytest

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.broker.transactions.marker_writes import WAIT_MS, write_markers, write_txn_markers
from ottla.controller.requests import NewTopic
from ottla.coordinators.transactions.service import TRANSACTION_STATE
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.partitions.partition import Partition
from ottla.partitions.results import Isolation
from ottla.protocol.messages.write_txn_markers_request import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from ottla.protocol.messages.write_txn_markers_response import WriteTxnMarkersResponse
from ottla.records.batch import encode_batch
from ottla.records.control import EndTransactionMarker, read_end_transaction_marker
from ottla.records.record import Record
from tests.sim.log_harness import append_verified
from tests.unit.broker.one_broker import LISTENER, start_broker

OTHER_NODE = RequestContext(listener="", api_version=2, node=NodeId(2))
CLIENT = RequestContext(listener=LISTENER, api_version=1)


async def broker_with_topic() -> Broker:
    broker = await start_broker()
    await broker.controller.local.create_topics([NewTopic(name="t", partitions=2, replication_factor=1)])
    return broker


def partition(broker: Broker, index: int = 0) -> Partition:
    found = broker.partitions.get("t", index)
    assert found is not None
    return found


def append(broker: Broker, producer_id: int, epoch: int = 0) -> None:
    """A record of a transaction."""
    record = Record(timestamp=0, key=None, value=b"x")
    batch = encode_batch(
        [record], producer_id=producer_id, producer_epoch=epoch, base_sequence=0, is_transactional=True
    )
    append_verified(partition(broker), batch)


def marker(
    producer_id: int,
    *partitions: int,
    committed: bool = True,
    epoch: int = 0,
    coordinator_epoch: int = 4,
    topic: str = "t",
) -> WritableTxnMarker:
    return WritableTxnMarker(
        producer_id=producer_id,
        producer_epoch=epoch,
        transaction_result=committed,
        topics=[WritableTxnMarkerTopic(name=topic, partition_indexes=list(partitions))],
        coordinator_epoch=coordinator_epoch,
    )


async def write(
    broker: Broker, *markers: WritableTxnMarker, context: RequestContext = OTHER_NODE
) -> dict[tuple[int, str, int], ErrorCode]:
    """By producer, topic and partition."""
    response = await write_txn_markers(broker, WriteTxnMarkersRequest(markers=list(markers)), context)
    return outcome(response)


def outcome(response: WriteTxnMarkersResponse) -> dict[tuple[int, str, int], ErrorCode]:
    return {
        (one.producer_id, topic.name, index.partition_index): ErrorCode(index.error_code)
        for one in response.markers
        for topic in one.topics
        for index in topic.partitions
    }


async def test_a_marker_ends_the_transaction_when_it_is_committed() -> None:
    broker = await broker_with_topic()
    append(broker, 7)
    log = partition(broker)
    assert await write(broker, marker(7, 0, 1), marker(8, 1, committed=False)) == {
        (7, "t", 0): ErrorCode.NONE,
        (7, "t", 1): ErrorCode.NONE,
        (8, "t", 1): ErrorCode.NONE,
    }
    assert (log.high_watermark, log.last_stable_offset, partition(broker, 1).high_watermark) == (2, 2, 2)
    read = log.read(1, 1000, isolation=Isolation.READ_COMMITTED, minimum_one_batch=True, done=cast(Any, None))
    assert read is not None
    assert read_end_transaction_marker(bytes(read.buffers[0])) == EndTransactionMarker(True, 4)


async def test_each_partition_has_an_outcome_of_its_own() -> None:
    broker = await broker_with_topic()
    append(broker, 7, epoch=2)
    await write(broker, marker(7, 0, epoch=2))
    assert await write(
        broker,
        marker(7, 0, epoch=1),
        marker(7, 0, epoch=2, coordinator_epoch=3),
        marker(9, 5),
        marker(10, 0, topic="gone"),
    ) == {
        (7, "t", 0): ErrorCode.TRANSACTION_COORDINATOR_FENCED,
        (9, "t", 5): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        (10, "gone", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert await write(broker, marker(7, 0, epoch=1)) == {(7, "t", 0): ErrorCode.INVALID_PRODUCER_EPOCH}


@pytest.mark.interpreted
async def test_markers_that_replicas_do_not_take_in_time_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = await broker_with_topic()
    waiting: list[Any] = []
    monkeypatch.setattr(Partition, "append", lambda self, batch, *, done, **_: waiting.append(done))
    answers: list[WriteTxnMarkersResponse] = []
    write_markers(broker, WriteTxnMarkersRequest(markers=[marker(7, 0, 1)]), answers.append)
    waiting[1](ErrorCode.NONE)
    (bucket,) = broker.deadlines._buckets.values()
    assert WAIT_MS > 0
    for waiter in tuple(bucket):
        waiter.expire()
    waiting[0](ErrorCode.NONE)
    assert [outcome(one) for one in answers] == [
        {(7, "t", 0): ErrorCode.REQUEST_TIMED_OUT, (7, "t", 1): ErrorCode.NONE}
    ]


async def test_a_marker_that_a_mirror_drops_ends_what_is_being_asked_about_its_transaction() -> None:
    """Else a batch that waits for the answer would begin, after a promotion, a transaction that nobody ends."""
    broker = await broker_with_topic()
    log = partition(broker)
    told: list[ErrorCode] = []
    guard = log.admit(7, 0, 0, adds=True, resume=lambda code, _: told.append(code))
    config = log.config
    log.update_config(replace(config, mirror_source="a cluster/t"))
    ended = marker(7, 0, epoch=1)
    ended.transaction_version = 2
    assert await write(broker, ended) == {(7, "t", 0): ErrorCode.NONE}
    log.update_config(config)
    log.verifications.answered(guard, ErrorCode.NONE)
    assert told == [ErrorCode.INVALID_PRODUCER_EPOCH]
    assert log.log_end_offset == 0


async def test_clients_may_abort_and_not_commit() -> None:
    broker = await broker_with_topic()
    append(broker, 7)
    refused = {(7, "t", 0): ErrorCode.CLUSTER_AUTHORIZATION_FAILED}
    assert await write(broker, marker(7, 0, committed=True), context=CLIENT) == refused
    assert partition(broker).last_stable_offset == 0
    for _ in range(2):  # its answer may be lost
        aborted = await write(broker, marker(7, 0, committed=False, coordinator_epoch=0), context=CLIENT)
        assert aborted == {(7, "t", 0): ErrorCode.NONE}
    assert partition(broker).last_stable_offset >= 2


@pytest.mark.parametrize(
    ("producer_id", "epoch", "coordinator_epoch", "refusal"),
    [
        (8, 0, 0, ErrorCode.INVALID_PRODUCER_EPOCH),
        (-1, -1, 0, ErrorCode.INVALID_PRODUCER_EPOCH),
        (7, 32_767, 0, ErrorCode.INVALID_PRODUCER_EPOCH),
        (7, -1, 0, ErrorCode.INVALID_PRODUCER_EPOCH),
        (7, 0, 2**31 - 1, ErrorCode.INVALID_REQUEST),
    ],
)
async def test_clients_abort_nothing_that_a_coordinator_could_not_end_after_it(
    producer_id: int, epoch: int, coordinator_epoch: int, refusal: ErrorCode
) -> None:
    broker = await broker_with_topic()
    append(broker, 7)
    forged = marker(producer_id, 0, committed=False, epoch=epoch, coordinator_epoch=coordinator_epoch)
    assert await write(broker, forged, context=CLIENT) == {(producer_id, "t", 0): refusal}
    assert await write(broker, marker(7, 0, coordinator_epoch=0)) == {(7, "t", 0): ErrorCode.NONE}
    assert len(partition(broker).producers) == 1


async def test_clients_abort_in_no_newer_epoch_than_that_of_the_producers_coordinator() -> None:
    """Other partitions of `__transaction_state` may have been led anew more often than the coordinator's."""
    broker = await broker_with_topic()
    await broker.controller.local.create_topics([NewTopic(name=TRANSACTION_STATE, partitions=2, replication_factor=1)])
    state = broker.image.topics[TRANSACTION_STATE]
    state = replace(state, partitions=(state.partitions[0], replace(state.partitions[1], leader_epoch=10)))
    broker.image = replace(broker.image, topics={**broker.image.topics, TRANSACTION_STATE: state})
    append(broker, 7)
    forged = marker(7, 0, committed=False, coordinator_epoch=10)
    assert await write(broker, forged, context=CLIENT) == {(7, "t", 0): ErrorCode.INVALID_REQUEST}
    assert await write(broker, marker(7, 0, coordinator_epoch=0)) == {(7, "t", 0): ErrorCode.NONE}


async def test_a_client_cannot_have_a_record_written_for_every_four_bytes() -> None:
    broker = await broker_with_topic()
    append(broker, 7)
    often = marker(7, *[0] * 1_001, committed=False, coordinator_epoch=0)
    with pytest.raises(ApiError, match="more than 1000 partitions"):
        await write(broker, often, context=CLIENT)
    assert partition(broker).log_end_offset == 1

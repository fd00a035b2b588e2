"""A mirror topic on the broker: what a mirror may do with it, what others may not, and its promotion."""

import pytest

from ottla.broker import mirrors
from ottla.broker.broker import Broker
from ottla.broker.delete_records import delete_records
from ottla.broker.mirrors import MirrorPartition
from ottla.controller.image import ResourceType
from ottla.controller.requests import AlterResource, ConfigChange, ConfigOperation, NewTopic
from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.partition import Partition
from ottla.protocol.messages.delete_records_request import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.records.header import patch_base_offset
from tests.sim.log_harness import make_batch
from tests.unit.broker.one_broker import context, start_broker
from tests.unit.broker.test_marker_writes import CLIENT, OTHER_NODE, marker, write

SOURCE = "other/topic/t"


async def broker_with_mirror() -> Broker:
    broker = await start_broker()
    topic = NewTopic(name="t", partitions=1, replication_factor=1, configs={"ottla.mirror.source": SOURCE})
    await broker.controller.local.create_topics([topic])
    return broker


async def alter(broker: Broker, **values: str | None) -> None:
    changes = [
        ConfigChange(
            name=f"ottla.mirror.{name}",
            operation=ConfigOperation.DELETE if value is None else ConfigOperation.SET,
            value=value,
        )
        for name, value in values.items()
    ]
    resource = AlterResource(type=ResourceType.TOPIC, name="t", changes=changes, replace_all=False)
    assert await broker.controller.local.alter_configs([resource]) == [None]


def mirror(broker: Broker, source: str = SOURCE) -> MirrorPartition:
    return MirrorPartition(broker.image.topics["t"].id, 0, source)


def log_of(broker: Broker) -> Partition:
    found = broker.partitions.get("t", 0)
    assert found is not None
    return found


def open_transaction(offset: int) -> bytes:
    batch = bytearray(make_batch([b"open"], producer_id=7, producer_epoch=2, base_sequence=0, is_transactional=True))
    patch_base_offset(batch, 0, offset, 50)
    return bytes(batch)


async def append(
    broker: Broker, *batches: bytes, end: int | None, begin: int | None = None, source: str = SOURCE
) -> mirrors.MirrorLog:
    return await mirrors.append(
        broker,
        mirror(broker, source),
        expected_end_offset=end,
        begin_offset=begin,
        log_start_offset=0,
        batches=memoryview(bytearray(b"".join(batches))),
        timeout_ms=5000,
    )


async def test_a_mirror_appends_where_the_log_ends_and_is_told_where_that_is() -> None:
    broker = await broker_with_mirror()
    log = await append(broker, open_transaction(40), end=0, begin=40)
    assert (log.log_start_offset, log.high_watermark, log.log_end_offset) == (40, 41, 41)
    assert (await append(broker, end=None)).log_end_offset == 41
    for end, source, code in (
        (40, SOURCE, ErrorCode.OFFSET_OUT_OF_RANGE),
        (41, "other/new-topic/t", ErrorCode.POLICY_VIOLATION),
    ):
        with pytest.raises(ApiError) as caught:
            await append(broker, open_transaction(end), end=end, source=source)
        assert caught.value.code is code


async def test_nobody_else_deletes_records_or_ends_transactions_of_a_mirror() -> None:
    broker = await broker_with_mirror()
    await append(broker, open_transaction(0), end=0)
    request = DeleteRecordsRequest(
        topics=[DeleteRecordsTopic(name="t", partitions=[DeleteRecordsPartition(partition_index=0, offset=1)])],
        timeout_ms=5000,
    )
    [topic] = (await delete_records(broker, request, context(2))).topics
    assert topic.partitions[0].error_code == ErrorCode.POLICY_VIOLATION
    ends = marker(7, 0, epoch=2, committed=False)
    assert await write(broker, ends, context=CLIENT) == {(7, "t", 0): ErrorCode.POLICY_VIOLATION}
    # A coordinator that knew the topic before it was a mirror must come to an end.
    assert await write(broker, ends, context=OTHER_NODE) == {(7, "t", 0): ErrorCode.NONE}
    assert log_of(broker).log_end_offset == 1


async def test_a_promotion_ends_the_copy_then_its_transactions_then_the_mirror() -> None:
    broker = await broker_with_mirror()
    await append(broker, open_transaction(0), end=0)
    with pytest.raises(ApiError) as caught:
        await mirrors.end_mirror(broker, mirror(broker), abort_transactions=False, timeout_ms=5000)
    assert caught.value.code.retriable
    await alter(broker, state="promoting")
    with pytest.raises(ApiError) as caught:
        await append(broker, open_transaction(1), end=1)
    assert caught.value.code is ErrorCode.POLICY_VIOLATION
    for _ in range(2):  # whoever asks may die before he hears the answer
        log = await mirrors.end_mirror(broker, mirror(broker), abort_transactions=False, timeout_ms=5000)
        assert (log.log_end_offset, log.aborted_transactions) == (1, 0)
    for aborted in (1, 0):
        log = await mirrors.end_mirror(broker, mirror(broker), abort_transactions=True, timeout_ms=5000)
        assert (log.log_end_offset, log.aborted_transactions) == (2, aborted)
    await alter(broker, source=None, state=None)
    log_of(broker).append(memoryview(bytearray(make_batch([b"new"]))), acks=1, done=None)
    assert log_of(broker).log_end_offset == 3

"""What a consumer promises, against a cluster in memory."""

import asyncio
import sys
from typing import Any

import pytest

from ottla.client import (
    ClientClosed,
    ClientError,
    Consumer,
    ErrorCode,
    NoOffset,
    SerializationFailed,
    TopicPartition,
    json_deserializer,
)
from ottla.client.types import ConsumerRecord
from ottla.records.batch import Record, encode_batch
from tests.unit.client.fake_cluster import FakeCluster

T0 = TopicPartition("t", 0)
FAST: dict[str, Any] = {"retry_backoff_ms": 1, "retry_backoff_max_ms": 5, "fetch_max_wait_ms": 20}


def fill(cluster: FakeCluster, *values: bytes, topic: str = "t", partition: int = 0, time: int = 1000) -> None:
    """One batch."""
    records = [Record(0, time + number, None, value) for number, value in enumerate(values)]
    cluster.log(topic, partition).append(encode_batch(records))


async def take(consumer: Consumer[Any, Any], count: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    async with asyncio.timeout(2):
        while len(found) < count:
            for records in (await consumer.poll(1000)).values():
                found += [record.value for record in records]
    return found


async def test_reads_from_the_earliest_record_on() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b")
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        assert await take(consumer, 2) == [b"a", b"b"]
        fill(cluster, b"c")
        assert await take(consumer, 1) == [b"c"]
        assert await consumer.position(T0) == 3


async def test_reads_from_the_latest_record_on_by_default() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"old")
    async with Consumer("t", transport=cluster, **FAST) as consumer:
        assert await consumer.position(T0) == 1
        fill(cluster, b"new")
        assert await take(consumer, 1) == [b"new"]


async def test_iterates() -> None:
    cluster = FakeCluster(t=2)
    fill(cluster, b"a", b"b")
    fill(cluster, b"c", partition=1)
    seen: list[ConsumerRecord[bytes | None, bytes | None]] = []
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        async for record in consumer:
            seen.append(record)
            if len(seen) == 3:
                break
        assert await consumer.position(T0) == 2
    assert sorted((record.partition, record.offset, record.value) for record in seen) == [
        (0, 0, b"a"),
        (0, 1, b"b"),
        (1, 0, b"c"),
    ]


async def test_the_position_follows_each_record_that_iteration_gives() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b", b"c")
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        async for record in consumer:
            assert await consumer.position(T0) == record.offset + 1
            if record.offset == 2:
                break


async def test_poll_gives_at_most_max_poll_records() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, *[b"%d" % number for number in range(10)])
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", max_poll_records=4, **FAST) as consumer:
        sizes: list[int] = []
        while sum(sizes) < 10:
            sizes.append(sum(map(len, (await consumer.poll(1000)).values())))
        assert sizes == [4, 4, 2]


async def test_poll_without_time_gives_what_is_there() -> None:
    cluster = FakeCluster(t=1)
    async with Consumer("t", transport=cluster, **FAST) as consumer:
        assert await consumer.poll() == {}


async def test_seek_moves_forth_and_back_and_into_a_batch() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b", b"c")
    fill(cluster, b"d")
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        assert await take(consumer, 4) == [b"a", b"b", b"c", b"d"]
        consumer.seek(T0, 1)
        assert await take(consumer, 3) == [b"b", b"c", b"d"]
        consumer.seek_to_beginning()
        assert await take(consumer, 4) == [b"a", b"b", b"c", b"d"]
        consumer.seek_to_end(T0)
        assert await consumer.position(T0) == 4


async def test_an_answer_to_a_question_from_before_a_seek_is_void() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a")
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", fetch_max_wait_ms=200) as consumer:
        await take(consumer, 1)
        await cluster.idle_fetch.wait()
        consumer.seek(T0, 0)
        fill(cluster, b"b")
        assert await take(consumer, 2) == [b"a", b"b"]


async def test_an_offset_that_is_not_there_is_reset() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b")
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        await consumer.position(T0)
        consumer.seek(T0, 99)
        assert await take(consumer, 2) == [b"a", b"b"]


async def test_without_a_reset_policy_the_user_is_asked() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a")
    async with Consumer("t", transport=cluster, auto_offset_reset="none", **FAST) as consumer:
        with pytest.raises(NoOffset) as caught:
            await consumer.poll(1000)
        assert (caught.value.topic, caught.value.partition) == T0
        consumer.seek(T0, 0)
        assert await take(consumer, 1) == [b"a"]


async def test_a_position_given_in_time_is_no_error_without_a_reset_policy() -> None:
    cluster = FakeCluster(t=2)
    fill(cluster, b"a")
    partitions = [T0, TopicPartition("t", 1)]
    async with Consumer(transport=cluster, auto_offset_reset="none", **FAST) as consumer:
        consumer.assign(partitions)
        first = await consumer.beginning_offsets(partitions)
        await asyncio.sleep(0.02)  # long enough for the fetcher to miss the positions more than once
        for partition in partitions:
            consumer.seek(partition, first[partition])
        assert await take(consumer, 1) == [b"a"]


async def test_offsets_by_time_and_at_both_ends() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b", time=1000)
    async with Consumer(transport=cluster, **FAST) as consumer:
        assert await consumer.beginning_offsets([T0]) == {T0: 0}
        assert await consumer.end_offsets([T0]) == {T0: 2}
        assert await consumer.offsets_for_times({T0: 1001}) == {T0: (1, 1001)}
        assert await consumer.offsets_for_times({T0: 2000}) == {T0: None}
        assert await consumer.partitions_for_topic("t") == {0}
        assert await consumer.topics() == {"t"}


async def test_assigned_partitions_alone_are_read() -> None:
    cluster = FakeCluster(t=2)
    fill(cluster, b"no")
    fill(cluster, b"yes", partition=1)
    async with Consumer(transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        consumer.assign([TopicPartition("t", 1)])
        assert await take(consumer, 1) == [b"yes"]
        assert consumer.assignment() == {TopicPartition("t", 1)}
        assert await consumer.poll(30) == {}
        with pytest.raises(ValueError, match="not assigned"):
            consumer.seek(T0, 0)


async def test_paused_partitions_give_nothing() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a")
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        consumer.pause(T0)
        assert await consumer.poll(50) == {}
        assert consumer.paused() == {T0}
        consumer.resume(T0)
        assert await take(consumer, 1) == [b"a"]


async def test_new_partitions_of_a_topic_are_read() -> None:
    cluster = FakeCluster(t=1)
    async with Consumer(
        "t", transport=cluster, auto_offset_reset="earliest", metadata_max_age_ms=20, **FAST
    ) as consumer:
        cluster.partition_counts["t"] = 2
        fill(cluster, b"new", partition=1)
        assert await take(consumer, 1) == [b"new"]


async def test_a_lost_connection_is_tried_again() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a")
    cluster.fetch_errors.extend([ClientError(ErrorCode.NETWORK_EXCEPTION)] * 3)
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        assert await take(consumer, 1) == [b"a"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop")
def test_two_partitions_are_tried_again_at_once_on_any_loop() -> None:
    """What uvloop gives for a moment that has come already is no timer, and does not tell when it was."""
    from uvloop import new_event_loop

    async def read() -> list[bytes | None]:
        cluster = FakeCluster(t=2)
        fill(cluster, b"a")
        fill(cluster, b"b", partition=1)
        cluster.fetch_errors.extend([ClientError(ErrorCode.NETWORK_EXCEPTION)] * 3)
        at_once: dict[str, Any] = {**FAST, "retry_backoff_ms": 0, "retry_backoff_max_ms": 0}
        async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **at_once) as consumer:
            return await take(consumer, 2)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert sorted(runner.run(read()), key=str) == [b"a", b"b"]


async def test_a_damaged_batch_is_told_and_can_be_skipped() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a")
    fill(cluster, b"bad")
    fill(cluster, b"c")
    damaged = bytearray(cluster.log("t").batches[1])
    damaged[-3] ^= 1
    cluster.log("t").batches[1] = bytes(damaged)
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        assert await take(consumer, 1) == [b"a"]
        for _ in range(2):
            with pytest.raises(ClientError, match="seek to 2") as caught:
                await consumer.poll(1000)
            assert (caught.value.code, caught.value.topic) == (ErrorCode.CORRUPT_MESSAGE, "t")
        consumer.seek(T0, 2)
        assert await take(consumer, 1) == [b"c"]


async def test_deserializers_make_values_and_their_failures_can_be_skipped() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b'{"a":1}', b"not json", b"[2]")
    async with Consumer(
        "t", transport=cluster, auto_offset_reset="earliest", value_deserializer=json_deserializer, **FAST
    ) as consumer:
        found = await consumer.poll(1000)
        assert [record.value for record in found[T0]] == [{"a": 1}]
        with pytest.raises(SerializationFailed, match="seek to 2"):
            await consumer.poll(1000)
        consumer.seek(T0, 2)
        assert [record.value for record in (await consumer.poll(1000))[T0]] == [[2]]


async def test_control_records_are_never_shown_and_aborted_ones_not_to_read_committed() -> None:
    cluster = FakeCluster(t=1)
    log = cluster.log("t")

    def append(value: bytes, producer_id: int, *, control: int | None = None) -> None:
        key = None if control is None else b"\0\0" + control.to_bytes(2, "big")
        batch = encode_batch(
            [Record(0, 1, key, value)],
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=-1,
            is_transactional=True,
            is_control=control is not None,
        )
        log.batches.append(bytes(len(log.batches).to_bytes(8, "big") + batch[8:]))
        log.end += 1

    append(b"aborted", 1)
    append(b"committed", 2)
    append(b"", 1, control=0)
    append(b"", 2, control=1)
    append(b"later", 1)
    cluster.aborted[T0] = [(1, 0)]
    settings: dict[str, Any] = {"auto_offset_reset": "earliest", **FAST}
    async with Consumer("t", transport=cluster, isolation_level="read_committed", **settings) as consumer:
        assert await take(consumer, 2) == [b"committed", b"later"]
        assert await consumer.position(T0) == 5
    async with Consumer("t", transport=cluster, **settings) as consumer:
        assert await take(consumer, 3) == [b"aborted", b"committed", b"later"]


async def test_what_is_read_ahead_is_bounded() -> None:
    cluster = FakeCluster(t=1)
    for _ in range(50):
        fill(cluster, bytes(1000))
    async with Consumer(
        "t", transport=cluster, auto_offset_reset="earliest", max_partition_fetch_bytes=2_000, **FAST
    ) as consumer:
        await consumer.position(T0)
        await asyncio.sleep(0.1)
        assert 1 <= cluster.fetches <= 3
        assert len(await take(consumer, 50)) == 50


async def test_closing_wakes_who_waits() -> None:
    cluster = FakeCluster(t=1)
    consumer = Consumer("t", transport=cluster, **FAST)
    await consumer.start()
    polling = asyncio.create_task(consumer.poll(10_000))
    await asyncio.sleep(0.01)
    await consumer.close()
    with pytest.raises(ClientClosed):
        await polling
    assert [record async for record in consumer] == []


async def test_a_cancelled_poll_loses_nothing() -> None:
    cluster = FakeCluster(t=1)
    async with Consumer("t", transport=cluster, auto_offset_reset="earliest", **FAST) as consumer:
        polling = asyncio.create_task(consumer.poll(10_000))
        await asyncio.sleep(0.01)
        fill(cluster, b"a")
        polling.cancel()
        await asyncio.wait([polling])
        assert await take(consumer, 1) == [b"a"]


async def test_an_unauthorized_topic_is_told() -> None:
    cluster = FakeCluster()
    cluster.topic_errors["t"] = ClientError(ErrorCode.TOPIC_AUTHORIZATION_FAILED, topic="t")
    async with Consumer("t", transport=cluster, **FAST) as consumer:
        with pytest.raises(ClientError) as caught:
            await consumer.poll(1000)
    assert caught.value.code is ErrorCode.TOPIC_AUTHORIZATION_FAILED

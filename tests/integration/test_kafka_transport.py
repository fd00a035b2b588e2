"""What only the client's transport over the Kafka protocol can do, and groups and transactions over it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ottla.client import Admin, Consumer, ErrorCode, GroupMetadata, OffsetAndMetadata, Producer, TopicPartition
from ottla.client.config import ConnectionConfig
from ottla.client.kafka.transport import KafkaTransport
from ottla.client.settings import ConnectionSettings
from ottla.client.transport import FetchPartition, FetchRequest, ProduceRequest
from ottla.records.batch import Record, encode_batch
from ottla.testing.cluster import Cluster

WAIT_S = 40.0


@pytest.fixture
def settings(ottla_cluster: Cluster) -> ConnectionSettings:
    return {"bootstrap_servers": ottla_cluster.bootstrap, "protocol": "kafka"}


async def until_accepted(produce: Callable[[], Awaitable[ErrorCode | None]]) -> None:
    """The partition of a new topic may not be open yet."""
    for _ in range(200):
        if await produce() is None:
            return
        await asyncio.sleep(0.05)
    pytest.fail("no batch was accepted")


async def test_offsets_and_records_of_a_transaction_are_committed_together(
    settings: ConnectionSettings, ottla_topic: str
) -> None:
    partition, group_id = TopicPartition(ottla_topic, 0), f"group-{ottla_topic}"
    async with (
        asyncio.timeout(WAIT_S),
        Admin(**settings) as admin,
        Producer(**settings, transactional_id=f"txn-{ottla_topic}") as producer,
    ):
        await admin.create_topic(ottla_topic, 1)
        async with producer.transaction() as transaction:
            await producer.send(ottla_topic, b"kept", partition=0)
            await transaction.send_offsets({partition: OffsetAndMetadata(7)}, GroupMetadata(group_id=group_id))
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                await producer.send(ottla_topic, b"aborted", partition=0)
                raise ZeroDivisionError
        async with producer.transaction():
            await producer.send(ottla_topic, b"kept too", partition=0)
        assert await admin.list_group_offsets(group_id, require_stable=True) == {partition: OffsetAndMetadata(7)}
        seen: list[bytes | None] = []
        async with Consumer(
            ottla_topic, **settings, auto_offset_reset="earliest", isolation_level="read_committed"
        ) as consumer:
            while len(seen) < 2:
                seen += [record.value for found in (await consumer.poll(500)).values() for record in found]
    assert seen == [b"kept", b"kept too"]


async def test_members_of_a_group_share_the_partitions(settings: ConnectionSettings, ottla_topic: str) -> None:
    group_id = f"group-{ottla_topic}"
    async with asyncio.timeout(WAIT_S), Admin(**settings) as admin, Producer(**settings) as producer:
        await admin.create_topic(ottla_topic, 4)
        async with (
            Consumer(ottla_topic, **settings, group_id=group_id, auto_offset_reset="earliest") as one,
            Consumer(ottla_topic, **settings, group_id=group_id, auto_offset_reset="earliest") as other,
        ):
            while not (len(one.assignment()) == len(other.assignment()) == 2):
                await asyncio.gather(one.poll(200), other.poll(200))
            described = await admin.describe_group(group_id)
            assert sorted(p for member in described.members for p in member.assignment) == [
                TopicPartition(ottla_topic, index) for index in range(4)
            ]
            await producer.send_and_wait(ottla_topic, b"x", partition=3)
            found: set[TopicPartition] = set()
            while not found:
                found = {*await one.poll(200), *await other.poll(200)}
            assert found == {TopicPartition(ottla_topic, 3)}
            await asyncio.gather(one.commit(), other.commit())
        assert (await admin.list_group_offsets(group_id))[TopicPartition(ottla_topic, 3)].offset == 1


async def test_a_topic_that_was_created_again_is_not_taken_for_the_one_before(
    settings: ConnectionSettings, ottla_topic: str
) -> None:
    partition = TopicPartition(ottla_topic, 0)
    batch = encode_batch([Record(timestamp=1, value=b"x")])
    transport = KafkaTransport(ConnectionConfig(**settings))
    async with asyncio.timeout(WAIT_S), Admin(**settings) as admin:
        first = (await admin.create_topic(ottla_topic, 1)).topic_id
        try:
            await transport.open()
            [node] = (await transport.describe_cluster()).nodes

            async def produce(topic_id: str) -> ErrorCode | None:
                request = ProduceRequest(-1, 5000, [(partition, batch)], topic_ids={ottla_topic: topic_id})
                error = (await transport.produce(node.node_id, request))[partition].error
                return None if error is None else error.code

            async def fetch(topic_id: str) -> ErrorCode | None:
                wanted = [FetchPartition(partition, 0, 1000)]
                request = FetchRequest(0, 0, 1000, True, wanted, topic_ids={ottla_topic: topic_id})
                [result] = await transport.fetch(node.node_id, request)
                assert result.topic_partition == partition
                return None if result.error is None else result.error.code

            await until_accepted(lambda: produce(first))
            assert await fetch(first) is None
            await admin.delete_topic(ottla_topic)
            second = (await admin.create_topic(ottla_topic, 1)).topic_id
            await until_accepted(lambda: produce(second))
            assert await produce(first) is ErrorCode.UNKNOWN_TOPIC_ID
            assert await fetch(first) is ErrorCode.UNKNOWN_TOPIC_ID
            assert await fetch(second) is None
        finally:
            await transport.close()

"""Transactions of our own clients, on three real nodes."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import confluent_kafka
import pytest

from ottla.client import (
    Admin,
    Consumer,
    Producer,
    ProducerFenced,
    TopicPartition,
    TransactionAborted,
    sync,
)
from ottla.testing.cluster import Cluster

WAIT_S = 40.0
Reader = Consumer[bytes | None, bytes | None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=3) as cluster:
        yield cluster


async def create(cluster: Cluster, partitions: int = 2) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    async with Admin(bootstrap_servers=cluster.grpc) as admin:
        await admin.create_topic(name, partitions)
    return name


def producer(cluster: Cluster, name: str, **settings: Any) -> Producer[bytes, bytes]:
    return Producer(bootstrap_servers=cluster.grpc, transactional_id=f"txn-{name}", **settings)


@asynccontextmanager
async def committed(cluster: Cluster, topic: str, **settings: Any) -> AsyncIterator[Reader]:
    consumer = Consumer(
        topic,
        bootstrap_servers=cluster.grpc,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        **settings,
    )
    async with consumer:
        yield consumer


async def read(consumer: Reader, count: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            for records in (await consumer.poll(200)).values():
                found += [record.value for record in records]
    return found


async def test_a_transaction_is_seen_whole_or_not_at_all(cluster: Cluster) -> None:
    topic = await create(cluster)
    async with producer(cluster, topic) as writer, committed(cluster, topic) as reader:
        async with writer.transaction() as transaction:
            for number in range(10):
                await transaction.send(topic, b"a%d" % number, partition=number % 2)
            await writer.flush()
            assert await reader.poll(300) == {}
        assert len(await read(reader, 10)) == 10
        with pytest.raises(KeyError):
            async with writer.transaction() as transaction:
                await transaction.send_and_wait(topic, b"aborted", partition=0)
                raise KeyError
        async with writer.transaction() as transaction:
            await transaction.send(topic, b"last", partition=0)
        assert await read(reader, 1) == [b"last"]


async def test_consuming_and_producing_is_exactly_once_over_restarts_and_deaths(cluster: Cluster) -> None:
    source, target = await create(cluster, 1), await create(cluster, 1)
    count = 60
    async with Producer(bootstrap_servers=cluster.grpc) as filler:
        for number in range(count):
            await filler.send(source, b"%d" % number)

    async def work(until: int, *, fail_at: int = -1) -> None:
        """As an application does: read, write what was made of it, and both count or none."""
        settings: dict[str, Any] = {"group_id": source, "enable_auto_commit": False, "max_poll_records": 5}
        async with producer(cluster, source) as writer, committed(cluster, source, **settings) as reader:
            done = 0
            while done < until:
                found = await reader.poll(500)
                if not found:
                    continue
                async with writer.transaction() as transaction:
                    for records in found.values():
                        for record in records:
                            await transaction.send(target, record.value)
                            done = record.offset + 1
                    ends = {partition: records[-1].offset + 1 for partition, records in found.items()}
                    await transaction.send_offsets(ends, reader)
                    if done > fail_at >= 0:
                        raise KeyError

    async with asyncio.timeout(WAIT_S):
        with pytest.raises(KeyError):
            await work(count, fail_at=20)
        await work(40)
        found = json.loads(ottla(cluster, "topic", "describe", target, "--json"))
        leader = found[0]["partitions"][0]["leader"]
        await asyncio.to_thread(cluster.kill_node, leader)
        try:
            await work(count)
        finally:
            await asyncio.to_thread(cluster.start_node, leader)
    async with committed(cluster, target) as reader:
        assert await read(reader, count) == [b"%d" % number for number in range(count)]
    async with Admin(bootstrap_servers=cluster.grpc) as admin:
        offsets = await admin.list_group_offsets(source, require_stable=True)
    assert offsets[TopicPartition(source, 0)].offset == count


async def test_a_newer_producer_fences_the_one_before_it(cluster: Cluster) -> None:
    topic = await create(cluster)
    async with producer(cluster, topic) as first:
        first.begin_transaction()
        await first.send_and_wait(topic, b"of the first")
        async with producer(cluster, topic) as second:
            async with second.transaction() as transaction:
                await transaction.send(topic, b"of the second")
            with pytest.raises(ProducerFenced):
                await first.commit_transaction()
    async with committed(cluster, topic) as reader:
        assert await read(reader, 1) == [b"of the second"]
        assert await reader.poll(300) == {}


async def test_a_transaction_that_took_too_long_is_aborted_and_the_producer_goes_on(cluster: Cluster) -> None:
    topic = await create(cluster)
    async with producer(cluster, topic, transaction_timeout_ms=1_000) as writer:
        with pytest.raises(TransactionAborted):
            async with asyncio.timeout(WAIT_S), writer.transaction() as transaction:
                await transaction.send_and_wait(topic, b"too slow", partition=0)
                async with committed(cluster, topic) as reader:
                    # The last stable offset moves on when the cluster has ended the transaction.
                    while (await reader.end_offsets([TopicPartition(topic, 0)]))[TopicPartition(topic, 0)] == 0:
                        await reader.poll(50)
        async with writer.transaction() as transaction:
            await transaction.send(topic, b"in time", partition=0)
    async with committed(cluster, topic) as reader:
        assert await read(reader, 1) == [b"in time"]


def test_kafka_clients_see_what_a_blocking_producer_has_committed(cluster: Cluster) -> None:
    topic = asyncio.run(create(cluster, 1))
    settings: Any = {"bootstrap_servers": cluster.grpc, "transactional_id": topic}
    with sync.Producer(**settings) as writer:
        with pytest.raises(KeyError), writer.transaction() as transaction:
            transaction.send(topic, b"aborted").result(WAIT_S)
            raise KeyError
        with writer.transaction() as transaction:
            transaction.send(topic, b"committed")
    consumer = confluent_kafka.Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": topic})
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    try:
        message = consumer.poll(WAIT_S)
        assert message is not None
        assert message.value() == b"committed"
    finally:
        consumer.close()


def ottla(cluster: Cluster, *arguments: str) -> str:
    command = [sys.executable, "-m", "ottla.cli", *arguments, "--server", cluster.grpc]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout

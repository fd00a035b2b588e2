"""Our own consumer as a member of a group (KIP-848), on three real nodes."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ottla.client import Admin, CommitFailed, Consumer, Producer, TopicPartition, sync
from ottla.testing.cluster import Cluster

WAIT_S = 40.0

Reader = Consumer[bytes | None, bytes | None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture
async def topic(cluster: Cluster) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    async with Admin(bootstrap_servers=cluster.grpc) as admin:
        await admin.create_topic(name, 4)
    return name


@asynccontextmanager
async def member(cluster: Cluster, topic: str, **settings: Any) -> AsyncIterator[Reader]:
    async with Consumer(
        topic,
        bootstrap_servers=cluster.grpc,
        group_id=topic.replace("topic", "group"),
        auto_offset_reset="earliest",
        **settings,
    ) as consumer:
        yield consumer


async def produce(cluster: Cluster, topic: str, *values: bytes) -> None:
    async with Producer(bootstrap_servers=cluster.grpc) as producer:
        for number, value in enumerate(values):
            await producer.send(topic, value, partition=number % 4)


class Given(list[bytes | None]):
    """What consumers gave."""

    async def until(self, condition: Callable[[], object], *consumers: Reader) -> None:
        """Poll these until it is true."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                for consumer in consumers:
                    self += [one.value for records in (await consumer.poll(50)).values() for one in records]


def partitions(topic: str) -> set[TopicPartition]:
    return {TopicPartition(topic, index) for index in range(4)}


def describe(cluster: Cluster, topic: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "ottla.cli", "group", "describe", topic.replace("topic", "group"), "--json"]
    done = subprocess.run(
        [*command, "--server", cluster.grpc], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    [found] = json.loads(done.stdout)
    return dict(found)


async def test_two_members_share_and_one_takes_over(cluster: Cluster, topic: str) -> None:
    values = [b"%d" % number for number in range(40)]
    given = Given()
    await produce(cluster, topic, *values[:20])
    async with member(cluster, topic) as first:
        await given.until(lambda: len(given) == 20, first)
        async with member(cluster, topic) as second:
            await given.until(lambda: len(first.assignment()) == len(second.assignment()) == 2, first, second)
            assert first.assignment() | second.assignment() == partitions(topic)
            described = describe(cluster, topic)
            assert (described["type"], described["state"]) == ("consumer", "Stable")
            assert [len(one["assignment"]) for one in described["members"]] == [2, 2]
            await produce(cluster, topic, *values[20:])
            await given.until(lambda: len(given) == 40, first, second)
        await given.until(lambda: first.assignment() == partitions(topic), first)
    assert Counter(given) == Counter(values)
    async with member(cluster, topic) as again:
        await given.until(lambda: again.assignment() == partitions(topic), again)
        assert {one: found and found.offset for one, found in (await again.committed(partitions(topic))).items()} == (
            dict.fromkeys(partitions(topic), 10)
        )
    assert len(given) == 40


async def test_a_group_lives_on_when_its_coordinator_dies(cluster: Cluster, topic: str) -> None:
    given = Given()
    await produce(cluster, topic, *[b"%d" % number for number in range(20)])
    async with member(cluster, topic, retry_backoff_ms=20) as first, member(cluster, topic) as second:
        await given.until(
            lambda: len(given) == 20 and len(first.assignment()) == len(second.assignment()) == 2, first, second
        )
        await asyncio.gather(first.commit(), second.commit())
        before = first.assignment()
        coordinator = int(describe(cluster, topic)["coordinator"])
        await asyncio.to_thread(cluster.kill_node, coordinator)
        try:
            await produce(cluster, topic, *[b"%d" % number for number in range(20, 40)])
            await given.until(lambda: len(given) == 40, first, second)
            await asyncio.gather(first.commit(), second.commit())
        finally:
            await asyncio.to_thread(cluster.start_node, coordinator)
        assert first.assignment() == before  # nothing moved
    assert Counter(given) == Counter(b"%d" % number for number in range(40))


async def test_a_member_that_worked_for_too_long_cannot_commit_and_comes_back(cluster: Cluster, topic: str) -> None:
    given = Given()
    await produce(cluster, topic, b"a")
    async with member(cluster, topic, max_poll_interval_ms=300, enable_auto_commit=False) as consumer:
        await given.until(lambda: given, consumer)
        async with asyncio.timeout(WAIT_S):
            while await asyncio.to_thread(lambda: describe(cluster, topic)["members"]):
                pass  # the command takes its time
        with pytest.raises(CommitFailed):
            await consumer.commit({TopicPartition(topic, 0): 1})
        await given.until(lambda: len(given) == 2, consumer)
        await consumer.commit()
    assert given == [b"a", b"a"]


async def test_a_static_member_gets_its_partitions_back_and_nothing_moves(cluster: Cluster, topic: str) -> None:
    given = Given()
    async with member(cluster, topic) as stays:
        async with member(cluster, topic, group_instance_id="one") as first:
            await given.until(lambda: len(first.assignment()) == len(stays.assignment()) == 2, first, stays)
            had = first.assignment()
        await given.until(iter([False, False, True]).__next__, stays)
        assert len(stays.assignment()) == 2
        async with member(cluster, topic, group_instance_id="one") as again:
            await given.until(lambda: again.assignment() == had, again, stays)


def test_blocking_consumers_share_too(cluster: Cluster) -> None:
    topic = f"topic-{uuid.uuid4().hex[:8]}"
    with sync.Admin(bootstrap_servers=cluster.grpc) as admin:
        admin.create_topic(topic, 2)
    with sync.Producer(bootstrap_servers=cluster.grpc) as producer:
        for number in range(10):
            producer.send(topic, b"%d" % number, partition=number % 2)
    settings: dict[str, Any] = {"bootstrap_servers": cluster.grpc, "group_id": topic, "auto_offset_reset": "earliest"}
    seen: list[bytes | None] = []
    for _ in range(2):
        with sync.Consumer(topic, **settings) as consumer:
            for record in consumer:
                seen.append(record.value)
                if len(seen) in (4, 10):
                    break
    assert Counter(seen) == Counter(b"%d" % number for number in range(10))

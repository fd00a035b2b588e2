"""Consumer groups as real clients use them: join, rebalance, die, commit, and find their offsets after a restart."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import aiokafka
import confluent_kafka
import kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.testing.cluster import Cluster

PARTITIONS = 4
RECORDS = 40
WAIT_S = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def topic(cluster: Cluster) -> str:
    """Four partitions with ten records each, their values all different."""
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic(name, num_partitions=PARTITIONS)])[name].result(WAIT_S)
    producer = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap})
    for number in range(RECORDS):
        producer.produce(name, str(number).encode(), partition=number % PARTITIONS)
    assert producer.flush(WAIT_S) == 0
    return name


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


def until(condition: Callable[[], bool], meanwhile: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        meanwhile()


class Confluent:
    """One member of librdkafka, and what happened to it."""

    def __init__(self, cluster: Cluster, group: str, topic: str | None, **settings: Any) -> None:
        self.values: list[bytes] = []
        self.rebalances = 0
        self.consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 500,
                "log_level": 0,  # a restart makes it talkative
                **settings,
            }
        )
        if topic is not None:
            self.consumer.subscribe([topic], on_assign=self._assigned)

    def _assigned(self, consumer: Any, partitions: Any) -> None:
        self.rebalances += 1

    def poll(self) -> None:
        message = self.consumer.poll(0.1)
        if message is not None:
            assert message.error() is None, message.error()
            self.values.append(message.value())

    @property
    def partitions(self) -> set[int]:
        return {item.partition for item in self.consumer.assignment()}

    def committed(self, topic: str) -> list[int]:
        wanted = [confluent_kafka.TopicPartition(topic, index) for index in range(PARTITIONS)]
        return [item.offset for item in self.consumer.committed(wanted, timeout=WAIT_S)]


def all_values() -> list[bytes]:
    return sorted(str(number).encode() for number in range(RECORDS))


@pytest.mark.confluent
@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_librdkafka_members_share_the_partitions(cluster: Cluster, topic: str, group: str, strategy: str) -> None:
    settings = {"partition.assignment.strategy": strategy}
    first = Confluent(cluster, group, topic, **settings)
    until(lambda: len(first.partitions) == PARTITIONS, first.poll, "the first has all")
    second = Confluent(cluster, group, topic, **settings)

    def poll() -> None:
        first.poll()
        second.poll()

    until(lambda: len(first.partitions) == len(second.partitions) == PARTITIONS // 2, poll, "both have half")
    assert first.partitions | second.partitions == set(range(PARTITIONS))
    second.consumer.close()
    until(lambda: len(first.partitions) == PARTITIONS, first.poll, "the first has all again")
    first.consumer.close()


@pytest.mark.confluent
def test_commits_decide_where_the_next_member_begins(cluster: Cluster, topic: str, group: str) -> None:
    member = Confluent(cluster, group, topic)
    until(lambda: len(member.values) == RECORDS, member.poll, "all records")
    assert sorted(member.values) == all_values()
    member.consumer.commit(
        offsets=[confluent_kafka.TopicPartition(topic, index, 7, metadata="seen") for index in range(PARTITIONS)],
        asynchronous=False,
    )
    member.consumer.close()

    successor = Confluent(cluster, group, topic)
    until(lambda: len(successor.values) == 3 * PARTITIONS, successor.poll, "the last three of each partition")
    successor.consumer.close()


@pytest.mark.confluent
@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_offsets_and_generation_are_there_after_a_restart(
    cluster: Cluster, topic: str, group: str, crash: bool
) -> None:
    member = Confluent(cluster, group, topic)
    until(lambda: len(member.values) == RECORDS, member.poll, "all records")
    member.consumer.commit(asynchronous=False)
    if crash:
        cluster.kill()
        cluster.start()
    else:
        cluster.restart()
    other = Confluent(cluster, group, None)
    assert other.committed(topic) == [RECORDS // PARTITIONS] * PARTITIONS
    other.consumer.close()

    # The member goes on as if nothing had happened.
    producer = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap})
    producer.produce(topic, b"later", partition=1)
    assert producer.flush(WAIT_S) == 0
    message = None
    deadline = time.monotonic() + WAIT_S
    while message is None or message.error() is not None:
        assert time.monotonic() < deadline, "no record after the restart"
        message = member.consumer.poll(0.2)
    assert message.value() == b"later"
    member.consumer.commit(asynchronous=False)
    assert member.committed(topic)[1] == RECORDS // PARTITIONS + 1
    member.consumer.close()


@pytest.mark.confluent
def test_a_static_member_comes_back_without_a_rebalance(cluster: Cluster, topic: str, group: str) -> None:
    settings = {"session.timeout.ms": 20_000}
    first = Confluent(cluster, group, topic, **{"group.instance.id": "one", **settings})
    second = Confluent(cluster, group, topic, **{"group.instance.id": "two", **settings})

    def poll() -> None:
        first.poll()
        second.poll()

    until(lambda: len(first.partitions) == len(second.partitions) == PARTITIONS // 2, poll, "both have half")
    mine, rebalances = second.partitions, first.rebalances
    second.consumer.close()
    second = Confluent(cluster, group, topic, **{"group.instance.id": "two", **settings})
    until(lambda: bool(second.partitions), poll, "the second has its partitions back")
    assert second.partitions == mine
    assert first.rebalances == rebalances
    first.consumer.close()
    second.consumer.close()


@pytest.mark.kcat
@pytest.mark.confluent
@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
@pytest.mark.slow
def test_a_stopped_member_loses_its_partitions_after_its_session(cluster: Cluster, topic: str, group: str) -> None:
    """Its connections stay, so that nothing but its silence tells."""
    command = [
        "kcat",
        "-u",
        "-b",
        cluster.bootstrap,
        "-X",
        "session.timeout.ms=6000",
        "-X",
        "auto.offset.reset=earliest",
    ]
    with subprocess.Popen([*command, "-G", group, topic], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip().isdigit()
            member = Confluent(cluster, group, topic)
            until(lambda: len(member.partitions) == PARTITIONS // 2, member.poll, "half of the partitions")
            stopped_at = time.monotonic()
            os.kill(process.pid, signal.SIGSTOP)
            until(lambda: len(member.partitions) == PARTITIONS, member.poll, "the partitions of the stopped one")
            assert 3 < time.monotonic() - stopped_at < 15
        finally:
            os.kill(process.pid, signal.SIGKILL)
    member.consumer.close()


@pytest.mark.aiokafka
async def test_aiokafka_members_share_the_partitions(cluster: Cluster, topic: str, group: str) -> None:
    def member() -> aiokafka.AIOKafkaConsumer:
        return aiokafka.AIOKafkaConsumer(
            topic,
            bootstrap_servers=cluster.bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=300,
        )

    async def settled(consumer: aiokafka.AIOKafkaConsumer, count: int) -> None:
        while len(consumer.assignment()) != count:  # noqa: ASYNC110  the client has no event for it
            await asyncio.sleep(0.05)

    first, second = member(), member()
    await first.start()
    await asyncio.wait_for(settled(first, PARTITIONS), WAIT_S)
    values = [(await asyncio.wait_for(first.getone(), WAIT_S)).value for _ in range(RECORDS)]
    assert sorted(values) == all_values()
    await first.commit()
    await second.start()
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(settled(first, PARTITIONS // 2), settled(second, PARTITIONS // 2))
    (partition, *_) = second.assignment()
    assert await second.committed(partition) == RECORDS // PARTITIONS
    await second.stop()
    await asyncio.wait_for(settled(first, PARTITIONS), WAIT_S)
    await first.stop()


@pytest.mark.kafka_python
def test_kafka_python_members_share_the_partitions(cluster: Cluster, topic: str, group: str) -> None:
    def member() -> closing[kafka.KafkaConsumer]:
        return closing(
            kafka.KafkaConsumer(
                topic,
                bootstrap_servers=cluster.bootstrap,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                heartbeat_interval_ms=300,
            )
        )

    values: list[bytes] = []

    def poll(*members: kafka.KafkaConsumer) -> None:
        for consumer in members:
            # Its first assignment is empty, since it joins before it knows the topic; it joins again 100 ms later. When
            # a poll ends just then, kafka-python 3.0 forgets that it is joining, and never takes the new assignment.
            for records in consumer.poll(timeout_ms=1000).values():
                values.extend(record.value for record in records)

    with member() as first:
        until(lambda: len(values) == RECORDS, lambda: poll(first), "all records")
        assert sorted(values) == all_values()
        first.commit()
        with member() as second:
            until(
                lambda: len(first.assignment()) == len(second.assignment()) == PARTITIONS // 2,
                lambda: poll(first, second),
                "both have half",
            )
        until(lambda: len(first.assignment()) == PARTITIONS, lambda: poll(first), "the first has all again")
        assert first.committed(kafka.TopicPartition(topic, 0)) == RECORDS // PARTITIONS

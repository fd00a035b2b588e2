"""What clients of a cluster of three see: groups and idempotent producers survive the death of nodes."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import aiokafka
import confluent_kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.integration.several_nodes import Nodes, several_nodes, until
from tests.interop.kafka_clients import stop_aiokafka

WAIT_S = 40.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with several_nodes(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def nodes(shared: Nodes) -> Iterator[Nodes]:
    """All three run, at the beginning and again afterwards."""
    yield shared
    shared.start_all()


def admin(nodes: Nodes) -> AdminClient:
    return AdminClient({"bootstrap.servers": nodes.bootstrap, "log_level": 0})


def create(nodes: Nodes, partitions: int = 3, **configs: str) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    client = admin(nodes)  # it must outlive its futures
    client.create_topics([NewTopic(name, num_partitions=partitions, config=configs)])[name].result(WAIT_S)
    until(lambda: all(len(p.isrs) == 3 for p in described(nodes, name).values()), "all replicas are in sync", nodes)
    return name


def described(nodes: Nodes, topic: str) -> dict[int, Any]:
    return dict(admin(nodes).list_topics(topic, timeout=WAIT_S).topics[topic].partitions)


def leader(nodes: Nodes, topic: str, partition: int = 0) -> int:
    found: int = until(
        lambda: next((p.leader for n, p in described(nodes, topic).items() if n == partition and p.leader > 0), 0),
        "a leader",
        nodes,
    )
    return found


def coordinator(nodes: Nodes, group: str) -> int:
    client = admin(nodes)
    found = client.describe_consumer_groups([group])[group].result(WAIT_S)
    return int(found.coordinator.id)


def produce(nodes: Nodes, topic: str, values: list[bytes], partition: int = -1) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": nodes.bootstrap, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(WAIT_S) == 0


def read_all(nodes: Nodes, topic: str, partitions: int = 1) -> list[bytes]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": nodes.bootstrap, "group.id": uuid.uuid4().hex, "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, n, 0) for n in range(partitions)])
    values, ended = [], 0
    try:
        while ended < partitions:
            message = consumer.poll(WAIT_S)
            assert message is not None
            if message.error():
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
                ended += 1
            else:
                values.append(message.value())
    finally:
        consumer.close()
    return values


@pytest.mark.confluent
def test_a_group_of_librdkafka_survives_its_coordinator(nodes: Nodes) -> None:
    topic, group = create(nodes), f"group-{uuid.uuid4().hex[:8]}"
    produce(nodes, topic, [b"%d" % n for n in range(30)])
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": nodes.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    seen: list[bytes] = []

    def poll() -> int:
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            seen.append(message.value())
        return len(set(seen))

    try:
        consumer.subscribe([topic])
        until(lambda: poll() == 30, "the first records", nodes)
        consumer.commit(asynchronous=False)
        nodes[coordinator(nodes, group)].kill()
        produce(nodes, topic, [b"%d" % n for n in range(30, 60)])
        until(lambda: poll() == 60, "records after the coordinator's death", nodes)

        def committed() -> bool:
            poll()
            try:
                consumer.commit(asynchronous=False)
            except confluent_kafka.KafkaException as error:
                assert error.args[0].retriable() or error.args[0].code() in (16, 22, 25, 27), error
                return False
            return True

        until(committed, "a commit at the new coordinator", nodes)
        offsets = consumer.committed([TopicPartition(topic, n) for n in range(3)], timeout=WAIT_S)
        assert sum(max(one.offset, 0) for one in offsets) == 60
        assert sorted(seen) == sorted(set(seen))
    finally:
        consumer.close()


@pytest.mark.aiokafka
async def test_a_group_of_aiokafka_survives_its_coordinator(nodes: Nodes) -> None:
    topic, group = create(nodes), f"group-{uuid.uuid4().hex[:8]}"
    produce(nodes, topic, [b"%d" % n for n in range(30)])
    consumer = aiokafka.AIOKafkaConsumer(
        topic,
        bootstrap_servers=nodes.bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        retry_backoff_ms=50,
    )
    await consumer.start()
    seen: list[bytes] = []

    async def read(count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(set(seen)) < count:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    seen.extend(record.value for record in records)

    try:
        await read(30)
        await consumer.commit()
        nodes[await asyncio.to_thread(coordinator, nodes, group)].kill()
        await asyncio.to_thread(produce, nodes, topic, [b"%d" % n for n in range(30, 60)])
        await read(60)
        async with asyncio.timeout(WAIT_S):
            await consumer.commit()
        offsets = [await consumer.committed(aiokafka.TopicPartition(topic, n)) for n in range(3)]
        assert sum(offset or 0 for offset in offsets) == 60
        assert sorted(seen) == sorted(set(seen))
    finally:
        await stop_aiokafka(consumer)


@pytest.mark.confluent
def test_idempotent_producers_survive_the_death_of_leaders_without_duplicates(nodes: Nodes) -> None:
    topic = create(nodes, 1)
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": nodes.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 1,
            "retry.backoff.ms": 20,
            "log_level": 0,
        }
    )
    failed: list[Any] = []
    total, written = 3000, 0
    for death in range(2):
        victim = leader(nodes, topic)
        end = total * (death + 1) // 2
        while written < end:
            producer.produce(topic, b"%d" % written, on_delivery=lambda error, _: failed.append(error) if error else 0)
            written += 1
            if written == end - total // 4:
                nodes[victim].kill()
            producer.poll(0.001)
        assert producer.flush(WAIT_S) == 0, nodes.logs()
        nodes.start_all()
        until(lambda: len(described(nodes, topic)[0].isrs) == 3, "the node is in sync again", nodes)
    assert not failed
    assert read_all(nodes, topic) == [b"%d" % n for n in range(total)]

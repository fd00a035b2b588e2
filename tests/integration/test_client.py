"""Our own client against a real node, over each of its transports."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable
from threading import Thread

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import Producer as KafkaProducer

from ottla.client import (
    Admin,
    ClientError,
    ConfigResource,
    Consumer,
    ErrorCode,
    NewTopic,
    PartialFailure,
    Producer,
    TopicPartition,
    sync,
)
from ottla.client.config import CompressionType, WireProtocol
from ottla.client.settings import ConnectionSettings
from ottla.testing.cluster import Cluster

Door = Callable[[Cluster], ConnectionSettings]


def grpc_door(cluster: Cluster) -> ConnectionSettings:
    return {"bootstrap_servers": cluster.grpc}


def kafka_door(cluster: Cluster) -> ConnectionSettings:
    return {"bootstrap_servers": cluster.bootstrap, "protocol": "kafka"}


@pytest.fixture(params=[grpc_door, kafka_door], ids=["grpc", "kafka"])
def door(request: pytest.FixtureRequest) -> Door:
    """How a client reaches a cluster; every test that takes it holds over both transports."""
    found: Door = request.param
    return found


async def read(settings: ConnectionSettings, topic: str, count: int) -> list[tuple[bytes | None, bytes | None]]:
    found: list[tuple[bytes | None, bytes | None]] = []
    async with (
        asyncio.timeout(20),
        Consumer(topic, **settings, auto_offset_reset="earliest") as consumer,
    ):
        while len(found) < count:
            for records in (await consumer.poll(1000)).values():
                found += [(record.key, record.value) for record in records]
    return found


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_records_come_back_in_order_in_each_codec(
    door: Door, ottla_cluster: Cluster, ottla_topic: str, codec: CompressionType
) -> None:
    async with Producer(**door(ottla_cluster), compression_type=codec) as producer:
        deliveries = [await producer.send(ottla_topic, b"value-%d" % number, partition=0) for number in range(5000)]
    assert [delivery.result().offset for delivery in deliveries] == list(range(5000))
    assert await read(door(ottla_cluster), ottla_topic, 5000) == [
        (None, b"value-%d" % number) for number in range(5000)
    ]


@pytest.mark.parametrize("acks", ["all", 1])
async def test_each_level_of_acknowledgement(door: Door, ottla_cluster: Cluster, ottla_topic: str, acks: str) -> None:
    settings = {**door(ottla_cluster), "acks": acks, "enable_idempotence": False}
    async with Producer(**settings) as producer:  # type: ignore[call-overload]
        assert (await producer.send_and_wait(ottla_topic, b"x")).offset == 0


async def test_without_acks_the_offset_is_unknown(door: Door, ottla_cluster: Cluster, ottla_topic: str) -> None:
    async with Producer(**door(ottla_cluster), acks=0, enable_idempotence=False) as producer:
        assert (await producer.send_and_wait(ottla_topic, b"x")).offset == -1
    assert await read(door(ottla_cluster), ottla_topic, 1) == [(None, b"x")]


async def test_topics_live_from_creation_to_deletion(door: Door, ottla_cluster: Cluster, ottla_topic: str) -> None:
    async with Admin(**door(ottla_cluster)) as admin:
        created = await admin.create_topic(ottla_topic, 3, configs={"retention.ms": "60000"})
        assert (created.name, created.num_partitions, created.replication_factor) == (ottla_topic, 3, 1)
        described = await admin.describe_topic(ottla_topic)
        assert described.topic_id == created.topic_id
        assert [partition.leader_id for partition in described.partitions] == [1, 1, 1]
        await admin.create_partitions({ottla_topic: 5})
        listed = {topic.name: topic.num_partitions for topic in await admin.list_topics()}
        assert listed[ottla_topic] == 5
        await admin.delete_topic(ottla_topic)
        with pytest.raises(ClientError) as caught:
            await admin.describe_topic(ottla_topic)
        assert (caught.value.code, caught.value.topic) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ottla_topic)


async def test_configs_are_described_and_changed(door: Door, ottla_cluster: Cluster, ottla_topic: str) -> None:
    resource = ConfigResource.topic(ottla_topic)
    async with Admin(**door(ottla_cluster)) as admin:
        await admin.create_topic(ottla_topic)
        await admin.alter_configs({resource: {"retention.ms": "1234"}})
        entry = (await admin.describe_configs([resource]))[resource]["retention.ms"]
        assert (entry.value, entry.is_default) == ("1234", False)
        await admin.alter_configs({resource: {"retention.ms": None}})
        assert (await admin.describe_configs([resource]))[resource]["retention.ms"].is_default
        with pytest.raises(ClientError, match=r"no\.such\.key"):
            await admin.alter_configs({resource: {"no.such.key": "1"}})


async def test_a_call_that_fails_in_part_tells_what_was_done(
    door: Door, ottla_cluster: Cluster, ottla_topic: str
) -> None:
    async with Admin(**door(ottla_cluster)) as admin:
        with pytest.raises(PartialFailure) as caught:
            await admin.create_topics([NewTopic(ottla_topic), NewTopic("no/slash")])
        assert {name: error.code for name, error in caught.value.errors.items()} == {
            "no/slash": ErrorCode.INVALID_TOPIC_EXCEPTION
        }
        assert set(caught.value.results) == {ottla_topic}


async def test_deleted_records_are_gone(door: Door, ottla_cluster: Cluster, ottla_topic: str) -> None:
    partition = TopicPartition(ottla_topic, 0)
    async with Producer(**door(ottla_cluster)) as producer:
        for number in range(10):
            await producer.send(ottla_topic, b"%d" % number, partition=0)
    async with Admin(**door(ottla_cluster)) as admin:
        assert await admin.delete_records({partition: 4}) == {partition: 4}
    async with Consumer(**door(ottla_cluster)) as consumer:
        assert await consumer.beginning_offsets([partition]) == {partition: 4}
    assert len(await read(door(ottla_cluster), ottla_topic, 6)) == 6


async def test_the_cluster_describes_itself(door: Door, ottla_cluster: Cluster) -> None:
    async with Admin(**door(ottla_cluster)) as admin:
        described = await admin.describe_cluster()
    assert [f"{node.host}:{node.port}" for node in described.nodes] == [door(ottla_cluster)["bootstrap_servers"]]
    assert described.controller_id == 1


async def test_both_doors_show_the_same_records(door: Door, ottla_cluster: Cluster, ottla_topic: str) -> None:
    def through_kafka() -> list[tuple[bytes | None, bytes | None]]:
        producer = KafkaProducer({"bootstrap.servers": ottla_cluster.bootstrap})
        for number in range(100):
            producer.produce(ottla_topic, b"kafka-%d" % number, b"key", partition=0)
        assert producer.flush(10) == 0
        consumer = KafkaConsumer(
            {"bootstrap.servers": ottla_cluster.bootstrap, "group.id": ottla_topic, "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([ottla_topic])
        found: list[tuple[bytes | None, bytes | None]] = []
        while len(found) < 200:
            message = consumer.poll(10)
            assert message is not None, f"{len(found)} of 200 records within 10 s"
            assert message.error() is None
            key, value = message.key(), message.value()
            assert isinstance(key, bytes) and isinstance(value, bytes)
            found.append((key, value))
        consumer.close()
        return found

    async with Producer(**door(ottla_cluster)) as ours:
        for number in range(100):
            await ours.send(ottla_topic, b"grpc-%d" % number, key=b"key", partition=0)
    by_kafka = await asyncio.to_thread(through_kafka)
    assert by_kafka == await read(door(ottla_cluster), ottla_topic, 200)
    assert by_kafka == [(b"key", b"grpc-%d" % number) for number in range(100)] + [
        (b"key", b"kafka-%d" % number) for number in range(100)
    ]


async def test_each_acknowledged_record_survives_a_kill_and_none_comes_twice(
    door: Door,
    ottla_cluster_factory: Callable[..., Cluster],
) -> None:
    cluster = ottla_cluster_factory()
    async with Producer(**door(cluster), linger_ms=1, batch_size=500) as producer:
        deliveries = [await producer.send("t", b"%d" % number, partition=0) for number in range(500)]
        await deliveries[0]
        await asyncio.to_thread(cluster.kill)
        deliveries += [await producer.send("t", b"%d" % number, partition=0) for number in range(500, 1000)]
        await asyncio.to_thread(cluster.start)
        async with asyncio.timeout(20):
            offsets = [(await delivery).offset for delivery in deliveries]
    assert offsets == list(range(1000))
    assert await read(door(cluster), "t", 1000) == [(None, b"%d" % number) for number in range(1000)]


async def test_a_consumer_outlives_a_restart(door: Door, ottla_cluster_factory: Callable[..., Cluster]) -> None:
    # A stop need not wait for streams that would last for ever: this grace is longer than the test may take.
    cluster = ottla_cluster_factory(settings={"shutdown_timeout_ms": "60000"})
    async with (
        Producer(**door(cluster)) as producer,
        Consumer("t", **door(cluster), auto_offset_reset="earliest") as consumer,
    ):
        await producer.send_and_wait("t", b"before")
        seen = aiter(consumer)
        async with asyncio.timeout(20):
            assert (await anext(seen)).value == b"before"
            await asyncio.to_thread(cluster.restart)
            await producer.send_and_wait("t", b"after")
            assert (await anext(seen)).value == b"after"


@pytest.mark.parametrize("protocol", ["grpc", "kafka"])
async def test_nobody_there_is_told_at_once(protocol: WireProtocol) -> None:
    with pytest.raises(ClientError) as caught:
        await Producer(bootstrap_servers="localhost:1", protocol=protocol).start()
    assert (caught.value.code, caught.value.retriable) == (ErrorCode.NETWORK_EXCEPTION, True)
    assert "localhost:1" in str(caught.value)


def test_blocking_clients_serve_plain_code_and_threads(door: Door, ottla_cluster: Cluster, ottla_topic: str) -> None:
    with sync.Admin(**door(ottla_cluster)) as admin:
        admin.create_topic(ottla_topic, 1)
    with sync.Producer(**door(ottla_cluster)) as producer:
        threads = [Thread(target=producer.send_and_wait, args=(ottla_topic, b"%d" % number)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert producer.send(ottla_topic, b"last").result(10).offset == 10
    with sync.Consumer(ottla_topic, **door(ottla_cluster), auto_offset_reset="earliest") as consumer:
        values = [next(consumer).value for _ in range(11)]
        consumer.seek(TopicPartition(ottla_topic, 0), 10)
        assert next(consumer).value == b"last"
    assert sorted(value for value in values[:10] if value) == [b"%d" % number for number in range(10)]
    assert values[10] == b"last"


async def test_blocking_clients_work_beside_a_running_loop(
    door: Door, ottla_cluster: Cluster, ottla_topic: str
) -> None:
    """As in Jupyter and in a web framework: some loop runs in this thread, with a gRPC client of its own."""
    async with Producer(**door(ottla_cluster)) as ours:
        await ours.send_and_wait(ottla_topic, b"from a coroutine")
        with sync.Producer(**door(ottla_cluster)) as blocking:
            blocking.send_and_wait(ottla_topic, b"in the same thread")
            sent = await asyncio.to_thread(blocking.send_and_wait, ottla_topic, b"in a worker")
            await ours.send_and_wait(ottla_topic, b"from a coroutine")
    assert sent.offset >= 0
    assert len(await read(door(ottla_cluster), ottla_topic, 4)) == 4


def test_a_fork_is_told_what_to_do(ottla_cluster: Cluster, ottla_topic: str) -> None:
    program = textwrap.dedent(
        f"""
        import os
        from ottla.client import ClientForked
        from ottla.client.sync import Producer
        producer = Producer(bootstrap_servers={ottla_cluster.grpc!r})
        producer.send_and_wait({ottla_topic!r}, b"parent")
        child = os.fork()
        if child == 0:
            told = []
            for use in (lambda: producer.send({ottla_topic!r}, b"child"),
                        lambda: Producer(bootstrap_servers={ottla_cluster.grpc!r})):
                try:
                    use()
                except ClientForked as error:
                    told.append(str(error))
            os._exit(0 if len(told) == 2 and "spawn" in told[0] else 1)
        assert os.waitpid(child, 0)[1] == 0
        producer.send_and_wait({ottla_topic!r}, b"parent again")
        producer.close()
        """
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_a_client_made_after_the_fork_works(ottla_cluster: Cluster, ottla_topic: str) -> None:
    program = textwrap.dedent(
        f"""
        import os
        from ottla.client.sync import Producer
        child = os.fork()
        with Producer(bootstrap_servers={ottla_cluster.grpc!r}) as producer:
            producer.send_and_wait({ottla_topic!r}, b"x")
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


async def test_the_kafka_port_is_told_from_the_grpc_port(ottla_cluster: Cluster) -> None:
    with pytest.raises(ClientError, match="is this a gRPC port"):
        async with Admin(bootstrap_servers=ottla_cluster.bootstrap, api_timeout_ms=3000) as admin:
            await admin.list_topics()


async def test_the_grpc_port_is_told_from_the_kafka_port(ottla_cluster: Cluster) -> None:
    with pytest.raises(ClientError, match=r"Kafka"):
        async with Admin(bootstrap_servers=ottla_cluster.grpc, protocol="kafka", api_timeout_ms=3000) as admin:
            await admin.list_topics()

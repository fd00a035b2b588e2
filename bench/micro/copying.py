"""`python -m bench.micro.copying`: what copying a topic costs a client, by whole batches and by records.

Ours reads and writes through the client's transport over the Kafka protocol, as the mirror does, without transactions;
confluent-kafka and aiokafka give and take records. Processor time of this process alone.
"""

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

import aiokafka
import confluent_kafka

from bench import peers
from bench.cluster import Cluster
from bench.mirror import PARTITIONS, fill
from ottla.client.config import ConnectionConfig
from ottla.client.kafka.transport import KafkaTransport
from ottla.client.transport import FetchPartition, FetchRequest, ProduceRequest, ProduceResult
from ottla.client.types import TopicPartition
from ottla.mirror.core.plan import plan_batches
from ottla.mirror.engine.outgoing import outgoing

FETCH_BYTES = 4 << 20
IN_FLIGHT = 5


def main() -> None:
    """A line for each client and size."""
    options = argparse.ArgumentParser(prog="python -m bench.micro.copying")
    options.add_argument("--megabytes", type=int, default=100)
    megabytes = options.parse_args().megabytes
    with peers.ottla() as started:
        for record_bytes, compression in ((1024, "none"), (100, "lz4")):
            chosen = argparse.Namespace(record_bytes=record_bytes, compression=compression, megabytes=megabytes)
            source = started.cluster.new_topic(PARTITIONS)
            count = fill(started.cluster, source, chosen) // PARTITIONS * PARTITIONS
            for name, copy in CLIENTS.items():
                target = started.cluster.new_topic(PARTITIONS)
                cpu, at = time.process_time(), time.monotonic()
                copy(started.cluster, source, target, count, compression)
                cpu, took = time.process_time() - cpu, time.monotonic() - at
                size = count * record_bytes
                figures = f"{cpu / size * 1e9:5.1f} s/GB {size / took / 1e6:4.0f} MB/s"
                print(f"{record_bytes} B {compression:5} {name:16} {figures}")


def ours(cluster: Cluster, source: str, target: str, count: int, _compression: str) -> None:
    asyncio.run(_whole_batches(cluster.bootstrap, source, target, count))


async def _whole_batches(bootstrap: str, source: str, target: str, count: int) -> None:
    transport = KafkaTransport(ConnectionConfig(bootstrap_servers=bootstrap, protocol="kafka"))
    [node] = (await transport.describe_cluster()).nodes

    async def copy(partition: int) -> None:
        position = copied = 0
        under_way: deque[Awaitable[dict[TopicPartition, ProduceResult]]] = deque()
        while copied < count // PARTITIONS:
            wanted = FetchPartition(TopicPartition(source, partition), position, FETCH_BYTES)
            [found] = await transport.fetch(node.node_id, FetchRequest(500, 1, FETCH_BYTES, True, [wanted]))
            steps = list(plan_batches(found.batches, position, (), path_of=None, target_cluster_id=""))
            for one in outgoing(found.batches, steps, position, range(0)):
                request = ProduceRequest(-1, 15_000, [(TopicPartition(target, partition), one.batch)])
                under_way.append(transport.produce(node.node_id, request))
                copied += one.count
                if len(under_way) > IN_FLIGHT:
                    await under_way.popleft()
            position = steps[-1].next_offset if steps else position
        for answer in under_way:
            await answer

    try:
        await asyncio.gather(*(copy(partition) for partition in range(PARTITIONS)))
    finally:
        await transport.close()


def confluent(cluster: Cluster, source: str, target: str, count: int, compression: str) -> None:
    consumer = cluster.consumer(**{"isolation.level": "read_committed"})
    consumer.assign([confluent_kafka.TopicPartition(source, index, 0) for index in range(PARTITIONS)])
    producer = cluster.producer(**{"compression.type": compression, "batch.size": 262_144})
    copied = 0
    while copied < count:
        for one in consumer.consume(2_000, 0.5):
            while True:
                try:
                    producer.produce(
                        target,
                        one.value(),
                        one.key(),
                        partition=one.partition() or 0,
                        timestamp=one.timestamp()[1],
                        headers=one.headers() or [],
                    )
                    break
                except BufferError:
                    producer.poll(0.01)
            copied += 1
        producer.poll(0)
    producer.flush(60)
    consumer.close()


def aio(cluster: Cluster, source: str, target: str, count: int, compression: str) -> None:
    asyncio.run(_aiokafka(cluster.bootstrap, source, target, count, None if compression == "none" else compression))


async def _aiokafka(bootstrap: str, source: str, target: str, count: int, compression: str | None) -> None:
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        compression_type=compression,
        max_batch_size=262_144,
        linger_ms=5,
    )
    await consumer.start()
    await producer.start()
    partitions = [aiokafka.TopicPartition(source, index) for index in range(PARTITIONS)]
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, 0)
    copied = 0
    while copied < count:
        for partition, records in (await consumer.getmany(timeout_ms=500, max_records=5_000)).items():
            for one in records:
                await producer.send(target, one.value, one.key, partition.partition, one.timestamp, list(one.headers))
                copied += 1
    await producer.flush()
    await producer.stop()
    await consumer.stop()


CLIENTS: dict[str, Callable[[Cluster, str, str, int, str], None]] = {
    "ours": ours,
    "confluent-kafka": confluent,
    "aiokafka": aio,
}

if __name__ == "__main__":
    main()

"""The three Python clients behind one small face, so that each can write what another reads."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import confluent_kafka
import kafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


@dataclass(frozen=True)
class Sent:
    """A record as it is written and as it must come back."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = 1_700_000_000_000


async def stop_aiokafka(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, also one whose fetch waits after a failure.

    aiokafka cancels such a fetch, awaits it without catching the cancellation, and so leaves its own connections open.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        await consumer._client.close()


class Client:
    """Writes to and reads from partition 0 of a topic."""

    name: str

    def produce(self, bootstrap: str, topic: str, records: Sequence[Sent], codec: str) -> list[int]:
        """Write with acks=all; returns the offsets that were acknowledged."""
        raise NotImplementedError

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Sent]:
        """The first `count` records, read by assignment and not as a group."""
        raise NotImplementedError


class Confluent(Client):
    """librdkafka."""

    name = "confluent-kafka"

    def produce(self, bootstrap: str, topic: str, records: Sequence[Sent], codec: str) -> list[int]:
        offsets: list[int] = []
        failures: list[object] = []

        def delivered(error: object, message: confluent_kafka.Message) -> None:
            if error:
                failures.append(error)
            else:
                offsets.append(message.offset() or 0)

        settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20}
        producer = confluent_kafka.Producer({**settings, "compression.type": codec})
        for r in records:
            producer.produce(
                topic,
                r.value,
                r.key,
                partition=0,
                on_delivery=delivered,
                timestamp=r.timestamp_ms,
                headers=list(r.headers),
            )
        assert producer.flush(30) == 0
        assert not failures
        return offsets

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Sent]:
        consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "check.crcs": True})
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        found: list[Sent] = []
        deadline = time.monotonic() + 30
        while len(found) < count and time.monotonic() < deadline:
            for m in consumer.consume(count - len(found), 0.5):
                assert m.error() is None, m.error()
                headers = tuple(m.headers() or ())
                found.append(Sent(m.key(), m.value(), headers, m.timestamp()[1]))
        consumer.close()
        return found


class AioKafka(Client):
    """aiokafka."""

    name = "aiokafka"

    def produce(self, bootstrap: str, topic: str, records: Sequence[Sent], codec: str) -> list[int]:
        async def run() -> list[int]:
            compression = None if codec == "none" else codec
            async with AIOKafkaProducer(
                bootstrap_servers=bootstrap, compression_type=compression, enable_idempotence=True, linger_ms=20
            ) as producer:
                waiting = [
                    await producer.send(
                        topic, r.value, r.key, partition=0, timestamp_ms=r.timestamp_ms, headers=list(r.headers)
                    )
                    for r in records
                ]
                return [(await w).offset for w in waiting]

        return asyncio.run(run())

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Sent]:
        async def run() -> list[Sent]:
            found: list[Sent] = []
            async with AIOKafkaConsumer(bootstrap_servers=bootstrap, check_crcs=True) as consumer:
                partition = TopicPartition(topic, 0)
                consumer.assign([partition])
                consumer.seek(partition, 0)
                deadline = time.monotonic() + 30
                while len(found) < count and time.monotonic() < deadline:
                    for batch in (await consumer.getmany(timeout_ms=500)).values():
                        found += [Sent(m.key, m.value, tuple(m.headers), m.timestamp) for m in batch]
            return found

        return asyncio.run(run())


class KafkaPython(Client):
    """kafka-python."""

    name = "kafka-python"

    def produce(self, bootstrap: str, topic: str, records: Sequence[Sent], codec: str) -> list[int]:
        compression = None if codec == "none" else codec
        producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap, compression_type=compression, acks="all", linger_ms=20
        )
        waiting = [
            producer.send(topic, r.value, r.key, list(r.headers), partition=0, timestamp_ms=r.timestamp_ms)
            for r in records
        ]
        producer.flush(30)
        offsets = [w.get(30).offset for w in waiting]
        producer.close()
        return offsets

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Sent]:
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, check_crcs=True
        )
        partition = kafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        found: list[Sent] = []
        deadline = time.monotonic() + 30
        while len(found) < count and time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=500).values():
                found += [Sent(m.key, m.value, tuple(m.headers), m.timestamp) for m in batch]
        consumer.close()
        return found


CLIENTS: tuple[Client, ...] = (Confluent(), AioKafka(), KafkaPython())

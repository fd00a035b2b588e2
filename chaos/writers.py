"""Clients that write unique values with acks=all and remember what was acknowledged, and when."""

import threading
import time
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, Message
from confluent_kafka import Producer as KafkaProducer

from ottla.client.errors import ClientError
from ottla.client.sync import Producer as GrpcProducer

RECORDS_A_SECOND = 300
PAUSE_S = 0.02


@dataclass(slots=True)
class Acknowledged:
    """One record that a client was told is stored."""

    value: str
    partition: int
    offset: int
    at: float


@dataclass(slots=True)
class Written:
    """All that one writer was told."""

    name: str
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def longest_gap_s(self, since: float, until: float) -> float:
        """The longest time without an acknowledgement in a partition that had some before."""
        latest: dict[int, float] = {}
        longest = 0.0
        for one in self.acknowledged:
            before = latest.get(one.partition)
            if before is not None and one.at >= since and before <= until:
                longest = max(longest, one.at - before)
            latest[one.partition] = one.at
        return longest


class Writer(threading.Thread):
    """Writes at a steady pace until it is told to stop, and then waits for what is under way."""

    def __init__(self, name: str, topic: str, partitions: int) -> None:
        super().__init__(name=name, daemon=True)
        self.written = Written(name)
        self._topic, self._partitions = topic, partitions
        self._stopping = threading.Event()
        self._count = 0

    def stop(self) -> Written:
        """Everything it was told; raises TimeoutError when it does not end."""
        self._stopping.set()
        self.join(120)
        if self.is_alive():
            raise TimeoutError(f"the writer {self.name} does not end")
        return self.written

    def run(self) -> None:
        """The thread's own."""
        each = max(1, round(RECORDS_A_SECOND * PAUSE_S))
        while not self._stopping.is_set():
            for _ in range(each):
                self.send(f"{self.name}-{self._count}", self._count % self._partitions)
                self._count += 1
            self.pause()
        self.finish()

    def send(self, value: str, partition: int) -> None:
        """Hand one record to the client."""
        raise NotImplementedError

    def pause(self) -> None:
        """Wait a little, and take what was acknowledged."""
        raise NotImplementedError

    def finish(self) -> None:
        """Wait for all that is under way."""
        raise NotImplementedError


class KafkaWriter(Writer):
    """librdkafka through the Kafka door."""

    def __init__(self, name: str, topic: str, partitions: int, bootstrap: str) -> None:
        super().__init__(name, topic, partitions)
        self._producer = KafkaProducer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.timeout.ms": 100_000,
                "socket.timeout.ms": 3_000,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "retry.backoff.ms": 20,
                "log_level": 2,
            }
        )

    def send(self, value: str, partition: int) -> None:
        def told(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.written.refused.append(f"{value}: {error}")
                return
            offset = message.offset()
            assert offset is not None
            self.written.acknowledged.append(Acknowledged(value, partition, offset, time.monotonic()))

        while True:
            try:
                self._producer.produce(self._topic, value.encode(), partition=partition, on_delivery=told)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def pause(self) -> None:
        self._producer.poll(PAUSE_S)

    def finish(self) -> None:
        self._producer.flush(100)


class GrpcWriter(Writer):
    """Ottla's own client through the gRPC door."""

    def __init__(self, name: str, topic: str, partitions: int, bootstrap: str) -> None:
        super().__init__(name, topic, partitions)
        self._producer = GrpcProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=2, delivery_timeout_ms=100_000)
        self._waiting: list[tuple[str, int, object]] = []

    def send(self, value: str, partition: int) -> None:
        delivery = self._producer.send(self._topic, value.encode(), partition=partition)
        self._waiting.append((value, partition, delivery))

    def pause(self) -> None:
        self._stopping.wait(PAUSE_S)
        self._take(wait=False)

    def finish(self) -> None:
        self._take(wait=True)
        self._producer.close()

    def _take(self, *, wait: bool) -> None:
        left = []
        for value, partition, delivery in self._waiting:
            if not wait and not delivery.done():  # type: ignore[attr-defined]
                left.append((value, partition, delivery))
                continue
            try:
                metadata = delivery.result(110)  # type: ignore[attr-defined]
            except ClientError as error:
                self.written.refused.append(f"{value}: {error}")
            else:
                self.written.acknowledged.append(Acknowledged(value, partition, metadata.offset, time.monotonic()))
        self._waiting = left

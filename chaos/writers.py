"""Clients that write unique values with acks=all and remember what was acknowledged, and when."""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from confluent_kafka import KafkaError, Message
from confluent_kafka import Producer as KafkaProducer

from ottla.client import Delivery
from ottla.client import Producer as GrpcProducer
from ottla.client.errors import ClientError

RECORDS_A_SECOND: Final = 500
PAUSE_S: Final = 0.02
FINISH_S: Final = 100  # for what is under way at the end
IMPATIENT: Final = MappingProxyType(
    {
        "linger.ms": 2,
        "message.timeout.ms": 100_000,
        "socket.timeout.ms": 3_000,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 200,
        "retry.backoff.ms": 20,
    }
)
"""For a KafkaWriter that looks again soon, so that gaps are the cluster's and not the client's."""


@dataclass(slots=True)
class Acknowledged:
    """One record that a client was told is stored."""

    value: str
    partition: int
    offset: int
    at: float
    latency_s: float  # since the client was given it


@dataclass(slots=True)
class Written:
    """All that one writer was told."""

    name: str
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def latency_ms(self, share: float) -> float:
        """The latency that this share of the acknowledged records stayed below."""
        return share_below([one.latency_s for one in self.acknowledged], share) * 1000

    def longest_gap_s(self, since: float, until: float, partitions: Collection[int] | None = None) -> float:
        """The longest time without an acknowledgement in a partition that had some before; in one of these, or any."""
        latest: dict[int, float] = {}
        longest = 0.0
        for one in self.acknowledged:
            if partitions is not None and one.partition not in partitions:
                continue
            before = latest.get(one.partition)
            if before is not None and one.at >= since and before <= until:
                longest = max(longest, one.at - before)
            latest[one.partition] = one.at
        return longest


def share_below(values: list[float], share: float) -> float:
    """The value below which that share of them is; not a number without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Writer(threading.Thread):
    """Writes at a steady pace until it is told to stop, and then waits for what is under way."""

    records_a_second = RECORDS_A_SECOND

    def __init__(self, name: str, topic: str, partitions: int) -> None:
        super().__init__(name=name, daemon=True)
        self.written = Written(name)
        self._topic, self._partitions = topic, partitions
        self._stopping = threading.Event()
        self._count = 0

    def stop(self) -> Written:
        """Everything it was told; raises TimeoutError when it does not end."""
        self._stopping.set()
        self.join(FINISH_S + 20)
        if self.is_alive():
            raise TimeoutError(f"the writer {self.name} does not end")
        return self.written

    def sent(self, value: str, partition: int) -> Callable[[str, int], None]:
        """A record is handed to the client; call what this returns with an error ("": none) and the offset."""
        since = time.monotonic()

        def told(error: str, offset: int) -> None:
            if error:
                self.written.refused.append(f"{value}: {error}")
                return
            now = time.monotonic()
            self.written.acknowledged.append(Acknowledged(value, partition, offset, now, now - since))

        return told

    def next(self) -> Iterator[tuple[str, int]]:
        """The values to send now, and to which partition."""
        for _ in range(max(1, round(self.records_a_second * PAUSE_S))):
            yield f"{self.name}-{self._count}", self._count % self._partitions
            self._count += 1

    def pauses(self) -> Iterator[float]:
        """When to go on, on the monotonic clock, until it is told to stop. What is missed is not caught up."""
        due = time.monotonic()
        while not self._stopping.is_set():
            yield due
            due = max(due + PAUSE_S, time.monotonic())


class KafkaWriter(Writer):
    """librdkafka through the Kafka door. `settings` beside what exactly-once needs; the rest are its defaults."""

    def __init__(
        self, name: str, topic: str, partitions: int, bootstrap: str, settings: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        super().__init__(name, topic, partitions)
        needed = {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "log_level": 2}
        self._producer = KafkaProducer({**needed, **settings})

    def run(self) -> None:
        """The thread's own."""
        for due in self.pauses():
            while (left_s := due - time.monotonic()) > 0:
                self._producer.poll(left_s)
            for value, partition in self.next():
                self._send(value, partition)
        self._producer.flush(FINISH_S)

    def _send(self, value: str, partition: int) -> None:
        tell = self.sent(value, partition)

        def told(error: KafkaError | None, message: Message) -> None:
            tell(str(error or ""), message.offset() or 0)

        while True:
            try:
                self._producer.produce(self._topic, value.encode(), partition=partition, on_delivery=told)
            except BufferError:  # many are under way
                self._producer.poll(0.1)
            else:
                return


class GrpcWriter(Writer):
    """Ottla's own client through the gRPC door, on a loop of the thread's own, with the client's defaults."""

    def __init__(self, name: str, topic: str, partitions: int, bootstrap: str) -> None:
        super().__init__(name, topic, partitions)
        self._servers = bootstrap

    def run(self) -> None:
        """The thread's own."""
        asyncio.run(self._write())

    async def _write(self) -> None:
        async with GrpcProducer(bootstrap_servers=self._servers, acks="all") as producer:
            for due in self.pauses():
                await asyncio.sleep(due - time.monotonic())
                for value, partition in self.next():
                    tell = self.sent(value, partition)
                    try:
                        delivery = await producer.send(self._topic, value.encode(), partition=partition)
                    except ClientError as error:
                        tell(str(error), 0)
                    else:
                        delivery.add_done_callback(partial(_tell, tell))
            await producer.flush()


def _tell(tell: Callable[[str, int], None], delivery: Delivery) -> None:
    error = delivery.exception()
    tell(str(error or ""), -1 if error else delivery.result().offset)

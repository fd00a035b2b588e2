"""Clients that read while others write: every record once, in order, without an error that a user would see."""

import threading
from typing import Final

from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import TopicPartition as KafkaPartition

from ottla.client import TopicPartition
from ottla.client.errors import ClientError
from ottla.client.sync import Consumer as GrpcConsumer

POLL_S: Final = 0.1


class Reader(threading.Thread):
    """Reads all partitions from where they end now, until it is told to stop."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.records = 0
        self.problems: list[str] = []
        self._next: dict[int, int] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Return when it has ended."""
        self._stopping.set()
        self.join(60)
        if self.is_alive():
            raise TimeoutError(f"the reader {self.name} does not end")

    def run(self) -> None:
        """The thread's own."""
        while not self._stopping.is_set():
            self.poll()
        self.close()

    def took(self, partition: int, offset: int) -> None:
        """One record came."""
        wanted = self._next.get(partition, offset)
        if offset != wanted:
            self.problems.append(f"{self.name}: partition {partition} went from {wanted - 1} to {offset}")
        self._next[partition] = offset + 1
        self.records += 1

    def poll(self) -> None:
        """Take what there is."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the client up."""
        raise NotImplementedError


class KafkaReader(Reader):
    """librdkafka through the Kafka door, with its defaults."""

    def __init__(self, name: str, topic: str, partitions: int, bootstrap: str) -> None:
        super().__init__(name)
        self._consumer = KafkaConsumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": name,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",  # a jump is an error here, and no reason to begin elsewhere
                "log_level": 2,
            }
        )
        ends = [self._consumer.get_watermark_offsets(KafkaPartition(topic, n), 30)[1] for n in range(partitions)]
        self._consumer.assign([KafkaPartition(topic, n, end) for n, end in enumerate(ends)])

    def poll(self) -> None:
        for message in self._consumer.consume(1000, POLL_S):
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is not None:
                self.problems.append(f"{self.name}: {error}")
            else:
                assert partition is not None
                assert offset is not None
                self.took(partition, offset)

    def close(self) -> None:
        self._consumer.close()


class GrpcReader(Reader):
    """Ottla's own client through the gRPC door, with its defaults."""

    def __init__(self, name: str, topic: str, partitions: int, bootstrap: str) -> None:
        super().__init__(name)
        self._consumer = GrpcConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none")
        own = [TopicPartition(topic, n) for n in range(partitions)]
        self._consumer.assign(own)
        for partition, end in self._consumer.end_offsets(own).items():
            self._consumer.seek(partition, end)

    def poll(self) -> None:
        try:
            found = self._consumer.poll(POLL_S * 1000)
        except ClientError as error:
            self.problems.append(f"{self.name}: {error}")
            return
        for records in found.values():
            for record in records:
                self.took(record.partition, record.offset)

    def close(self) -> None:
        self._consumer.close()

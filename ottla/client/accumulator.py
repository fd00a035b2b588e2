"""Records that wait or are under way, by partition: batches, memory, sequences. Pure: time comes as an argument.

A partition's batches move from `waiting` to `in_flight` and, when they fail for now, back to the front in their order.
With idempotence each batch gets its producer id, epoch and sequence when it is first sent, and keeps them over retries,
so that the leader can tell a repeated batch. When the leader misses a sequence which no batch under way will fill (the
one before was given up), the partition goes on under its next epoch from sequence 0 (as KIP-360 for producers without
transactions); until every request of the partition is answered it waits.
"""

from collections import deque
from collections.abc import Iterator
from itertools import count

from ottla.client.batches import Batch, Delivery
from ottla.client.types import TopicPartition
from ottla.records.batch import HEADER_BYTES, Record

_MAX_SEQUENCE = 0x7FFFFFFF
MAX_EPOCH = 0x7FFF


class PartitionQueue:
    """The batches of one partition, and the sequence of the next one."""

    __slots__ = (
        "in_flight",
        "next_sequence",
        "producer_epoch",
        "producer_id",
        "resetting",
        "topic_partition",
        "waiting",
    )

    def __init__(self, topic_partition: TopicPartition) -> None:
        self.topic_partition = topic_partition
        self.waiting: deque[Batch] = deque()
        self.in_flight: list[Batch] = []
        self.producer_id = self.producer_epoch = -1
        self.next_sequence = 0
        self.resetting = False

    def assign_sequence(self, batch: Batch) -> None:
        """Give a batch its sequence, unless it has one."""
        if batch.base_sequence < 0:
            batch.producer_id, batch.producer_epoch = self.producer_id, self.producer_epoch
            batch.base_sequence = self.next_sequence
            self.next_sequence = (self.next_sequence + len(batch.records)) & _MAX_SEQUENCE

    def take_back_sequence(self, batch: Batch) -> None:
        """A batch was refused: its sequence is free again, when none was given after it."""
        after = (batch.base_sequence + len(batch.records)) & _MAX_SEQUENCE
        if batch.base_sequence >= 0 and batch.producer_epoch == self.producer_epoch and after == self.next_sequence:
            self.next_sequence = batch.base_sequence

    def is_first_unsettled(self, batch: Batch) -> bool:
        """Whether no earlier batch of the partition is unsettled."""
        others = [other for other in (*self.in_flight, *self.waiting) if other.attempts and other is not batch]
        return all(batch.number < other.number for other in others)

    def requeue(self, batch: Batch) -> None:
        """Put a batch that is to be sent again back to its place."""
        position = 0
        for other in self.waiting:
            if not other.attempts or other.number > batch.number:
                break
            position += 1
        self.waiting.insert(position, batch)

    def restart_sequences(self, producer_id: int, producer_epoch: int) -> None:
        """Go on from sequence 0; whatever waits is encoded anew."""
        self.producer_id, self.producer_epoch, self.next_sequence = producer_id, producer_epoch, 0
        self.resetting = False
        for batch in self.waiting:
            batch.producer_id = batch.producer_epoch = batch.base_sequence = -1
            batch.encoded = None


class Accumulator:
    """The queues of all partitions, and how much memory their records take."""

    def __init__(self, *, batch_size: int, linger_ms: float, buffer_memory: int) -> None:
        self._batch_size = batch_size
        self._linger_ms = linger_ms
        self._buffer_memory = buffer_memory
        self._numbers = count()
        self.used_bytes = 0
        self.queues: dict[TopicPartition, PartitionQueue] = {}
        self.busy: dict[TopicPartition, PartitionQueue] = {}  # those with batches that wait
        self.unsettled: dict[Batch, None] = {}  # every batch that is not done, oldest first
        self.flushing = 0  # how many want batches sent as they are, whatever lingers

    def has_room(self, size_bytes: int, waiting_bytes: int = 0) -> bool:
        """Whether a record fits after those that wait; one larger than the whole memory does when it is alone."""
        before = self.used_bytes + waiting_bytes
        return before + size_bytes <= self._buffer_memory or not before

    def append(
        self, topic_partition: TopicPartition, record: Record, size_bytes: int, now_ms: float
    ) -> tuple[Delivery, bool, bool]:
        """Take a record: its delivery, whether it opened a batch, and whether a batch became full."""
        queue = self.queues.get(topic_partition)
        if queue is None:
            queue = self.queues[topic_partition] = PartitionQueue(topic_partition)
        waiting = queue.waiting
        batch = waiting[-1] if waiting else None
        opened = full = False
        if batch is None or batch.attempts or batch.size_bytes + size_bytes > self._batch_size:
            full = batch is not None
            opened = True
            batch = Batch(topic_partition, next(self._numbers), now_ms)
            waiting.append(batch)
            self.busy[topic_partition] = queue
            self.unsettled[batch] = None
        self.used_bytes += size_bytes
        delivery = batch.append(record, size_bytes)
        return delivery, opened, full or batch.size_bytes >= self._batch_size

    def ready(self, now_ms: float) -> Iterator[PartitionQueue]:
        """The partitions whose first batch may be sent now."""
        for queue in list(self.busy.values()):
            if not queue.resetting and self.ready_at(queue) <= now_ms:
                yield queue

    def ready_at(self, queue: PartitionQueue) -> float:
        """When the first batch of a queue may be sent."""
        batch = queue.waiting[0]
        if batch.attempts:
            return batch.retry_at_ms
        if self.flushing or len(queue.waiting) > 1 or batch.size_bytes >= self._batch_size:
            return 0.0
        return batch.created_ms + self._linger_ms

    def next_ready_at(self) -> float | None:
        """When to look again; None: when something happens."""
        times = [self.ready_at(queue) for queue in self.busy.values() if not queue.resetting]
        return min(times, default=None)

    def take(self, queue: PartitionQueue) -> Batch:
        """Move the first batch under way."""
        batch = queue.waiting.popleft()
        batch.waiting = False
        if not queue.waiting:
            del self.busy[queue.topic_partition]
        batch.attempts += 1
        queue.in_flight.append(batch)
        return batch

    def put_back(self, batch: Batch, retry_at_ms: float) -> None:
        """A batch that was under way is to be sent again."""
        queue = self.queues[batch.topic_partition]
        batch.retry_at_ms = retry_at_ms
        batch.waiting = True
        queue.requeue(batch)
        self.busy[batch.topic_partition] = queue

    def settle(self, batch: Batch) -> None:
        """Forget a batch that is acknowledged or given up, wherever it is."""
        queue = self.queues[batch.topic_partition]
        if batch.waiting:
            queue.waiting.remove(batch)
            if not queue.waiting:
                del self.busy[batch.topic_partition]
        if self.unsettled.pop(batch, False) is None:
            self.used_bytes -= batch.size_bytes - HEADER_BYTES

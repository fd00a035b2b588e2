"""Records that wait or are under way, by partition: batches, memory, sequences. Pure: time comes as an argument.

A partition's batches move from `waiting` to `in_flight` and, when they fail for now, back to the front in their order.
With idempotence each batch gets its producer id, epoch and sequence when it is first sent, and keeps them over retries,
so that the leader can tell a repeated batch. Three rules keep every record from being written twice:

- A leader remembers a producer's last five batches. So while a batch is not settled, at most four are given sequences
  after it, whoever leads: it can always be told when it comes again.
- A leader that does not know the producer takes any sequence. So until it has acknowledged a first batch only one is
  under way: else it might take the second without the first.
- When the leader misses a sequence which no batch under way will fill (the one before was given up), the partition goes
  on under its next epoch from sequence 0 (as KIP-360 for producers without transactions). That would write anew what is
  in the log already, so it is done only from the first batch on which is surely not there: nothing after such a one can
  be there either. Those before it, which may be, are given up.
"""

from collections import deque
from collections.abc import Iterator
from itertools import count, takewhile

from ottla.client.batches import Batch, Delivery
from ottla.client.types import TopicPartition
from ottla.records.batch import HEADER_BYTES, Record

_MAX_SEQUENCE = 0x7FFFFFFF
MAX_EPOCH = 0x7FFF
BATCHES_REMEMBERED = 5  # by a leader, of each producer (KIP-98)


class PartitionQueue:
    """The batches of one partition, and the sequence of the next one."""

    __slots__ = (
        "has_gap",
        "in_flight",
        "is_known",
        "next_position",
        "next_sequence",
        "producer_epoch",
        "producer_id",
        "resetting",
        "sequenced",
        "topic_partition",
        "waiting",
    )

    def __init__(self, topic_partition: TopicPartition) -> None:
        self.topic_partition = topic_partition
        self.waiting: deque[Batch] = deque()
        self.in_flight: list[Batch] = []
        self.sequenced: deque[Batch] = deque()  # all that have a sequence and are not settled, in order
        self.producer_id = self.producer_epoch = -1
        self.next_sequence = self.next_position = 0
        self.is_known = False  # a batch was acknowledged under this producer id, so every leader knows it
        self.has_gap = False  # a sequence was given up that is surely not written: nothing after it can be, then
        self.resetting = False  # until no request is under way; then the sequences start anew

    @property
    def may_send(self) -> bool:
        """Whether the first batch that waits may be sent, as far as the rules above are concerned."""
        if self.resetting:
            return False
        if self.producer_id < 0:  # no idempotence, or nothing was sent
            return True
        if self.in_flight and not self.is_known:
            return False
        if self.waiting[0].base_sequence >= 0 or not self.sequenced:
            return True
        return self.next_position - self.sequenced[0].position < BATCHES_REMEMBERED

    def assign_sequence(self, batch: Batch) -> None:
        """Give a batch its sequence, unless it has one."""
        if batch.base_sequence < 0:
            batch.producer_id, batch.producer_epoch = self.producer_id, self.producer_epoch
            batch.base_sequence, batch.position = self.next_sequence, self.next_position
            self.next_sequence = (self.next_sequence + len(batch.records)) & _MAX_SEQUENCE
            self.next_position += 1
            batch.is_unwritable = self.has_gap
            self.sequenced.append(batch)

    def take_back_sequence(self, batch: Batch) -> None:
        """A batch is given up that is surely not written: its sequence is free again, when none was given after it."""
        if batch.base_sequence < 0:
            return
        if batch.position == self.next_position - 1:
            self.next_sequence, self.next_position = batch.base_sequence, batch.position
            return
        self.has_gap = True
        for other in self.sequenced:
            if other.position > batch.position:
                other.is_unwritable, other.may_be_written = True, False

    def is_first_unsettled(self, batch: Batch) -> bool:
        """Whether no earlier batch of the partition is unsettled."""
        return bool(self.sequenced) and self.sequenced[0] is batch

    def requeue(self, batch: Batch) -> None:
        """Put a batch that is to be sent again back to its place."""
        position = 0
        for other in self.waiting:
            if not other.attempts or other.number > batch.number:
                break
            position += 1
        self.waiting.insert(position, batch)

    def doubtful(self) -> list[Batch]:
        """The batches that must not be sent under another epoch, as they may be written."""
        return list(takewhile(lambda batch: batch.may_be_written, self.sequenced))

    def restart_sequences(self, producer_id: int, producer_epoch: int) -> None:
        """Go on from sequence 0; whatever waits, and is surely not written, is encoded anew."""
        if producer_id != self.producer_id:
            self.is_known = False
        self.producer_id, self.producer_epoch = producer_id, producer_epoch
        self.next_sequence = self.next_position = 0
        self.resetting = self.has_gap = False
        self.sequenced.clear()
        for batch in self.waiting:
            batch.producer_id = batch.producer_epoch = batch.base_sequence = batch.position = -1
            batch.may_be_written = batch.is_unwritable = False
            batch.refused_since_ms = None
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
            if self.is_ready(queue, now_ms):
                yield queue

    def is_ready(self, queue: PartitionQueue, now_ms: float) -> bool:
        """Whether batches wait there and the first may be sent now."""
        return bool(queue.waiting) and queue.may_send and self.ready_at(queue) <= now_ms

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
        times = [self.ready_at(queue) for queue in self.busy.values() if queue.may_send]
        return min(times, default=None)

    def take(self, queue: PartitionQueue, node_id: int) -> Batch:
        """Move the first batch under way, to that node."""
        batch = queue.waiting.popleft()
        batch.waiting = False
        if not queue.waiting:
            del self.busy[queue.topic_partition]
        batch.attempts += 1
        batch.node_id = node_id
        queue.in_flight.append(batch)
        return batch

    def put_back(self, batch: Batch, retry_at_ms: float) -> None:
        """A batch that was under way is to be sent again."""
        queue = self.queues[batch.topic_partition]
        queue.in_flight.remove(batch)
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
        else:
            queue.in_flight.remove(batch)
        if batch.base_sequence >= 0:
            queue.sequenced.remove(batch)
        if self.unsettled.pop(batch, False) is None:
            self.used_bytes -= batch.size_bytes - HEADER_BYTES

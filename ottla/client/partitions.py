"""A consumer's partitions: where each is read, what is read ahead of it. Pure.

no position ──resolved──▶ fetching ◀──seek── (from anywhere: what was read ahead is dropped)
    ▲                        │
    └── offset out of range ─┘
"""

from collections import deque
from collections.abc import Sequence

from ottla.client.decoding import Chunk
from ottla.client.types import ConsumerRecord, TopicPartition

Records = Sequence[ConsumerRecord[bytes | None, bytes | None]]


class PartitionState:
    """One assigned partition."""

    __slots__ = (
        "_after_batch",
        "_chunks",
        "_records",
        "_taken",
        "buffered_bytes",
        "committed",
        "fetch_offset",
        "fetching",
        "generation",
        "high_watermark",
        "paused",
        "position",
        "processed",
        "reset_timestamp",
        "retry_at",
        "topic_partition",
        "wants_committed",
    )

    def __init__(
        self, topic_partition: TopicPartition, reset_timestamp: int | None, *, wants_committed: bool = False
    ) -> None:
        self.topic_partition = topic_partition
        self.position: int | None = None  # the offset of the next record to give to the user
        self.fetch_offset = -1  # the offset of the next record to ask for
        self.wants_committed = wants_committed  # a position is first looked for among the group's offsets
        self.committed: int | None = None  # what this consumer knows to be committed
        self.processed: int | None = None  # the application is done with all before it
        self.reset_timestamp = reset_timestamp  # how to find a position: LATEST_, EARLIEST_TIMESTAMP; None: not at all
        self.paused = False
        self.fetching = False
        self.generation = 0  # grows with each seek: answers to earlier questions are void
        self.retry_at = 0.0
        self.high_watermark = -1
        self.buffered_bytes = 0
        self._chunks: deque[Chunk] = deque()
        self._records: Records = ()
        self._taken = 0
        self._after_batch = -1

    def seek(self, offset: int) -> None:
        """Read on from here."""
        self._void()
        self.position = self.fetch_offset = self.processed = offset

    def reset(self, timestamp: int) -> None:
        """Look for the position anew: the earliest or the latest offset."""
        self._void()
        self.position = self.processed = None
        self.wants_committed = False
        self.reset_timestamp = timestamp

    def _void(self) -> None:
        self.generation += 1
        self.fetching = False
        self.retry_at = 0.0
        self._chunks.clear()
        self._records, self._taken = (), 0
        self.buffered_bytes = 0

    def add(self, chunk: Chunk) -> None:
        """What was read ahead."""
        after = chunk.next_offset
        if after is not None:
            self._chunks.append(chunk)
            self.buffered_bytes += chunk.size_bytes
            self.fetch_offset = max(self.fetch_offset, after)

    @property
    def has_data(self) -> bool:
        """Whether there may be records to take."""
        return bool(self._chunks) or self._taken < len(self._records)

    def peek(self) -> ConsumerRecord[bytes | None, bytes | None] | None:
        """The next record; None when nothing is read ahead. Raises ClientError for a damaged batch."""
        while self._taken >= len(self._records):
            if not self._chunks:
                return None
            assert self.position is not None
            batch = self._chunks[0].next_batch(self.position)
            if batch is None:
                self.buffered_bytes -= self._chunks.popleft().size_bytes
                continue
            (self._records, self._after_batch), self._taken = batch, 0
            if not self._records:
                self.position = self._after_batch
        return self._records[self._taken]

    def advance(self) -> None:
        """The record that `peek` showed is the user's."""
        self._taken += 1
        self._moved()

    def take(self, limit: int) -> Records:
        """At most `limit` records of one batch."""
        if self.peek() is None:
            return ()
        taken = self._records[self._taken : self._taken + limit]
        self._taken += len(taken)
        self._moved()
        return taken

    def _moved(self) -> None:
        if self._taken < len(self._records):
            self.position = self._records[self._taken].offset
        else:
            self.position = self._after_batch

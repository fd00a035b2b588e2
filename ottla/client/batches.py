"""A batch of records on its way to one partition, and the promise that `send()` gives for each of its records.

A thousand records of a batch share one completion; a future is made only for who really waits.
"""

import asyncio
from collections.abc import Callable, Generator

from ottla.client.errors import ClientError
from ottla.client.types import RecordMetadata, TopicPartition
from ottla.records.batch import HEADER_BYTES, Record

# Lengths, deltas and attributes of one record: what they come to at most in batches of usual size.
RECORD_OVERHEAD_BYTES = 14


class Batch:
    """Records for one partition, in order; first gathered, then encoded once and sent until it is settled."""

    __slots__ = (
        "_callbacks",
        "_waiters",
        "attempts",
        "base_offset",
        "base_sequence",
        "created_ms",
        "done",
        "encoded",
        "error",
        "is_unwritable",
        "log_append_time_ms",
        "may_be_written",
        "node_id",
        "number",
        "position",
        "producer_epoch",
        "producer_id",
        "records",
        "refused_since_ms",
        "retry_at_ms",
        "size_bytes",
        "topic_partition",
        "waiting",
    )

    def __init__(self, topic_partition: TopicPartition, number: int, now_ms: float) -> None:
        self.topic_partition = topic_partition
        self.number = number  # orders the batches of a producer
        self.created_ms = now_ms
        self.records: list[Record] = []
        self.size_bytes = HEADER_BYTES
        self.waiting = True  # in its partition's queue; else under way
        self.attempts = 0
        self.node_id = -1  # to which it was sent last
        self.may_be_written = False  # an attempt's outcome is not known, and perhaps never will be
        self.is_unwritable = False  # under its sequence: an earlier one is missing, and nobody will fill it
        self.refused_since_ms: float | None = None  # since when leaders say that they miss what came before it
        self.retry_at_ms = 0.0
        self.producer_id, self.producer_epoch, self.base_sequence = -1, -1, -1
        self.position = -1  # in the partition, under the producer's epoch
        self.encoded: bytes | None = None
        self.done = False
        self.error: ClientError | None = None
        self.base_offset = self.log_append_time_ms = -1
        self._waiters: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[], object]] = []

    def append(self, record: Record, size_bytes: int) -> "Delivery":
        """Take one more record."""
        self.records.append(record)
        self.size_bytes += size_bytes
        return Delivery(self, len(self.records) - 1)

    def doubt(self) -> None:
        """An attempt had no answer, or one that leaves open whether the batch is in the log."""
        self.may_be_written = not self.is_unwritable

    def complete(self, base_offset: int, log_append_time_ms: int) -> None:
        """Acknowledged."""
        self.base_offset, self.log_append_time_ms = base_offset, log_append_time_ms
        self._finish()

    def fail(self, error: ClientError) -> None:
        """Given up."""
        self.error = error
        self._finish()

    def _finish(self) -> None:
        self.done = True
        self.encoded = None
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def wait(self) -> "asyncio.Future[None]":
        """A future of the caller's own, so that cancelling it touches nobody else."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def on_done(self, callback: Callable[[], object]) -> None:
        """Call back on completion; in a later turn of the loop when it is complete already."""
        if self.done:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._callbacks.append(callback)


class Delivery:
    """What `send()` gives: await it for the record's `RecordMetadata`, or leave it.

    Awaiting raises the `ClientError` of a failed delivery. Cancelling the await does not take the record back. As with
    a future, `done()`, `result()`, `exception()` and `add_done_callback()` tell without waiting. A failure that nobody
    looks at is logged once for its batch.
    """

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index

    def __await__(self) -> Generator[object, None, RecordMetadata]:
        if not self._batch.done:
            yield from self._batch.wait()
        return self.result()

    def done(self) -> bool:
        """Whether the record is acknowledged or given up."""
        return self._batch.done

    def exception(self) -> ClientError | None:
        """Why delivery failed; None when it did not. Raises `asyncio.InvalidStateError` before it is done."""
        if not self._batch.done:
            raise asyncio.InvalidStateError("the record is still on its way")
        return self._batch.error

    def result(self) -> RecordMetadata:
        """Where the record is; raises what `exception()` tells."""
        error = self.exception()
        if error is not None:
            raise error
        batch, index = self._batch, self._index
        timestamp = batch.log_append_time_ms
        if timestamp < 0:
            timestamp = batch.records[index].timestamp
        offset = -1 if batch.base_offset < 0 else batch.base_offset + index
        return RecordMetadata(*batch.topic_partition, offset, timestamp)

    def add_done_callback(self, callback: "Callable[[Delivery], object]") -> None:
        """Call `callback(self)` on the client's loop when the record is acknowledged or given up."""
        self._batch.on_done(lambda: callback(self))

"""The blocking producer."""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, Unpack, cast, overload

from ottla.client import batches
from ottla.client import producer as asyncio_producer
from ottla.client.coordination import GroupMetadata, Offsets
from ottla.client.errors import ClientError
from ottla.client.settings import ProducerSettings
from ottla.client.sync.consumer import Consumer
from ottla.client.sync.loop_thread import LoopThread
from ottla.client.sync.transaction import Transaction, on_loop
from ottla.client.types import Headers, K, RecordMetadata, V

Partitioner = asyncio_producer.Partitioner


class Delivery:
    """What `send()` gives: `result()` waits for the record's `RecordMetadata`, or leave it."""

    __slots__ = ("_delivery", "_error", "_thread")

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._delivery: batches.Delivery | None = None  # once the loop has taken the record
        self._error: ClientError | None = None  # why the loop did not take it

    def done(self) -> bool:
        """Whether the record is acknowledged or given up."""
        return self._error is not None or (self._delivery is not None and self._delivery.done())

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Where the record is. Raises the ClientError of a failed delivery, TimeoutError after `timeout` seconds."""
        if self._delivery is not None and self._delivery.done():
            return self._delivery.result()
        return self._thread.run(self._wait(), timeout)

    def exception(self, timeout: float | None = None) -> ClientError | None:
        """Why delivery failed, None when it did not. Raises TimeoutError after `timeout` seconds."""
        try:
            self.result(timeout)
        except ClientError as error:
            return error
        return None

    async def _wait(self) -> RecordMetadata:
        # The loop has taken the record by now: it was told to before it was told to run this.
        if self._error is not None:
            raise self._error
        assert self._delivery is not None
        return await self._delivery


class Producer(Generic[K, V]):
    """As `ottla.client.Producer`, whose settings and meanings it shares; may be used by several threads at once."""

    @overload
    def __init__(
        self: "Producer[bytes, bytes]",
        *,
        key_serializer: None = None,
        value_serializer: None = None,
        partitioner: Partitioner | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Producer[bytes, V]",
        *,
        key_serializer: None = None,
        value_serializer: Callable[[V], bytes],
        partitioner: Partitioner | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Producer[K, bytes]",
        *,
        key_serializer: Callable[[K], bytes],
        value_serializer: None = None,
        partitioner: Partitioner | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Producer[K, V]",
        *,
        key_serializer: Callable[[K], bytes],
        value_serializer: Callable[[V], bytes],
        partitioner: Partitioner | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None: ...
    def __init__(
        self,
        *,
        key_serializer: Any = None,
        value_serializer: Any = None,
        partitioner: Partitioner | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None:
        """Connects; raises ConfigError for a wrong setting, ClientError when no bootstrap server answers."""
        made = asyncio_producer.Producer(
            key_serializer=key_serializer, value_serializer=value_serializer, partitioner=partitioner, **settings
        )
        self._producer = cast("asyncio_producer.Producer[K, V]", made)
        self._thread = LoopThread.shared()
        self._lock = threading.Lock()
        self._inbox: list[tuple[asyncio_producer.Unsent, Delivery]] = []
        self._inbox_bytes = 0
        self._thread.run(self._producer.start())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | Mapping[str, bytes | None] = (),
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Accept a record; blocks only for metadata and for room in `buffer_memory`.

        A partition that does not exist is told by the delivery.
        """
        producer = self._producer
        self._thread.check_usable()
        producer.check_usable()
        unsent = producer.prepare(topic, value, key, partition, headers, timestamp_ms)
        delivery = Delivery(self._thread)
        with self._lock:
            if producer.is_ready_for(unsent, self._inbox_bytes):
                self._inbox.append((unsent, delivery))
                self._inbox_bytes += unsent.size_bytes
                if len(self._inbox) == 1:
                    self._thread.call_soon(self._take)
                return delivery
        delivery._delivery = self._thread.run(producer.send_prepared(unsent))
        return delivery

    def _take(self) -> None:
        """On the loop: accept what other threads have sent meanwhile; one hop serves many records."""
        with self._lock:
            inbox, self._inbox, self._inbox_bytes = self._inbox, [], 0
        for unsent, delivery in inbox:
            try:
                delivery._delivery = self._producer.accept(unsent)
            except ClientError as error:
                delivery._error = error
                self._producer.not_accepted(error)

    def send_and_wait(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | Mapping[str, bytes | None] = (),
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """`send()`, and wait for the acknowledgement."""
        return self._thread.run(
            self._producer.send_and_wait(
                topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms
            )
        )

    def flush(self, timeout: float | None = None) -> None:
        """Return when all that was accepted is acknowledged or given up; TimeoutError after `timeout` seconds."""
        self._thread.run(self._producer.flush(), timeout)

    def transaction(self) -> Transaction[K, V]:
        """A transaction, for `with`: it commits at the end of the block, or aborts by an exception."""
        return Transaction(self, self._producer.transaction(), self._thread)

    def begin_transaction(self) -> None:
        """Begin one by hand; what is sent from now on belongs to it."""

        async def begin() -> None:
            self._producer.begin_transaction()

        self._thread.run(begin())

    def send_offsets_to_transaction(self, offsets: Offsets, group: GroupMetadata | Consumer[Any, Any]) -> None:
        """Let these offsets (of the next records to read) become the group's when the transaction commits."""
        self._thread.run(self._producer.send_offsets_to_transaction(offsets, on_loop(group)))

    def commit_transaction(self) -> None:
        """Deliver what was sent, and commit."""
        self._thread.run(self._producer.commit_transaction())

    def abort_transaction(self) -> None:
        """Drop what was not sent, and abort."""
        self._thread.run(self._producer.abort_transaction())

    def partitions_for(self, topic: str) -> list[int]:
        """The partitions of a topic."""
        return self._thread.run(self._producer.partitions_for(topic))

    def close(self, timeout_ms: float | None = None) -> None:
        """Deliver what was accepted, then close. May be called again."""
        self._thread.run(self._producer.close(timeout_ms))

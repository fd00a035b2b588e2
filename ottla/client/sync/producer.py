"""The blocking producer."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, Unpack, cast, overload

from ottla.client import batches
from ottla.client import producer as asyncio_producer
from ottla.client.errors import ClientError
from ottla.client.settings import ProducerSettings
from ottla.client.sync.loop_thread import LoopThread
from ottla.client.types import Headers, K, RecordMetadata, V

Partitioner = asyncio_producer.Partitioner


class Delivery:
    """What `send()` gives: `result()` waits for the record's `RecordMetadata`, or leave it."""

    __slots__ = ("_delivery", "_thread")

    def __init__(self, thread: LoopThread, delivery: batches.Delivery) -> None:
        self._thread = thread
        self._delivery = delivery

    def done(self) -> bool:
        """Whether the record is acknowledged or given up."""
        return self._delivery.done()

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Where the record is. Raises the ClientError of a failed delivery, TimeoutError after `timeout` seconds."""
        if self._delivery.done():
            return self._delivery.result()
        return self._thread.run(_wait(self._delivery), timeout)

    def exception(self, timeout: float | None = None) -> ClientError | None:
        """Why delivery failed, None when it did not. Raises TimeoutError after `timeout` seconds."""
        try:
            self.result(timeout)
        except ClientError as error:
            return error
        return None


async def _wait(delivery: batches.Delivery) -> RecordMetadata:
    return await delivery


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
        """Accept a record; blocks only for metadata and for room in `buffer_memory`."""
        delivery = self._thread.run(
            self._producer.send(topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms)
        )
        return Delivery(self._thread, delivery)

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

    def partitions_for(self, topic: str) -> list[int]:
        """The partitions of a topic."""
        return self._thread.run(self._producer.partitions_for(topic))

    def close(self, timeout_ms: float | None = None) -> None:
        """Deliver what was accepted, then close. May be called again."""
        self._thread.run(self._producer.close(timeout_ms))

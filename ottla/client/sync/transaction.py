"""A transaction of the blocking producer, as a `with` block."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

from ottla.client import transaction as asyncio_transaction
from ottla.client.coordination import GroupMetadata, Offsets
from ottla.client.sync.consumer import Consumer
from ottla.client.sync.loop_thread import LoopThread
from ottla.client.types import Headers, K, V

if TYPE_CHECKING:
    from ottla.client.sync.producer import Delivery, Producer


class Transaction(Generic[K, V]):
    """What `Producer.transaction` gives; see `ottla.client.Transaction`."""

    def __init__(
        self, producer: "Producer[K, V]", transaction: asyncio_transaction.Transaction[K, V], thread: LoopThread
    ) -> None:
        self._producer, self._transaction, self._thread = producer, transaction, thread

    def __enter__(self) -> Self:
        self._thread.run(self._transaction.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.run(self._transaction.__aexit__(kind, error, traceback))

    def send(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | Mapping[str, bytes | None] = (),
        timestamp_ms: int | None = None,
    ) -> "Delivery":
        """As `Producer.send`. The delivery need not be looked at: the commit fails when it did."""
        return self._producer.send(
            topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms
        )

    def send_offsets(self, offsets: Offsets, group: GroupMetadata | Consumer[Any, Any]) -> None:
        """Let these offsets (of the next records to read) become the group's when the transaction commits."""
        self._thread.run(self._transaction.send_offsets(offsets, on_loop(group)))


def on_loop(group: GroupMetadata | Consumer[Any, Any]) -> Any:
    """What the loop may ask for the group's metadata: a blocking consumer would wait for it."""
    return group.on_loop if isinstance(group, Consumer) else group

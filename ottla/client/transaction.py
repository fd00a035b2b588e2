"""One transaction of a producer, as an `async with` block."""

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self

from ottla.client.batches import Delivery
from ottla.client.coordination import GroupMetadata, Offsets
from ottla.client.errors import ClientError, TransactionAborted
from ottla.client.transactions import FENCED, HasGroup, State, Transactions
from ottla.client.types import Headers, K, RecordMetadata, V

if TYPE_CHECKING:
    from ottla.client.producer import Producer

logger = logging.getLogger("ottla.client")


class Transaction(Generic[K, V]):
    """What `Producer.transaction` gives."""

    def __init__(self, producer: "Producer[K, V]", transactions: Transactions) -> None:
        self._producer, self._transactions = producer, transactions

    async def __aenter__(self) -> Self:
        self._transactions.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            await self._abort_quietly()
            if isinstance(error, ClientError) and error.code in FENCED:  # of a delivery that was awaited
                self._transactions.check_not_failed()
            return
        try:
            await self._transactions.commit()
        except TransactionAborted:
            await self._abort_quietly()
            self._transactions.check_not_failed()  # that it was fenced says more
            raise

    async def _abort_quietly(self) -> None:
        """The error that led here says more than one of the abort, of which the next operation tells."""
        if self._transactions.state not in (State.OPEN, State.BROKEN, State.ABORTING):
            return  # ended by hand, or it cannot be
        try:
            await self._transactions.abort()
        except ClientError as failure:
            logger.warning("the transaction could not be aborted: %s", failure)

    async def send(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | Mapping[str, bytes | None] = (),
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """As `Producer.send`. The delivery need not be awaited: the commit does it, and fails when one failed."""
        return await self._producer.send(
            topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms
        )

    async def send_and_wait(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | Mapping[str, bytes | None] = (),
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """As `Producer.send_and_wait`."""
        return await self._producer.send_and_wait(
            topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms
        )

    async def send_offsets(self, offsets: Offsets, group: GroupMetadata | HasGroup) -> None:
        """Let these offsets (of the next records to read) become the group's when the transaction commits.

        `group`: the consumer that read the records, or what its `group_metadata()` gives. The consumer itself must not
        commit: `enable_auto_commit=False`.
        """
        await self._transactions.send_offsets(offsets, group)

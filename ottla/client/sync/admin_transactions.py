"""The part of the blocking admin client that concerns transactions."""

from collections.abc import Iterable, Sequence

from ottla.client import admin as asyncio_admin
from ottla.client.admin_transactions import DEFAULT_MAX_AGE_MS
from ottla.client.coordination import (
    HangingTransaction,
    ProducerState,
    TransactionDescription,
    TransactionListing,
)
from ottla.client.sync.loop_thread import LoopThread
from ottla.client.types import TopicPartition


class AdminTransactions:
    """What `Admin` inherits; see `ottla.client.admin_transactions`."""

    _admin: asyncio_admin.Admin
    _thread: LoopThread

    def list_transactions(
        self, *, states: Sequence[str] = (), producer_ids: Sequence[int] = (), longer_than_ms: int = 0
    ) -> list[TransactionListing]:
        """Every transactional id that the cluster knows."""
        call = self._admin.list_transactions(states=states, producer_ids=producer_ids, longer_than_ms=longer_than_ms)
        return self._thread.run(call)

    def describe_transaction(self, transactional_id: str) -> TransactionDescription:
        """State, producer and partitions."""
        return self._thread.run(self._admin.describe_transaction(transactional_id))

    def describe_producers(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, list[ProducerState]]:
        """Who has written to these partitions, and where a transaction of theirs is open."""
        return self._thread.run(self._admin.describe_producers(partitions))

    def abort_transaction(self, transactional_id: str) -> None:
        """Abort what is open under a transactional id, and fence its producer."""
        self._thread.run(self._admin.abort_transaction(transactional_id))

    def abort_partition(self, partition: TopicPartition, start_offset: int) -> None:
        """Abort the transaction that begins at this offset, in this partition alone."""
        self._thread.run(self._admin.abort_partition(partition, start_offset))

    def find_hanging_transactions(
        self, topics: Iterable[str] | None = None, *, max_age_ms: int = DEFAULT_MAX_AGE_MS, now_ms: int
    ) -> list[HangingTransaction]:
        """Transactions that are open in a partition though no coordinator will end them there."""
        return self._thread.run(self._admin.find_hanging_transactions(topics, max_age_ms=max_age_ms, now_ms=now_ms))

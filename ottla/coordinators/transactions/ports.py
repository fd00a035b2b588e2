"""What the transaction coordinator asks of the broker around it."""

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ottla.core.errors import ApiError

TopicPartition = tuple[str, int]
"""A topic's name and a partition's index."""


class Caller(NamedTuple):
    """Who sent a request.

    `connection`: a number that grows with every connection that this node accepts, so that the older of two can be
    told (see `connections`). `api_version`: of the request.
    """

    client_id: str
    connection: int
    api_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTransaction:
    """A transaction whose end is in the log, and that now needs a marker in each of its partitions.

    `producer_id` and `producer_epoch` are those of the markers: with `transaction_version` 2 the epoch is one higher
    than that of the transaction's records, with 0 and 1 it may be the same. `coordinator_epoch` is the leader epoch of
    the partition of `__transaction_state`.
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    committed: bool
    partitions: tuple[TopicPartition, ...]
    transaction_version: int


class ProducerIdSource(Protocol):
    """Numbers for producers, never given twice in the cluster's life."""

    def __call__(self, done: Callable[[int | ApiError], None], /) -> None:
        """`done` gets a new producer id, or the error why there is none now: at once or later, exactly once."""


class Grants(Protocol):
    """Tells leaders of partitions that these belong to a transaction, so that they need not ask for it (KIP-890)."""

    def __call__(
        self, producer_id: int, producer_epoch: int, coordinator_epoch: int, partitions: Set[TopicPartition]
    ) -> None:
        """Tell, before any marker of this transaction is sent, or let it be: then they ask."""


class MarkerSender(Protocol):
    """Brings the end of a transaction to the leaders of its partitions (WriteTxnMarkers)."""

    def send(
        self,
        transaction: EndedTransaction,
        written: Callable[[list[TopicPartition]], None],
        failed: Callable[[ApiError], None],
    ) -> None:
        """Send until every partition has its marker durably.

        `written` gets the partitions that have it, in one or several calls; a partition whose topic is gone counts as
        written. Errors that may pass are retried for ever. `failed` is for the one thing that does not pass: a
        partition knows a newer coordinator (TRANSACTION_COORDINATOR_FENCED) or a newer epoch of the producer
        (INVALID_PRODUCER_EPOCH); nothing is called after it. A second `send` for a transactional id takes the place
        of the first.
        """

    def cancel(self, transactional_id: str) -> None:
        """Stop sending, and call nothing any more: this node does not coordinate this id now."""


class Topics(Protocol):
    """The cluster's topics as they are now."""

    def partition_count(self, name: str) -> int:
        """0 when there is no such topic."""

"""What the timers of the transaction coordinator tell its shard."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class TransactionTimedOut:
    """`transaction.timeout.ms` after the start of a transaction, it has not ended."""

    transactional_id: str


@dataclass(slots=True, frozen=True)
class EndUnfinished:
    """The end of a transaction is prepared, and its way to the partitions has to be begun again."""

    transactional_id: str


@dataclass(slots=True, frozen=True)
class ExpiryCheck:
    """Look for transactional ids that nobody uses any more."""

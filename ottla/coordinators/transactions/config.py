"""What an operator may set about transactions; names and defaults are Kafka's."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionConfig:
    """Limits and delays of the transaction coordinator."""

    transaction_max_timeout_ms: int = 900_000
    """The longest `transaction.timeout.ms` that a producer may ask for."""
    transactional_id_expiration_ms: int = 604_800_000
    """A transactional id that has had no transaction for so long is forgotten."""
    transaction_abort_timed_out_transaction_cleanup_interval_ms: int = 10_000
    """How long the abort of a transaction past its timeout is put off after a failover, or when it cannot be written.
    Otherwise each transaction has a timer of its own."""
    transaction_remove_expired_transaction_cleanup_interval_ms: int = 3_600_000
    """How often it is looked for transactional ids to forget."""

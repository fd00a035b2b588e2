"""AddPartitionsToTxn and AddOffsetsToTxn: partitions become part of a transaction, or are looked for in it."""

from collections.abc import Set
from dataclasses import replace

from ottla.coordinators.transactions.ports import TopicPartition
from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import Producer, Transaction, check_free


def add(
    transaction: Transaction | None,
    producer: Producer,
    partitions: Set[TopicPartition],
    *,
    client_version: int,
    now_ms: int,
) -> Transaction:
    """The transactional id with these partitions, which begin a transaction when there is none.

    The same object when it has them already. Raises ApiError for another producer, and while an end is prepared.
    """
    transaction = check_free(transaction, producer)
    if partitions <= transaction.partitions:
        return transaction  # or there is nothing to add, which begins no transaction
    is_ongoing = transaction.state is TransactionState.ONGOING
    return replace(
        transaction,
        state=TransactionState.ONGOING,
        partitions=transaction.partitions | partitions,
        start_ms=transaction.start_ms if is_ongoing else now_ms,
        last_update_ms=now_ms,
        client_version=client_version,
    )


def missing(
    transaction: Transaction | None, producer: Producer, partitions: Set[TopicPartition]
) -> Set[TopicPartition]:
    """Those that are not part of the producer's transaction (KIP-890). Raises ApiError like `add`."""
    return partitions - check_free(transaction, producer).partitions

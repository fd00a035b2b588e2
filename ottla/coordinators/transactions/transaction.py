"""What is known of one transactional id: the content of its last record."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ottla.coordinators.transactions.ports import TopicPartition
from ottla.coordinators.transactions.states import TRANSITIONS, TransactionState
from ottla.core.errors import ApiError, DecodeError, ErrorCode
from ottla.protocol.messages.transaction_log_value import PartitionsSchema, TransactionLogValue

NO_PRODUCER_ID: Final = -1
NO_PARTITIONS: frozenset[TopicPartition] = frozenset()
EPOCH_MAX: Final = 32_767
LAST_EPOCH: Final = EPOCH_MAX - 1
"""The last epoch that a producer gets; the one after it is kept to be able to fence it."""
EPOCH_BUMPED_SINCE: Final = 2
"""The transaction version (KIP-890) in which the end of each transaction bumps the epoch."""


class Producer(NamedTuple):
    """Who writes: an id and its epoch."""

    id: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One transactional id. Immutable: every change is a record, and a record is a new object.

    `previous_producer_id`: the producer id from which the same producer came to its present id and epoch; -1 when
    these were given to a newcomer, or are not yet given to anyone. By it a repeated request of the producer is told
    from one of a producer that was fenced, also after another node has taken over.
    `next_producer_id`: while the end is prepared, the id that the producer goes on with, because its epochs are used
    up; otherwise -1.
    `start_ms`: when the last transaction got its first partition; -1 when there was none since the initialisation.
    `client_version`: the transaction version in which the last transaction was written and ended.
    """

    producer_id: int
    producer_epoch: int
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    timeout_ms: int
    state: TransactionState
    partitions: frozenset[TopicPartition] = NO_PARTITIONS
    start_ms: int = -1
    last_update_ms: int
    client_version: int = 0

    @property
    def producer(self) -> Producer:
        return Producer(self.producer_id, self.producer_epoch)

    @property
    def last_producer(self) -> Producer | None:
        """What the present producer was before, if it was one."""
        if self.previous_producer_id == NO_PRODUCER_ID:
            return None
        if self.previous_producer_id == self.producer_id:
            return Producer(self.producer_id, self.producer_epoch - 1)
        return Producer(self.previous_producer_id, LAST_EPOCH)

    @property
    def next_producer(self) -> Producer:
        """As whom the producer goes on when the present transaction has ended."""
        return self.producer if self.next_producer_id == NO_PRODUCER_ID else Producer(self.next_producer_id, 0)

    @property
    def is_exhausted(self) -> bool:
        """No epoch is left under this producer id."""
        return self.producer_epoch >= LAST_EPOCH


def check_producer(transaction: Transaction | None, producer: Producer) -> Transaction:
    """The transactional id as `producer` may change it; raises ApiError when it is not the present producer.

    While an end is prepared the producer may know already as whom it is to go on.
    """
    if transaction is None or transaction.next_producer.id != producer.id:
        raise ApiError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    # The last epoch is nobody's: it is there to fence the one before it.
    if transaction.next_producer.epoch != producer.epoch or producer.epoch > LAST_EPOCH:
        raise ApiError(ErrorCode.PRODUCER_FENCED)
    return transaction


def check_free(transaction: Transaction | None, producer: Producer) -> Transaction:
    """As `check_producer`, and raises CONCURRENT_TRANSACTIONS, which the producer retries, while an end is prepared."""
    transaction = check_producer(transaction, producer)
    if transaction.state.is_prepared:
        raise ApiError(ErrorCode.CONCURRENT_TRANSACTIONS)
    return transaction


def check_transition(before: Transaction | None, after: Transaction) -> None:
    """Raises ValueError, for that would be a defect of ours, when `after` must not follow `before`."""
    state = before.state if before is not None else None
    if after.state not in TRANSITIONS[state]:
        raise ValueError(f"a transactional id cannot go from {state} to {after.state}")
    if before is None:
        return
    if after.producer_id == before.producer_id and after.producer_epoch < before.producer_epoch:
        raise ValueError(f"the epoch of producer {after.producer_id} went back from {before.producer_epoch}")
    if after.producer_epoch > EPOCH_MAX:
        raise ValueError(f"producer {after.producer_id} has no epoch left")


def to_value(transaction: Transaction) -> TransactionLogValue:
    """As it is written."""
    partitions = None if transaction.state is TransactionState.EMPTY else grouped(transaction.partitions)
    return TransactionLogValue(
        producer_id=transaction.producer_id,
        previous_producer_id=transaction.previous_producer_id,
        next_producer_id=transaction.next_producer_id,
        producer_epoch=transaction.producer_epoch,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_status=transaction.state.value,
        transaction_partitions=None
        if partitions is None
        else [PartitionsSchema(topic=topic, partition_ids=indexes) for topic, indexes in partitions],
        transaction_last_update_timestamp_ms=transaction.last_update_ms,
        transaction_start_timestamp_ms=transaction.start_ms,
        client_transaction_version=transaction.client_version,
    )


def from_value(value: TransactionLogValue) -> Transaction:
    """As it was written, by this broker or by Kafka; raises DecodeError."""
    try:
        state = TransactionState(value.transaction_status)
    except ValueError:
        raise DecodeError(f"{value.transaction_status} is no state of a transaction") from None
    return Transaction(
        producer_id=value.producer_id,
        producer_epoch=value.producer_epoch,
        previous_producer_id=value.previous_producer_id,
        next_producer_id=value.next_producer_id,
        timeout_ms=value.transaction_timeout_ms,
        state=state,
        partitions=frozenset(
            (topic.topic, index) for topic in value.transaction_partitions or () for index in topic.partition_ids
        ),
        start_ms=value.transaction_start_timestamp_ms,
        last_update_ms=value.transaction_last_update_timestamp_ms,
        client_version=value.client_transaction_version,
    )


def grouped(partitions: Iterable[TopicPartition]) -> list[tuple[str, list[int]]]:
    """By topic, in order."""
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(partitions):
        topics.setdefault(topic, []).append(index)
    return list(topics.items())

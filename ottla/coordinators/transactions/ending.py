"""EndTxn, the timeout of a transaction, and what follows when all markers are written.

Before version 5 of EndTxn a transaction ends with the epoch that it had. Since version 5 (KIP-890) the end of each
transaction bumps the epoch, so that no late message of it, an EndTxn least of all, can be taken for one of the next.
"""

from dataclasses import replace
from typing import Final

from ottla.coordinators.transactions.producer_ids import new_id
from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import (
    EPOCH_BUMPED_SINCE,
    LAST_EPOCH,
    NO_PARTITIONS,
    NO_PRODUCER_ID,
    Producer,
    Transaction,
    check_free,
    check_producer,
)
from ottla.core.errors import ApiError, ErrorCode

_PREPARED: Final = {True: TransactionState.PREPARE_COMMIT, False: TransactionState.PREPARE_ABORT}


def end_with_same_epoch(
    transaction: Transaction | None, producer: Producer, *, committed: bool, now_ms: int
) -> Transaction:
    """EndTxn before version 5: the transactional id with its end prepared.

    The same object when that end is prepared already. Raises ApiError for another producer, INVALID_TXN_STATE when
    there is no transaction or it ended the other way.
    """
    transaction = check_producer(transaction, producer)
    if transaction.state is TransactionState.ONGOING:
        return replace(transaction, state=_PREPARED[committed], last_update_ms=now_ms, client_version=0)
    if transaction.client_version >= EPOCH_BUMPED_SINCE:
        raise ApiError(ErrorCode.INVALID_TXN_STATE)  # what ended had another epoch than this
    return _ended_so(transaction, committed)


def end_with_next_epoch(
    transaction: Transaction | None,
    producer: Producer,
    *,
    committed: bool,
    new_producer_id: int | None,
    now_ms: int,
) -> Transaction:
    """EndTxn since version 5: as `end_with_same_epoch`, and the producer goes on as `next_producer` of the result.

    A producer may abort a transaction of which nothing got here. It may not commit one: it wrote to partitions that
    this coordinator has lost, or that never became part of the transaction.
    """
    if transaction is not None and _is_repeated(transaction, producer):
        return _ended_so(transaction, committed)
    transaction = check_free(transaction, producer)
    is_ongoing = transaction.state is TransactionState.ONGOING
    if committed and not is_ongoing:
        raise ApiError(ErrorCode.INVALID_TXN_STATE)
    return replace(
        transaction,
        state=_PREPARED[committed],
        producer_epoch=transaction.producer_epoch + 1,
        previous_producer_id=transaction.producer_id,
        next_producer_id=new_id(new_producer_id) if transaction.is_exhausted else NO_PRODUCER_ID,
        partitions=transaction.partitions if is_ongoing else NO_PARTITIONS,
        start_ms=transaction.start_ms if is_ongoing else now_ms,
        last_update_ms=now_ms,
        client_version=EPOCH_BUMPED_SINCE,
    )


def _is_repeated(transaction: Transaction, producer: Producer) -> bool:
    """Whether this is the producer whose transaction ended last, under the epoch that it had until then."""
    return (
        (transaction.state.is_prepared or transaction.state.is_complete)
        and transaction.client_version >= EPOCH_BUMPED_SINCE
        and producer == transaction.last_producer
        # A timeout may use up the last epoch, the one that is kept for it: then the producer has to start again.
        and transaction.next_producer.epoch <= LAST_EPOCH
    )


def _ended_so(transaction: Transaction, committed: bool) -> Transaction:
    state = transaction.state
    if not (state.is_prepared or state.is_complete) or state.is_commit != committed:
        raise ApiError(ErrorCode.INVALID_TXN_STATE)
    return transaction


def fence(transaction: Transaction, *, previous_producer_id: int, now_ms: int) -> Transaction:
    """Abort the transaction that is under way, under an epoch that its producer does not have.

    `previous_producer_id`: -1 when the producer must not go on; otherwise its id, and it may ask for the new epoch:
    with InitProducerId, or by an abort of its own.
    """
    return replace(
        transaction,
        state=TransactionState.PREPARE_ABORT,
        producer_epoch=transaction.producer_epoch + 1,
        previous_producer_id=previous_producer_id,
        last_update_ms=now_ms,
        client_version=EPOCH_BUMPED_SINCE,
    )


def complete(transaction: Transaction, *, now_ms: int) -> Transaction:
    """Every partition has its marker."""
    committed = transaction.state is TransactionState.PREPARE_COMMIT
    following = transaction.next_producer
    return replace(
        transaction,
        state=TransactionState.COMPLETE_COMMIT if committed else TransactionState.COMPLETE_ABORT,
        producer_id=following.id,
        producer_epoch=following.epoch,
        next_producer_id=NO_PRODUCER_ID,
        partitions=NO_PARTITIONS,
        last_update_ms=now_ms,
    )

"""InitProducerId: a producer gets its id and epoch, and whoever had the transactional id before is fenced."""

from dataclasses import replace

from ottla.coordinators.transactions.ending import fence
from ottla.coordinators.transactions.producer_ids import new_id
from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import (
    LAST_EPOCH,
    NO_PARTITIONS,
    NO_PRODUCER_ID,
    Producer,
    Transaction,
)
from ottla.core.errors import ApiError, ErrorCode


def initialize(
    transaction: Transaction | None,
    producer: Producer | None,
    *,
    timeout_ms: int,
    new_producer_id: int | None,
    now_ms: int,
) -> Transaction:
    """The transactional id for a producer that starts (`producer` is None), or goes on after an error (KIP-360).

    A producer that goes on says who it was. It gets the next epoch; or, when it is known to have got that already,
    the same one again. A transaction that is under way is aborted first: the result is in PREPARE_ABORT then, and the
    producer has to come back.

    Raises ApiError for a producer that was fenced meanwhile, and while an end is prepared; ProducerIdNeeded.
    """
    if transaction is None:
        return Transaction(
            producer_id=new_id(new_producer_id),
            producer_epoch=0,
            timeout_ms=timeout_ms,
            state=TransactionState.EMPTY,
            last_update_ms=now_ms,
        )
    is_repeated = producer is not None and producer == transaction.last_producer
    if transaction.state is TransactionState.ONGOING:
        # It has the answer, for it wrote since: this is an old request, which must not abort what is new.
        is_repeated = False
    if producer is not None and producer != transaction.next_producer and not is_repeated:
        raise ApiError(ErrorCode.PRODUCER_FENCED)
    if transaction.state.is_prepared:
        raise ApiError(ErrorCode.CONCURRENT_TRANSACTIONS)
    previous = NO_PRODUCER_ID if producer is None else transaction.producer_id
    if transaction.state is TransactionState.ONGOING:
        return fence(transaction, previous_producer_id=previous, now_ms=now_ms)
    if is_repeated and transaction.producer_epoch <= LAST_EPOCH:
        following, previous = transaction.producer, transaction.previous_producer_id
    elif transaction.is_exhausted:
        following = Producer(new_id(new_producer_id), 0)
    else:
        following = Producer(transaction.producer_id, transaction.producer_epoch + 1)
    return replace(
        transaction,
        producer_id=following.id,
        producer_epoch=following.epoch,
        previous_producer_id=previous,
        timeout_ms=timeout_ms,
        state=TransactionState.EMPTY,
        partitions=NO_PARTITIONS,
        start_ms=-1,
        last_update_ms=now_ms,
        client_version=0,
    )

"""DescribeTransactions and ListTransactions (KIP-664, KIP-994)."""

from typing import Final

from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import Transaction, grouped
from ottla.core.errors import ErrorCode
from ottla.protocol.messages import describe_transactions_response, list_transactions_response
from ottla.protocol.messages.list_transactions_request import ListTransactionsRequest

STATES = {state.label: state for state in TransactionState}
UNUSED_STATES: Final = frozenset({"PrepareEpochFence"})  # one that Kafka knows


def unknown_states(request: ListTransactionsRequest) -> list[str]:
    """Names by which nothing can be found."""
    return [name for name in request.state_filters if name not in STATES and name not in UNUSED_STATES]


def matches(transaction: Transaction, request: ListTransactionsRequest, now_ms: int) -> bool:
    """Whether it is asked for, as far as state, producer and duration tell."""
    if request.producer_id_filters and transaction.producer_id not in request.producer_id_filters:
        return False
    if request.state_filters and transaction.state.label not in request.state_filters:
        return False
    if request.duration_filter < 0:
        return True
    return transaction.start_ms >= 0 and now_ms - transaction.start_ms > request.duration_filter


def listed(transactional_id: str, transaction: Transaction) -> list_transactions_response.TransactionState:
    return list_transactions_response.TransactionState(
        transactional_id=transactional_id,
        producer_id=transaction.producer_id,
        transaction_state=transaction.state.label,
    )


def described(
    transactional_id: str, transaction: Transaction | None
) -> describe_transactions_response.TransactionState:
    if transaction is None:
        return describe_refused(transactional_id, ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
    return describe_transactions_response.TransactionState(
        transactional_id=transactional_id,
        transaction_state=transaction.state.label,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_start_time_ms=transaction.start_ms,
        producer_id=transaction.producer_id,
        producer_epoch=transaction.producer_epoch,
        topics=[
            describe_transactions_response.TopicData(topic=topic, partitions=indexes)
            for topic, indexes in grouped(transaction.partitions)
        ],
    )


def describe_refused(transactional_id: str, code: ErrorCode) -> describe_transactions_response.TransactionState:
    return describe_transactions_response.TransactionState(transactional_id=transactional_id, error_code=code)

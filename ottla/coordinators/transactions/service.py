"""The way into the transaction coordinator: checks a request, sends it to its shard, and gives every answer its form.

Each method takes a request, who asks, and `done`, which gets the response exactly once. Nothing here raises for what a
client sent.
"""

from collections.abc import Callable
from typing import TypeVar

from ottla.coordinators.runtime import CoordinatorLog
from ottla.coordinators.transactions.config import TransactionConfig
from ottla.coordinators.transactions.ports import Caller, MarkerSender, ProducerIdSource, Topics
from ottla.core.ports import Clock
from ottla.protocol.messages.add_offsets_to_txn_request import AddOffsetsToTxnRequest
from ottla.protocol.messages.add_offsets_to_txn_response import AddOffsetsToTxnResponse
from ottla.protocol.messages.add_partitions_to_txn_request import AddPartitionsToTxnRequest
from ottla.protocol.messages.add_partitions_to_txn_response import AddPartitionsToTxnResponse
from ottla.protocol.messages.describe_transactions_request import DescribeTransactionsRequest
from ottla.protocol.messages.describe_transactions_response import DescribeTransactionsResponse
from ottla.protocol.messages.end_txn_request import EndTxnRequest
from ottla.protocol.messages.end_txn_response import EndTxnResponse
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.init_producer_id_response import InitProducerIdResponse
from ottla.protocol.messages.list_transactions_request import ListTransactionsRequest
from ottla.protocol.messages.list_transactions_response import ListTransactionsResponse

TRANSACTION_STATE = "__transaction_state"

R = TypeVar("R")
Done = Callable[[R], object]


class TransactionCoordinator:
    """All transactional ids that this node coordinates."""

    def __init__(
        self,
        *,
        config: TransactionConfig,
        clock: Clock,
        producer_ids: ProducerIdSource,
        markers: MarkerSender,
        topics: Topics,
        report: Callable[..., object],
        commit_timeout_ms: float = 5_000,
    ) -> None:
        raise NotImplementedError

    # --- leadership

    def lead(self, index: int, log: CoordinatorLog, leader_epoch: int) -> None:
        """Partition `index` of `__transaction_state` is led here."""
        raise NotImplementedError

    def resign(self, index: int) -> None:
        """It is led elsewhere."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    # --- producers

    def init_producer_id(
        self, request: InitProducerIdRequest, caller: Caller, done: Done[InitProducerIdResponse]
    ) -> None:
        """Also for a producer that is idempotent only (no transactional id): it gets a new id from the source."""
        raise NotImplementedError

    def add_partitions(
        self, request: AddPartitionsToTxnRequest, caller: Caller, done: Done[AddPartitionsToTxnResponse]
    ) -> None:
        """Versions 0 to 3 from clients; from 4 on from brokers, for several transactions, to add or to verify.

        Which topics exist and may be written to, the caller checks before.
        """
        raise NotImplementedError

    def add_offsets(self, request: AddOffsetsToTxnRequest, caller: Caller, done: Done[AddOffsetsToTxnResponse]) -> None:
        """The group's partition of `__consumer_offsets` becomes part of the transaction."""
        raise NotImplementedError

    def end_txn(self, request: EndTxnRequest, caller: Caller, done: Done[EndTxnResponse]) -> None:
        """Answers when the end is in the log; the markers follow."""
        raise NotImplementedError

    # --- administration

    def describe(
        self, request: DescribeTransactionsRequest, caller: Caller, done: Done[DescribeTransactionsResponse]
    ) -> None:
        raise NotImplementedError

    def list_transactions(
        self, request: ListTransactionsRequest, caller: Caller, done: Done[ListTransactionsResponse]
    ) -> None:
        """Of this node; clients ask every node."""
        raise NotImplementedError

"""Asks coordinators whether transactions are under way on partitions: implements the port `verifying.Verifier`.

Questions of one turn of the loop for one coordinator travel in one AddPartitionsToTxn request of version 4 or later,
over the mesh, or not at all when the coordinator is this node's own. A transaction whose predecessor is still being
ended is asked for again for a while: the markers take milliseconds, a client's pause takes tens of them (KIP-890).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Union

from ottla.broker.transactions.verifying import VerificationDone
from ottla.controller.image import NO_LEADER, MetadataImage
from ottla.coordinators.partitioning import coordinator_partition
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock
from ottla.core.types import NodeId
from ottla.protocol.apis import ApiKey

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.protocol.messages.add_partitions_to_txn_request import AddPartitionsToTxnRequest
    from ottla.protocol.messages.add_partitions_to_txn_response import AddPartitionsToTxnResponse

TRANSACTION_STATE: Final = "__transaction_state"

VERSION: Final = 5  # tells TRANSACTION_ABORTABLE apart from what is fatal
TIMEOUT_MS: Final = 5_000.0
PATIENCE_MS: Final = 500.0  # with a transaction that is being ended
AGAIN_MS: Final = 2.0  # doubles ...
AGAIN_MAX_MS: Final = 20.0  # ... up to this

_TOLD: Final = {
    ErrorCode.TRANSACTION_ABORTABLE: ErrorCode.INVALID_TXN_STATE,  # whoever answers a client knows what it understands
    ErrorCode.PRODUCER_FENCED: ErrorCode.INVALID_PRODUCER_EPOCH,
    # To be repeated, and not a reason to look for another leader of the partition that is produced to.
    ErrorCode.NOT_COORDINATOR: ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE: ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.BROKER_NOT_AVAILABLE: ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NETWORK_EXCEPTION: ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.THROTTLING_QUOTA_EXCEEDED: ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.NOT_ENOUGH_REPLICAS,  # to the coordinator: its image is behind
    ErrorCode.OPERATION_NOT_ATTEMPTED: ErrorCode.NOT_ENOUGH_REPLICAS,
}

Answer = Union["AddPartitionsToTxnResponse", ApiError]
Deliver = Callable[[NodeId, int, "AddPartitionsToTxnRequest", Callable[[Answer], None]], None]
"""Puts a request of a version to a node, perhaps this one; exactly one answer comes back."""


class _Transaction(NamedTuple):
    transactional_id: str
    producer_id: int
    producer_epoch: int
    verify_only: bool


@dataclass(slots=True, eq=False)
class _Question:
    transaction: _Transaction
    topic: str
    index: int
    done: VerificationDone
    asked_ms: float
    attempts: int = 0  # that were in vain


class Verification:
    """One broker's. `image`: the newest one."""

    def __init__(self, clock: Clock, image: Callable[[], MetadataImage], deliver: Deliver) -> None:
        self._clock, self._image, self._deliver = clock, image, deliver
        self._questions: list[_Question] = []

    def ask(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        topic: str,
        index: int,
        verify_only: bool,
        done: VerificationDone,
    ) -> None:
        """See `Verifier`."""
        transaction = _Transaction(transactional_id, producer_id, producer_epoch, verify_only)
        self._ask(_Question(transaction, topic, index, done, self._clock.monotonic_ms()))

    def _ask(self, question: _Question) -> None:
        if not self._questions:
            self._clock.call_soon(self._send)
        self._questions.append(question)

    def _send(self) -> None:
        questions, self._questions = self._questions, []
        by_node: dict[NodeId, list[_Question]] = {}
        for question in questions:
            by_node.setdefault(self._coordinator(question.transaction.transactional_id), []).append(question)
        for node, asked in by_node.items():
            if node == NO_LEADER:
                for question in asked:
                    question.done(ErrorCode.NOT_ENOUGH_REPLICAS)
                continue
            for batch in _batches(asked):
                self._deliver(node, VERSION, _request(batch), partial(self._answered, batch))

    def _coordinator(self, transactional_id: str) -> NodeId:
        topic = self._image().topics.get(TRANSACTION_STATE)
        if topic is None:
            return NO_LEADER
        return topic.partitions[coordinator_partition(transactional_id, len(topic.partitions))].leader

    def _answered(self, batch: list[_Question], answer: Answer) -> None:
        if isinstance(answer, ApiError) or answer.error_code:
            code = answer.code if isinstance(answer, ApiError) else answer.error_code
            for question in batch:
                self._take(question, code)
            return
        codes = {
            (result.transactional_id, topic.name, partition.partition_index): partition.partition_error_code
            for result in answer.results_by_transaction
            for topic in result.topic_results
            for partition in topic.results_by_partition
        }
        for question in batch:
            key = (question.transaction.transactional_id, question.topic, question.index)
            self._take(question, codes.get(key, ErrorCode.NETWORK_EXCEPTION))

    def _take(self, question: _Question, number: int) -> None:
        if number == ErrorCode.CONCURRENT_TRANSACTIONS:
            waited_ms = self._clock.monotonic_ms() - question.asked_ms
            if waited_ms < PATIENCE_MS:
                delay_ms = min(AGAIN_MS * 2**question.attempts, AGAIN_MAX_MS)
                question.attempts += 1
                self._clock.call_later(delay_ms, self._ask, question)
                return
        code = ErrorCode(number)
        question.done(_TOLD.get(code, code))


def _batches(questions: list[_Question]) -> list[list[_Question]]:
    """Answers name a transactional id, so no request may hold two producers, or two kinds of question, of one."""
    batches: list[tuple[dict[str, _Transaction], list[_Question]]] = []
    for question in questions:
        transaction = question.transaction
        for ids, batch in batches:
            if ids.setdefault(transaction.transactional_id, transaction) == transaction:
                batch.append(question)
                break
        else:
            batches.append(({transaction.transactional_id: transaction}, [question]))
    return [batch for _, batch in batches]


def _request(batch: list[_Question]) -> "AddPartitionsToTxnRequest":
    from ottla.protocol.messages.add_partitions_to_txn_request import (  # not held without transactions
        AddPartitionsToTxnRequest,
        AddPartitionsToTxnTopic,
        AddPartitionsToTxnTransaction,
    )

    partitions: dict[_Transaction, dict[str, dict[int, None]]] = {}
    for question in batch:
        partitions.setdefault(question.transaction, {}).setdefault(question.topic, {})[question.index] = None
    return AddPartitionsToTxnRequest(
        transactions=[
            AddPartitionsToTxnTransaction(
                transactional_id=transaction.transactional_id,
                producer_id=transaction.producer_id,
                producer_epoch=transaction.producer_epoch,
                verify_only=transaction.verify_only,
                topics=[AddPartitionsToTxnTopic(name=name, partitions=list(of)) for name, of in topics.items()],
            )
            for transaction, topics in partitions.items()
        ]
    )


def verification_of(broker: "Broker") -> Verification:
    """That of a broker, which asks over the mesh."""

    def deliver(
        node: NodeId, version: int, request: "AddPartitionsToTxnRequest", done: Callable[[Answer], None]
    ) -> None:
        if node == broker.settings.node_id:
            from ottla.broker.transactions.handlers import add_partitions_of_leader

            add_partitions_of_leader(broker, version, request, done)
        else:
            broker.control.asking.ask(node, ApiKey.ADD_PARTITIONS_TO_TXN, version, request, done, timeout_ms=TIMEOUT_MS)

    return Verification(broker.clock, lambda: broker.image, deliver)

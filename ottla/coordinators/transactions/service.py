"""The way into the transaction coordinator: checks a request, sends it to its shard, and gives every answer its form.

Each method takes a request, who asks, and `done`, which gets the response exactly once. Nothing here raises for what a
client sent. Requests for several transactional ids are taken apart, and answered when all shards have answered.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from ottla.coordinators.errors import coordinator_error
from ottla.coordinators.gathering import gather
from ottla.coordinators.groups.consumer.expressions import compile_re2
from ottla.coordinators.partitioning import coordinator_partition
from ottla.coordinators.runtime import Call, CoordinatorLog, CoordinatorRuntime, Effects
from ottla.coordinators.transactions import admin, answers
from ottla.coordinators.transactions.config import TransactionConfig
from ottla.coordinators.transactions.markers import MarkerDriver
from ottla.coordinators.transactions.ports import Caller, Grants, MarkerSender, ProducerIdSource, TopicPartition, Topics
from ottla.coordinators.transactions.producer_ids import ProducerIdNeeded
from ottla.coordinators.transactions.records import TransactionRecordCodec
from ottla.coordinators.transactions.shard import TransactionShard
from ottla.coordinators.transactions.transaction import Producer
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock
from ottla.protocol.messages.add_offsets_to_txn_request import AddOffsetsToTxnRequest
from ottla.protocol.messages.add_offsets_to_txn_response import AddOffsetsToTxnResponse
from ottla.protocol.messages.add_partitions_to_txn_request import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTransaction,
)
from ottla.protocol.messages.add_partitions_to_txn_response import AddPartitionsToTxnResponse, AddPartitionsToTxnResult
from ottla.protocol.messages.describe_transactions_request import DescribeTransactionsRequest
from ottla.protocol.messages.describe_transactions_response import DescribeTransactionsResponse
from ottla.protocol.messages.describe_transactions_response import TransactionState as DescribedTransaction
from ottla.protocol.messages.end_txn_request import EndTxnRequest
from ottla.protocol.messages.end_txn_response import EndTxnResponse
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.init_producer_id_response import InitProducerIdResponse
from ottla.protocol.messages.list_transactions_request import ListTransactionsRequest
from ottla.protocol.messages.list_transactions_response import ListTransactionsResponse
from ottla.protocol.messages.list_transactions_response import TransactionState as ListedTransaction

TRANSACTION_STATE: Final = "__transaction_state"
CONSUMER_OFFSETS: Final = "__consumer_offsets"
ID_BYTES_MAX: Final = 32_767  # what the key of a record can hold
BROKERS_SINCE: Final = 4  # AddPartitionsToTxn: from here on it comes from brokers
NEXT_EPOCH_SINCE: Final = 5  # EndTxn

R = TypeVar("R")
Done = Callable[[R], object]
Operation = Callable[[Call, TransactionShard, Effects, int | None], None]


class TransactionCoordinator:
    """All transactional ids that this node coordinates."""

    def __init__(
        self,
        *,
        config: TransactionConfig,
        clock: Clock,
        producer_ids: ProducerIdSource,
        markers: MarkerSender,
        grants: Grants,
        topics: Topics,
        report: Callable[..., object],
        commit_timeout_ms: float = 5_000,
    ) -> None:
        self._config, self._clock, self._report = config, clock, report
        self._producer_ids, self._markers, self._grants, self._topics = producer_ids, markers, grants, topics
        self._leader_epochs: dict[int, int] = {}
        self.runtime = CoordinatorRuntime[TransactionShard](
            clock=clock,
            codec=TransactionRecordCodec(),
            new_shard=self._new_shard,
            report=report,
            commit_timeout_ms=commit_timeout_ms,
        )

    def _new_shard(self, index: int) -> TransactionShard:
        driver = MarkerDriver(
            sender=self._markers, clock=self._clock, report=self._report, events=_MarkerEvents(self.runtime, index)
        )
        return TransactionShard(self._config, self._leader_epochs[index], driver)

    # --- leadership

    def lead(self, index: int, log: CoordinatorLog, leader_epoch: int) -> None:
        """Partition `index` of `__transaction_state` is led here."""
        self._leader_epochs[index] = max(leader_epoch, self._leader_epochs.get(index, leader_epoch))
        self.runtime.lead(index, log, leader_epoch)

    def resign(self, index: int) -> None:
        """It is led elsewhere."""
        self.runtime.resign(index)

    def close(self) -> None:
        self.runtime.close()

    # --- producers

    def init_producer_id(
        self, request: InitProducerIdRequest, caller: Caller, done: Done[InitProducerIdResponse]
    ) -> None:
        """Also for a producer that is idempotent only (no transactional id): it gets a new id from the source."""

        def refuse(code: ErrorCode) -> InitProducerIdResponse:
            return answers.init_refused(code, caller.api_version)

        def answer(result: Producer | int | ApiError) -> None:
            done(answers.initialized(result, caller.api_version))

        producer = Producer(request.producer_id, request.producer_epoch)
        if (producer.id < 0) != (producer.epoch < 0):
            done(refuse(ErrorCode.INVALID_REQUEST))
        elif request.enable2_pc or request.keep_prepared_txn:
            done(refuse(ErrorCode.UNSUPPORTED_VERSION))  # two-phase commit (KIP-939)
        elif request.transactional_id is None:
            self._new_producer_id(answer)
        elif request.transactional_id and not (
            0 < request.transaction_timeout_ms <= self._config.transaction_max_timeout_ms
        ):
            done(refuse(ErrorCode.INVALID_TRANSACTION_TIMEOUT))
        else:
            transactional_id = request.transactional_id
            self._execute(
                transactional_id,
                answer,
                lambda call, shard, effects, new_producer_id: shard.initialize(
                    transactional_id,
                    producer if producer.id >= 0 else None,
                    request.transaction_timeout_ms,
                    caller,
                    new_producer_id,
                    call,
                    effects,
                ),
            )

    def add_partitions(
        self, request: AddPartitionsToTxnRequest, caller: Caller, done: Done[AddPartitionsToTxnResponse]
    ) -> None:
        """Versions 0 to 3 from clients; from 4 on from brokers, for several transactions, to add or to verify.

        Which topics exist and may be written to, the caller checks before.
        """
        if caller.api_version >= BROKERS_SINCE:
            gather(
                [partial(self._add_for_broker, transaction, caller) for transaction in request.transactions],
                lambda results: done(AddPartitionsToTxnResponse(results_by_transaction=results)),
            )
            return
        transactional_id = request.v3_and_below_transactional_id
        producer = Producer(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch)
        topics = request.v3_and_below_topics
        partitions = answers.partitions(topics)

        def answer(result: int | ApiError) -> None:
            if not isinstance(result, ApiError):
                self._grants(producer.id, producer.epoch, result, partitions)
            results = answers.partition_results(topics, answers.code(result, caller.api_version))
            done(AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results))

        self._execute(
            transactional_id,
            answer,
            lambda call, shard, effects, _: shard.add(transactional_id, producer, partitions, caller, call, effects),
        )

    def _add_for_broker(
        self, transaction: AddPartitionsToTxnTransaction, caller: Caller, done: Done[AddPartitionsToTxnResult]
    ) -> None:
        transactional_id = transaction.transactional_id
        producer = Producer(transaction.producer_id, transaction.producer_epoch)
        partitions = answers.partitions(transaction.topics)

        def answer(result: frozenset[TopicPartition] | ApiError | int) -> None:
            codes: Mapping[TopicPartition, ErrorCode] | ErrorCode
            if isinstance(result, frozenset):
                codes = dict.fromkeys(result, answers.not_in_transaction(caller.api_version))
            else:
                codes = answers.code(result, caller.api_version)
            done(
                AddPartitionsToTxnResult(
                    transactional_id=transactional_id,
                    topic_results=answers.partition_results(transaction.topics, codes),
                )
            )

        def operation(call: Call, shard: TransactionShard, effects: Effects, _: int | None) -> None:
            if transaction.verify_only:
                effects.reply(call, frozenset(shard.missing(transactional_id, producer, partitions)))
            else:
                shard.add(transactional_id, producer, partitions, None, call, effects)

        self._execute(transactional_id, answer, operation)

    def add_offsets(self, request: AddOffsetsToTxnRequest, caller: Caller, done: Done[AddOffsetsToTxnResponse]) -> None:
        """The group's partition of `__consumer_offsets` becomes part of the transaction."""
        partition_count = self._topics.partition_count(CONSUMER_OFFSETS)
        if partition_count == 0:
            done(AddOffsetsToTxnResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE))
            return
        partition = (CONSUMER_OFFSETS, coordinator_partition(request.group_id, partition_count))
        producer = Producer(request.producer_id, request.producer_epoch)
        self._execute(
            request.transactional_id,
            lambda result: done(AddOffsetsToTxnResponse(error_code=answers.code(result, caller.api_version))),
            lambda call, shard, effects, _: shard.add(
                request.transactional_id, producer, frozenset({partition}), caller, call, effects
            ),
        )

    def end_txn(self, request: EndTxnRequest, caller: Caller, done: Done[EndTxnResponse]) -> None:
        """Answers when the end is in the log; the markers follow."""
        producer = Producer(request.producer_id, request.producer_epoch)

        def operation(call: Call, shard: TransactionShard, effects: Effects, new_producer_id: int | None) -> None:
            if caller.api_version >= NEXT_EPOCH_SINCE:
                shard.end_with_next_epoch(
                    request.transactional_id, producer, request.committed, new_producer_id, call, effects
                )
            else:
                shard.end_with_same_epoch(request.transactional_id, producer, request.committed, caller, call, effects)

        self._execute(
            request.transactional_id, lambda result: done(answers.ended(result, caller.api_version)), operation
        )

    # --- administration

    def describe(
        self, request: DescribeTransactionsRequest, caller: Caller, done: Done[DescribeTransactionsResponse]
    ) -> None:
        def part(transactional_id: str, done: Done[DescribedTransaction]) -> None:
            self._execute(
                transactional_id,
                lambda result: done(
                    admin.describe_refused(transactional_id, result.code) if isinstance(result, ApiError) else result
                ),
                lambda call, shard, effects, _: effects.reply(
                    call, admin.described(transactional_id, shard.transactions.get(transactional_id))
                ),
            )

        gather(
            [partial(part, transactional_id) for transactional_id in request.transactional_ids],
            lambda states: done(DescribeTransactionsResponse(transaction_states=states)),
        )

    def list_transactions(
        self, request: ListTransactionsRequest, caller: Caller, done: Done[ListTransactionsResponse]
    ) -> None:
        """Of this node; clients ask every node."""
        try:
            pattern = compile_re2(request.transactional_id_pattern) if request.transactional_id_pattern else None
        except ApiError as error:
            done(ListTransactionsResponse(error_code=error.code))
            return

        def answer(parts: list[list[ListedTransaction] | ApiError]) -> None:
            response = ListTransactionsResponse(unknown_state_filters=admin.unknown_states(request))
            for part in parts:
                if not isinstance(part, ApiError):
                    response.transaction_states += part
                elif part.code is not ErrorCode.NOT_COORDINATOR:
                    done(ListTransactionsResponse(error_code=coordinator_error(part.code)))
                    return
            done(response)

        def part(index: int, call: Call) -> None:
            self.runtime.execute(
                index,
                call,
                lambda shard, effects: effects.reply(call, shard.list_transactions(request, pattern, effects.now_ms)),
            )

        gather([partial(part, index) for index in self.runtime.indices], answer)

    # --- the way to a shard

    def _execute(
        self,
        transactional_id: str,
        done: Done[Any],
        operation: Operation,
    ) -> None:
        """Run `operation` on the shard of the transactional id, and once more when it needs a new producer id.

        `done` gets what the operation replies, or the ApiError that took its place.
        """
        if not transactional_id or len(transactional_id.encode()) > ID_BYTES_MAX:
            done(ApiError(ErrorCode.INVALID_REQUEST))
            return
        partition_count = self._topics.partition_count(TRANSACTION_STATE)
        if partition_count == 0:
            done(ApiError(ErrorCode.NOT_COORDINATOR))
            return
        index = coordinator_partition(transactional_id, partition_count)
        _Execution(self.runtime, index, operation, self._new_producer_id, done).attempt(None)

    def _new_producer_id(self, done: Callable[[int | ApiError], None]) -> None:
        def obtained(result: int | ApiError) -> None:
            if isinstance(result, ApiError) and result.retriable:
                # There is no controller to ask. Producers know how to wait for this one.
                result = ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, result.message)
            done(result)

        self._producer_ids(obtained)


class _Execution:
    """One operation on its way to its shard and back. No closure: two that call each other would be a reference cycle,
    and hundreds of objects of each transaction would wait for the garbage collector.
    """

    __slots__ = ("_done", "_index", "_needs_id", "_new_producer_id", "_next_producer_id", "_operation", "_runtime")

    def __init__(
        self,
        runtime: CoordinatorRuntime[TransactionShard],
        index: int,
        operation: Operation,
        next_producer_id: Callable[[Callable[[int | ApiError], None]], None],
        done: Done[Any],
    ) -> None:
        self._runtime, self._index, self._operation, self._done = runtime, index, operation, done
        self._next_producer_id = next_producer_id
        self._new_producer_id: int | None = None
        self._needs_id = False

    def attempt(self, new_producer_id: int | None) -> None:
        self._new_producer_id, self._needs_id = new_producer_id, False
        self._runtime.execute(self._index, self, self._run)
        if self._needs_id:
            self._next_producer_id(self._obtained)

    def _run(self, shard: TransactionShard, effects: Effects) -> None:
        try:
            self._operation(self, shard, effects, self._new_producer_id)
        except ApiError as error:
            effects.reply(self, error.with_traceback(None))  # it refers to this frame, whose effects refer to it
        except ProducerIdNeeded:
            self._needs_id = True

    def _obtained(self, result: int | ApiError) -> None:
        if isinstance(result, ApiError):
            self(result)
        else:
            self.attempt(result)

    def __call__(self, response: Any, /) -> None:
        """The shard's reply, or what took its place."""
        self._done(ApiError(coordinator_error(response.code)) if isinstance(response, ApiError) else response)


class _MarkerEvents:
    """What becomes of markers goes to the shard as an operation that nobody waits for."""

    def __init__(self, runtime: CoordinatorRuntime[TransactionShard], index: int) -> None:
        self._runtime, self._index = runtime, index

    def markers_written(self, transactional_id: str, producer: Producer) -> None:
        self._runtime.execute(
            self._index, None, lambda shard, effects: shard.markers_written(transactional_id, producer, effects)
        )

    def resume_end(self, transactional_id: str) -> None:
        self._runtime.execute(self._index, None, lambda shard, effects: shard.resume_end(transactional_id, effects))

"""Requests about transactions: checks what only a broker knows, and hands the rest to this node's coordinator.

A broker's coordinator starts with the first of these requests, or when `__transaction_state` comes about.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.broker.leaderships import Leaderships
from ottla.broker.producer_ids import producer_ids
from ottla.broker.transactions.grants import grant
from ottla.broker.transactions.marker_writes import write_markers
from ottla.broker.transactions.markers import Answer, TransactionMarkers
from ottla.broker.transactions.partitions import MAX_NAMED, Unknown, named, too_many
from ottla.broker.transactions.patience import Patient
from ottla.controller.image import MetadataDelta, MetadataImage
from ottla.coordinators.transactions.config import TransactionConfig
from ottla.coordinators.transactions.ports import Caller
from ottla.coordinators.transactions.service import TRANSACTION_STATE, TransactionCoordinator
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.protocol.apis import ApiKey
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
from ottla.protocol.messages.write_txn_markers_request import WriteTxnMarkersRequest

Q = TypeVar("Q")
R = TypeVar("R")
Method = Callable[[Q, Caller, Callable[[R], object]], Patient[R] | None]
"""Of the coordinator: a request, who asks, and where the answer goes. What waits is returned, and can be given up."""

MARKERS_VERSION: Final = 2
MARKERS_TIMEOUT_MS: Final = 30_000.0  # longer than a silent link stands: no answer may come after a second attempt

FOR_NOW: Final = frozenset({ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS})
PATIENCE_MS: Final = 500.0  # with a transaction that is being ended, or a shard that is being loaded
PATIENCE_WITH_NODES_MS: Final = 20.0  # who ask again, and for several producers at once

logger: Final = structlog.get_logger(__name__)


async def init_producer_id(
    broker: Broker, request: InitProducerIdRequest, context: RequestContext
) -> InitProducerIdResponse:
    """Of a producer with a transactional id: its id and epoch, which fences who had the id before."""
    method = transactions(broker).coordinator.init_producer_id
    return await _ask(_patiently(broker, method, [request.transactional_id or ""], _is_refused), request, context)


async def add_partitions_to_txn(
    broker: Broker, request: AddPartitionsToTxnRequest, context: RequestContext
) -> AddPartitionsToTxnResponse:
    """Doors admit versions up to 3 of the Kafka protocol; from 4 on it is leaders of partitions that ask, or the gRPC
    door.
    """
    if context.node is None and (count := named(request)) > MAX_NAMED:
        logger.warning("a request adds too many partitions to a transaction", client=context.client_id, named=count)
        return too_many(request, context.api_version)
    method = partial(_add_partitions, broker)
    patience_ms = PATIENCE_MS if context.node is None else PATIENCE_WITH_NODES_MS
    ids = [request.v3_and_below_transactional_id, *(one.transactional_id for one in request.transactions)]
    return await _ask(_patiently(broker, method, ids, _some_are_refused, patience_ms), request, context)


def add_partitions_of_leader(
    broker: Broker,
    api_version: int,
    request: AddPartitionsToTxnRequest,
    done: Callable[[AddPartitionsToTxnResponse], None],
) -> None:
    """What leaders of partitions ask: other nodes, and this one itself."""
    method, ids = partial(_add_partitions, broker), [one.transactional_id for one in request.transactions]
    _patiently(broker, method, ids, _some_are_refused, PATIENCE_WITH_NODES_MS)(
        request, Caller("", 0, api_version), done
    )


def _add_partitions(
    broker: Broker,
    request: AddPartitionsToTxnRequest,
    caller: Caller,
    done: Callable[[AddPartitionsToTxnResponse], object],
) -> None:
    unknown = Unknown(broker.image, request, caller.api_version)
    if unknown.is_all:
        done(unknown.added_to(AddPartitionsToTxnResponse()))
    else:
        transaction_coordinator(broker).add_partitions(
            unknown.left, caller, lambda response: done(unknown.added_to(response))
        )


async def add_offsets_to_txn(
    broker: Broker, request: AddOffsetsToTxnRequest, context: RequestContext
) -> AddOffsetsToTxnResponse:
    method = transactions(broker).coordinator.add_offsets
    return await _ask(_patiently(broker, method, [request.transactional_id], _is_refused), request, context)


async def end_txn(broker: Broker, request: EndTxnRequest, context: RequestContext) -> EndTxnResponse:
    method = transactions(broker).coordinator.end_txn
    return await _ask(_patiently(broker, method, [request.transactional_id], _is_refused), request, context)


async def describe_transactions(
    broker: Broker, request: DescribeTransactionsRequest, context: RequestContext
) -> DescribeTransactionsResponse:
    return await _ask(transaction_coordinator(broker).describe, request, context)


async def list_transactions(
    broker: Broker, request: ListTransactionsRequest, context: RequestContext
) -> ListTransactionsResponse:
    return await _ask(transaction_coordinator(broker).list_transactions, request, context)


async def _ask(method: Method[Q, R], request: Q, context: RequestContext) -> R:
    future: asyncio.Future[R] = asyncio.get_running_loop().create_future()

    def done(response: R) -> None:
        if not future.done():  # the client may be gone
            future.set_result(response)

    waiting = method(request, Caller(context.client_id or "", context.connection_id, context.api_version), done)
    try:
        return await future
    finally:
        if waiting is not None:
            waiting.give_up()


def _patiently(
    broker: Broker,
    method: Method[Q, R],
    ids: Sequence[str],
    is_refused_for_now: Callable[[R], bool],
    patience_ms: float = PATIENCE_MS,
) -> Method[Q, R]:
    """As `method`, which waits until the transactions before have ended, and the shard is loaded."""

    def patient(request: Q, caller: Caller, done: Callable[[R], object]) -> Patient[R]:
        return Patient(
            broker.clock,
            transactions(broker).markers,
            attempt=partial(method, request, caller),
            ids=ids,
            is_refused_for_now=is_refused_for_now,
            patience_ms=patience_ms,
            done=done,
        )

    return patient


def _is_refused(response: InitProducerIdResponse | AddOffsetsToTxnResponse | EndTxnResponse) -> bool:
    return response.error_code in FOR_NOW


def _some_are_refused(response: AddPartitionsToTxnResponse) -> bool:
    topics = [*response.results_by_topic_v3_and_below]
    for result in response.results_by_transaction:
        topics += result.topic_results
    return any(
        partition.partition_error_code in FOR_NOW for topic in topics for partition in topic.results_by_partition
    )


# -- this node's coordinator


class _ImageTopics:
    """The topics of the broker's newest image."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def partition_count(self, name: str) -> int:
        topic = self._broker.image.topics.get(name)
        return 0 if topic is None else len(topic.partitions)


@dataclass(frozen=True, slots=True)
class Transactions:
    """A broker's part in transactions as a coordinator."""

    coordinator: TransactionCoordinator
    markers: TransactionMarkers


def transaction_coordinator(broker: Broker) -> TransactionCoordinator:
    """The coordinator of this broker."""
    return transactions(broker).coordinator


def transactions(broker: Broker) -> Transactions:
    """The coordinator of this broker, which follows its leaderships, and what brings its transactions to their end."""
    kept: Transactions | None = broker.extensions.get("transactions")
    if kept is not None:
        return kept
    markers = TransactionMarkers(broker.clock, lambda: broker.image, partial(_deliver_markers, broker))
    coordinator = TransactionCoordinator(
        config=_config(broker),
        clock=broker.clock,
        producer_ids=partial(_next_producer_id, broker),
        markers=markers,
        grants=partial(grant, broker),
        topics=_ImageTopics(broker),
        report=_report,
    )
    kept = broker.extensions["transactions"] = Transactions(coordinator, markers)
    leaderships = Leaderships(broker, TRANSACTION_STATE, coordinator)
    leaderships.follow()

    def changed(image: MetadataImage, delta: MetadataDelta) -> None:
        if TRANSACTION_STATE in delta.topics:
            leaderships.follow()
        if delta.topics:
            markers.topics_changed(delta.topics)

    broker.subscribe(changed)
    return kept


def _deliver_markers(
    broker: Broker, node: NodeId, request: WriteTxnMarkersRequest, done: Callable[[Answer], None]
) -> None:
    if node == broker.settings.node_id:
        write_markers(broker, request, done)
    else:
        broker.control.asking.ask(
            node, ApiKey.WRITE_TXN_MARKERS, MARKERS_VERSION, request, done, timeout_ms=MARKERS_TIMEOUT_MS
        )


def _next_producer_id(broker: Broker, done: Callable[[int | ApiError], None]) -> None:
    async def get() -> None:
        try:
            done(await producer_ids(broker).next())
        except ApiError as error:
            done(error)

    tasks: set[asyncio.Task[None]] = broker.extensions.setdefault("transactions' producer ids", set())
    task = asyncio.get_running_loop().create_task(get())
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _config(broker: Broker) -> TransactionConfig:
    integer = broker.configs.integer
    return TransactionConfig(
        transaction_max_timeout_ms=integer("transaction.max.timeout.ms"),
        transactional_id_expiration_ms=integer("transactional.id.expiration.ms"),
        transaction_abort_timed_out_transaction_cleanup_interval_ms=integer(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms"
        ),
        transaction_remove_expired_transaction_cleanup_interval_ms=integer(
            "transaction.remove.expired.transaction.cleanup.interval.ms"
        ),
    )


def _report(event: str, **fields: Any) -> None:
    if event == "coordinator_loaded":
        logger.debug(event, **fields)
    else:
        logger.error(event, **fields)

"""WriteTxnMarkers: appends the ends of transactions to partitions that this node leads (KIP-98, KIP-1228).

Coordinators ask for it, over the mesh or on the same node. Clients may only abort, as an operator does with a
transaction that nobody ends any more (KIP-664), and only what DescribeProducers showed them: a marker with an epoch,
or of a coordinator, that is yet to come would fence the coordinator's own marker, and its transaction could never be
completed. To commit is the coordinator's alone.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from ottla.broker.context import RequestContext
from ottla.broker.deadlines import Bucket
from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.results import Origin
from ottla.partitions.validation import refuse_clients
from ottla.protocol.messages.write_txn_markers_request import WritableTxnMarker, WriteTxnMarkersRequest
from ottla.protocol.messages.write_txn_markers_response import (
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersResponse,
)
from ottla.records.control import encode_end_transaction_marker

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

CONSUMER_OFFSETS: Final = "__consumer_offsets"
WAIT_MS: Final = 2_000.0
"""How long an answer waits for replicas. Then it tells which markers are committed; who asked asks again for the rest,
and a second marker does no harm.
"""

OPERATORS_PARTITIONS_MAX: Final = 1_000
"""In one request of a client, which names one. Four bytes of a request are a record on every replica."""

logger: Final = structlog.get_logger(__name__)

Done = Callable[[WriteTxnMarkersResponse], None]
Check = Callable[[WritableTxnMarker, str, int], None]


async def write_txn_markers(
    broker: "Broker", request: WriteTxnMarkersRequest, context: RequestContext
) -> WriteTxnMarkersResponse:
    """The handler; other nodes' requests and this one's come to `write_markers`.

    Raises ApiError for a client that names too many partitions.
    """
    if context.node is None and _count(request) > OPERATORS_PARTITIONS_MAX:
        what = f"more than {OPERATORS_PARTITIONS_MAX} partitions, named once or repeatedly"
        raise ApiError(ErrorCode.INVALID_REQUEST, f"{what}, in a request that writes a record to each of them")
    if context.node is None and any(marker.transaction_result for marker in request.markers):
        return _refused(request, ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    check = None if context.node is not None else partial(_check_operators, broker)
    written: asyncio.Future[WriteTxnMarkersResponse] = asyncio.get_running_loop().create_future()

    def done(response: WriteTxnMarkersResponse) -> None:
        if not written.done():
            written.set_result(response)

    write_markers(broker, request, done, check)
    return await written


def write_markers_of_coordinator(broker: "Broker", _: int, request: WriteTxnMarkersRequest, done: Done) -> None:
    """What the coordinator of transactions on another node asks for; in any version."""
    write_markers(broker, request, done)


def _count(request: WriteTxnMarkersRequest) -> int:
    return sum(len(topic.partition_indexes) for marker in request.markers for topic in marker.topics)


def _check_operators(broker: "Broker", marker: WritableTxnMarker, topic: str, index: int) -> None:
    """Raises ApiError for a mirror topic, and for what DescribeProducers does not show.

    A repeated abort passes: it does no harm.
    """
    partition = broker.replicas.leader(topic, index)
    refuse_clients(partition.config)
    producer = partition.producers.get(marker.producer_id)
    if producer is None or producer.epoch != marker.producer_epoch:
        raise ApiError(ErrorCode.INVALID_PRODUCER_EPOCH, "the partition knows of no such producer and epoch")
    if marker.coordinator_epoch > max(producer.coordinator_epoch, 0):
        what = f"the partition knows of no coordinator of epoch {marker.coordinator_epoch} for this producer"
        raise ApiError(ErrorCode.INVALID_REQUEST, what)


def write_markers(broker: "Broker", request: WriteTxnMarkersRequest, done: Done, check: Check | None = None) -> None:
    """Append all of them now; `done` when every partition's marker is committed, or will not be, or time is over.

    `check` raises ApiError for a marker that the partition must not take.
    """
    response = _refused(request, ErrorCode.REQUEST_TIMED_OUT)
    pending = _Pending(response, done)
    for marker, result in zip(request.markers, response.markers, strict=True):
        batch = _encoded(broker, marker)
        for topic in result.topics:
            for partition in topic.partitions:
                pending.outstanding += 1
                try:
                    if check is not None:
                        check(marker, topic.name, partition.partition_index)
                    took = partial(pending.took, partition)
                    _write(broker, marker, batch, topic.name, partition.partition_index, took)
                except ApiError as error:
                    pending.took(partition, error.code)
    pending.started(broker)


def _encoded(broker: "Broker", marker: WritableTxnMarker) -> bytes:
    return encode_end_transaction_marker(
        committed=marker.transaction_result,
        coordinator_epoch=marker.coordinator_epoch,
        producer_id=marker.producer_id,
        producer_epoch=marker.producer_epoch,
        timestamp_ms=broker.clock.time_ms(),
    )


def _write(
    broker: "Broker",
    marker: WritableTxnMarker,
    batch: bytes,
    topic: str,
    index: int,
    done: Callable[[ErrorCode], None],
) -> None:
    partition = broker.replicas.leader(topic, index)
    if topic == CONSUMER_OFFSETS:  # the offsets that the transaction holds become visible with the marker
        from ottla.broker.groups import group_coordinator

        group_coordinator(broker).complete_transaction(
            index,
            marker.producer_id,
            marker.producer_epoch,
            marker.coordinator_epoch,
            marker.transaction_result,
            marker.transaction_version,
            done,
        )
        return
    if partition.config.mirror_source:
        # A mirror since it was written to here: its log is the other cluster's, which ends what is open in it.
        logger.warning("a marker is dropped: the topic is a mirror now", partition=partition.name)
        partition.verifications.ended(marker.producer_id, marker.producer_epoch, marker.transaction_version)
        done(ErrorCode.NONE)
        return
    partition.append(
        memoryview(bytearray(batch)),
        acks=-1,
        done=done,
        origin=Origin.COORDINATOR,
        transaction_version=marker.transaction_version,
    )


class _Pending:
    """A request until all of its partitions have answered; hashed by identity."""

    __slots__ = ("_bucket", "_done", "outstanding", "response")

    def __init__(self, response: WriteTxnMarkersResponse, done: Done) -> None:
        self.response, self._done = response, done
        self.outstanding = 1  # the request itself, until everything is appended
        self._bucket: Bucket | None = None

    def took(self, result: WritableTxnMarkerPartitionResult, error: ErrorCode) -> None:
        if self.outstanding > 0:
            result.error_code = error
            self.outstanding -= 1
            if not self.outstanding:
                self._finish()

    def started(self, broker: "Broker") -> None:
        self.outstanding -= 1
        if self.outstanding:
            self._bucket = broker.deadlines.enter(self, WAIT_MS)
        else:
            self._finish()

    def expire(self) -> None:
        self.outstanding = 0
        self._bucket = None
        self._finish()

    def _finish(self) -> None:
        if self._bucket is not None:
            self._bucket.pop(self, None)
        self._done(self.response)


def _refused(request: WriteTxnMarkersRequest, code: ErrorCode) -> WriteTxnMarkersResponse:
    """An answer with this error for every partition."""
    return WriteTxnMarkersResponse(
        markers=[
            WritableTxnMarkerResult(
                producer_id=marker.producer_id,
                topics=[
                    WritableTxnMarkerTopicResult(
                        name=topic.name,
                        partitions=[
                            WritableTxnMarkerPartitionResult(partition_index=index, error_code=code)
                            for index in topic.partition_indexes
                        ],
                    )
                    for topic in marker.topics
                ],
            )
            for marker in request.markers
        ]
    )

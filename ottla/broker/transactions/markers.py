"""Brings the ends of transactions to the leaders of their partitions (KIP-98): implements the port `MarkerSender`.

    routed ── leader known ──▶ queued for its node ──▶ on its way ── written, or the topic is gone ──▶ told
      ▲                                                    │
      └── after a pause, or when the metadata change ◀─────┘  anything that may pass; also without a leader

What becomes known in one turn of the loop travels together, and while several requests are on their way to a node, more
gathers for the next one: an idle cluster waits for nothing, a busy one sends few requests. Requests reach a node in the
order in which they were sent, so no marker of a transaction can arrive after one of its successors.
"""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Final

from ottla.controller.image import NO_LEADER, MetadataImage
from ottla.coordinators.transactions.ports import EndedTransaction, TopicPartition
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock, Timer
from ottla.core.types import NodeId
from ottla.protocol.messages.write_txn_markers_request import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from ottla.protocol.messages.write_txn_markers_response import WriteTxnMarkersResponse

IN_FLIGHT: Final = 8  # requests to one node
MAX_MARKERS: Final = 500  # transactions in one request
RETRY_MS: Final = 20.0  # doubles ...
RETRY_MAX_MS: Final = 1_000.0  # ... up to this

FINAL: Final = frozenset({ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.TRANSACTION_COORDINATOR_FENCED})
"""What does not pass: the partition knows of a newer coordinator, or of a newer epoch of the producer."""

Answer = WriteTxnMarkersResponse | ApiError
Deliver = Callable[[NodeId, WriteTxnMarkersRequest, Callable[[Answer], None]], None]
"""Puts a request to a node, perhaps this one; exactly one answer comes back."""

Written = Callable[[list[TopicPartition]], None]
Failed = Callable[[ApiError], None]


class _Sending:
    """One transaction until all of its partitions have their marker. `attempts`: those that were in vain."""

    __slots__ = ("again", "attempts", "failed", "timer", "transaction", "waiting", "watchers", "written")

    def __init__(self, transaction: EndedTransaction, written: Written, failed: Failed) -> None:
        self.transaction, self.written, self.failed = transaction, written, failed
        self.waiting = set(transaction.partitions)
        self.again: set[TopicPartition] = set()  # when `timer` fires
        self.attempts = 0
        self.timer: Timer | None = None
        self.watchers: list[Callable[[], object]] = []


Batch = dict[_Sending, list[TopicPartition]]


class _Destination:
    """One node."""

    __slots__ = ("in_flight", "queue")

    def __init__(self) -> None:
        self.queue: Batch = {}
        self.in_flight = 0


class TransactionMarkers:
    """Those of one broker. `image`: the newest one; whoever owns this calls `topics_changed` after it changed."""

    def __init__(self, clock: Clock, image: Callable[[], MetadataImage], deliver: Deliver) -> None:
        self._clock, self._image, self._deliver = clock, image, deliver
        self._sendings: dict[str, _Sending] = {}
        self._destinations: dict[NodeId, _Destination] = {}
        self._unrouted: Batch = {}

    def __len__(self) -> int:
        """How many transactions wait for markers."""
        return len(self._sendings)

    def send(self, transaction: EndedTransaction, written: Written, failed: Failed) -> None:
        """See `MarkerSender`."""
        self.cancel(transaction.transactional_id)
        sending = self._sendings[transaction.transactional_id] = _Sending(transaction, written, failed)
        self._route_soon(sending, transaction.partitions)

    def cancel(self, transactional_id: str) -> None:
        """See `MarkerSender`."""
        sending = self._sendings.get(transactional_id)
        if sending is not None:
            self._end(sending)

    def when_ended(self, transactional_id: str, callback: Callable[[], object]) -> bool:
        """Call `callback` when nothing is sent for this transaction any more, after whoever had it sent was told; in a
        later turn of the loop. False when nothing is sent now.
        """
        sending = self._sendings.get(transactional_id)
        if sending is not None:
            sending.watchers.append(callback)
        return sending is not None

    def topics_changed(self, names: Collection[str]) -> None:
        """These topics have other leaders, or are gone: what waits for a pause to end goes on at once."""
        for sending in self._sendings.values():
            if any(topic in names for topic, _ in sending.again):
                self._again(sending)

    # -- where to

    def _route_soon(self, sending: _Sending, partitions: Iterable[TopicPartition]) -> None:
        if not self._unrouted:
            self._clock.call_soon(self._route)
        self._unrouted.setdefault(sending, []).extend(partitions)

    def _route(self) -> None:
        unrouted, self._unrouted = self._unrouted, {}
        touched: dict[NodeId, _Destination] = {}
        for sending, partitions in unrouted.items():
            if not self._is_wanted(sending):
                continue
            gone, leaderless = [], []
            for topic_partition in partitions:
                leader = self._leader(topic_partition)
                if leader is None:
                    gone.append(topic_partition)
                elif leader == NO_LEADER:
                    leaderless.append(topic_partition)
                else:
                    destination = touched[leader] = self._destinations.setdefault(leader, _Destination())
                    destination.queue.setdefault(sending, []).append(topic_partition)
            if gone or not partitions:
                self._tell(sending, gone)
            self._later(sending, leaderless)
        for node, destination in touched.items():
            self._dispatch(node, destination)

    def _leader(self, topic_partition: TopicPartition) -> NodeId | None:
        """None when there is no such partition any more.

        There is no such partition *yet* never happens: it became part of the transaction when this node, or a leader
        before it, knew of it; and a coordinator's leadership is younger in the metadata than what its predecessors saw.
        """
        name, index = topic_partition
        topic = self._image().topics.get(name)
        if topic is None or index >= len(topic.partitions):
            return None
        return topic.partitions[index].leader

    # -- on their way

    def _dispatch(self, node: NodeId, destination: _Destination) -> None:
        while destination.queue and destination.in_flight < IN_FLIGHT:
            batch: Batch = {}
            for sending in list(destination.queue)[:MAX_MARKERS]:
                partitions = destination.queue.pop(sending)
                if self._is_wanted(sending):
                    batch[sending] = partitions
            if batch:
                destination.in_flight += 1
                request = WriteTxnMarkersRequest(markers=[_marker(one.transaction, batch[one]) for one in batch])
                self._deliver(node, request, partial(self._answered, node, batch))

    def _answered(self, node: NodeId, batch: Batch, answer: Answer) -> None:
        destination = self._destinations[node]
        destination.in_flight -= 1
        results = _results(answer)
        for place, (sending, partitions) in enumerate(batch.items()):
            if self._is_wanted(sending):
                self._take(sending, partitions, results[place] if place < len(results) else {})
        self._dispatch(node, destination)

    def _take(self, sending: _Sending, partitions: list[TopicPartition], errors: dict[TopicPartition, int]) -> None:
        written: list[TopicPartition] = []
        again: list[TopicPartition] = []
        for topic_partition in partitions:
            error = errors.get(topic_partition, ErrorCode.NETWORK_EXCEPTION)
            if error in FINAL:
                name, index = topic_partition
                sending.failed(ApiError(ErrorCode(error), f"the marker of {name}-{index} was refused"))
                self._end(sending)
                return
            (again if error else written).append(topic_partition)
        self._later(sending, again)
        if written:
            self._tell(sending, written)

    # -- what becomes of them

    def _tell(self, sending: _Sending, written: list[TopicPartition]) -> None:
        sending.waiting.difference_update(written)
        sending.written(written)
        if not sending.waiting:
            self._end(sending)

    def _end(self, sending: _Sending) -> None:
        if not self._is_wanted(sending):
            return  # what it was told had it sent anew
        del self._sendings[sending.transaction.transactional_id]
        if sending.timer is not None:
            sending.timer.cancel()
        for watcher in sending.watchers:
            self._clock.call_soon(watcher)

    def _later(self, sending: _Sending, partitions: list[TopicPartition]) -> None:
        if not partitions:
            return
        sending.again.update(partitions)
        if sending.timer is None:
            delay_ms = min(RETRY_MS * 2**sending.attempts, RETRY_MAX_MS)
            sending.attempts += 1
            sending.timer = self._clock.call_later(delay_ms, self._again, sending)

    def _again(self, sending: _Sending) -> None:
        if sending.timer is not None:
            sending.timer.cancel()
            sending.timer = None
        partitions, sending.again = sorted(sending.again), set()
        self._route_soon(sending, partitions)

    def _is_wanted(self, sending: _Sending) -> bool:
        return self._sendings.get(sending.transaction.transactional_id) is sending


def _marker(transaction: EndedTransaction, partitions: list[TopicPartition]) -> WritableTxnMarker:
    topics: dict[str, list[Any]] = {}
    for name, index in partitions:
        topics.setdefault(name, []).append(index)
    return WritableTxnMarker(
        producer_id=transaction.producer_id,
        producer_epoch=transaction.producer_epoch,
        transaction_result=transaction.committed,
        topics=[WritableTxnMarkerTopic(name=name, partition_indexes=indexes) for name, indexes in topics.items()],
        coordinator_epoch=transaction.coordinator_epoch,
        transaction_version=transaction.transaction_version,
    )


def _results(answer: Answer) -> list[dict[TopicPartition, int]]:
    """Error codes of each marker's partitions, in the order of the request; nothing when there is no answer."""
    if isinstance(answer, ApiError):
        return []
    return [
        {
            (topic.name, partition.partition_index): partition.error_code
            for topic in marker.topics
            for partition in topic.partitions
        }
        for marker in answer.markers
    ]

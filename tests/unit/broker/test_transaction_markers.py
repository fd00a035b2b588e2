"""Markers reach the leaders of all partitions of a transaction, together where they can, and until they have them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.transactions.markers import IN_FLIGHT, RETRY_MAX_MS, Answer, TransactionMarkers
from ottla.controller.image import MetadataImage
from ottla.coordinators.transactions.ports import EndedTransaction, TopicPartition
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.protocol.messages.write_txn_markers_request import WriteTxnMarkersRequest
from ottla.protocol.messages.write_txn_markers_response import (
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersResponse,
)
from ottla.testing.sim.clock import SimClock

ONE, TWO = NodeId(1), NodeId(2)


@dataclass
class Sent:
    """A request on its way; markers as (producer id, partitions)."""

    node: NodeId
    request: WriteTxnMarkersRequest
    done: Callable[[Answer], None]

    @property
    def shown(self) -> tuple[int, list[tuple[int, list[str]]]]:
        return self.node, [
            (
                marker.producer_id,
                [f"{topic.name}-{index}" for topic in marker.topics for index in topic.partition_indexes],
            )
            for marker in self.request.markers
        ]

    def answer(self, **errors: ErrorCode) -> None:
        """`t0=…`: the error of partition t-0; NONE for the others."""
        self.done(
            WriteTxnMarkersResponse(
                markers=[
                    WritableTxnMarkerResult(
                        producer_id=marker.producer_id,
                        topics=[
                            WritableTxnMarkerTopicResult(
                                name=topic.name,
                                partitions=[
                                    WritableTxnMarkerPartitionResult(
                                        partition_index=index, error_code=errors.get(f"{topic.name}{index}", 0)
                                    )
                                    for index in topic.partition_indexes
                                ],
                            )
                            for topic in marker.topics
                        ],
                    )
                    for marker in self.request.markers
                ]
            )
        )


@dataclass
class Outcome:
    """What the coordinator was told of one transaction."""

    written: list[TopicPartition] = field(default_factory=list)
    failed: list[ErrorCode] = field(default_factory=list)


class Rig:
    """Topic t: partition 0 led by ONE, 1 by TWO, 2 by nobody."""

    def __init__(self) -> None:
        self.clock = SimClock()
        self.leaders: dict[str, list[int]] = {"t": [1, 2, -1]}
        self.sent: list[Sent] = []
        self.markers = TransactionMarkers(
            self.clock, self.image, lambda node, request, done: self.sent.append(Sent(node, request, done))
        )

    def image(self) -> MetadataImage:
        topics = {
            name: SimpleNamespace(partitions=tuple(SimpleNamespace(leader=NodeId(leader)) for leader in leaders))
            for name, leaders in self.leaders.items()
        }
        return cast(MetadataImage, SimpleNamespace(topics=topics))

    def send(self, producer_id: int, *partitions: int, transactional_id: str = "", committed: bool = True) -> Outcome:
        outcome = Outcome()
        transaction = EndedTransaction(
            transactional_id=transactional_id or f"id {producer_id}",
            producer_id=producer_id,
            producer_epoch=3,
            coordinator_epoch=5,
            committed=committed,
            partitions=tuple(("t", index) for index in partitions),
            transaction_version=2,
        )
        self.markers.send(transaction, outcome.written.extend, lambda error: outcome.failed.append(error.code))
        return outcome

    def shown(self) -> list[Any]:
        """What was sent since the last look."""
        self.clock.run_for(0)
        sent = [one.shown for one in self.sent[self._seen :]]
        self._seen = len(self.sent)
        return sent

    _seen = 0


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_markers_of_one_turn_travel_together_to_each_node(rig: Rig) -> None:
    first, second = rig.send(1, 0, 1), rig.send(2, 0, committed=False)
    assert rig.sent == []
    assert rig.shown() == [(1, [(1, ["t-0"]), (2, ["t-0"])]), (2, [(1, ["t-1"])])]
    marker, aborted = rig.sent[0].request.markers
    assert (marker.producer_epoch, marker.coordinator_epoch, marker.transaction_version) == (3, 5, 2)
    assert (marker.transaction_result, aborted.transaction_result) == (True, False)
    rig.sent[0].answer()
    assert (first.written, second.written, len(rig.markers)) == ([("t", 0)], [("t", 0)], 1)
    rig.sent[1].answer()
    assert (first.written, first.failed, len(rig.markers)) == ([("t", 0), ("t", 1)], [], 0)


def test_a_busy_node_gets_few_requests_of_many_markers(rig: Rig) -> None:
    for producer in range(IN_FLIGHT + 5):
        rig.send(producer, 0)
        rig.clock.run_for(0)
    assert [len(one.request.markers) for one in rig.sent] == [1] * IN_FLIGHT
    rig.sent[3].answer()
    assert [len(one.request.markers) for one in rig.sent[IN_FLIGHT:]] == [5]


def test_what_may_pass_is_sent_again_where_the_partition_is_led_then(rig: Rig) -> None:
    outcome = rig.send(1, 0, 1)
    rig.shown()
    rig.sent[0].answer(t0=ErrorCode.NOT_LEADER_OR_FOLLOWER)
    rig.sent[1].done(ApiError(ErrorCode.NETWORK_EXCEPTION))
    assert (outcome.written, rig.shown()) == ([], [])
    rig.leaders["t"] = [2, 1, -1]
    rig.clock.run_for(RETRY_MAX_MS)
    assert rig.shown() == [(2, [(1, ["t-0"])]), (1, [(1, ["t-1"])])]
    rig.sent[2].answer()
    rig.sent[3].answer()
    assert sorted(outcome.written) == [("t", 0), ("t", 1)]


def test_pauses_grow_but_end_with_a_change_of_the_metadata(rig: Rig) -> None:
    outcome = rig.send(1, 2)
    rig.clock.run_for(10 * RETRY_MAX_MS)
    assert rig.sent == []
    rig.leaders["t"][2] = 2
    rig.markers.topics_changed({"another"})
    assert rig.shown() == []
    rig.markers.topics_changed({"t"})
    assert rig.shown() == [(2, [(1, ["t-2"])])]
    rig.sent[0].answer()
    assert (outcome.written, len(rig.markers)) == ([("t", 2)], 0)


def test_pauses_are_longer_the_longer_it_takes(rig: Rig) -> None:
    rig.send(1, 0)
    at: list[float] = []
    for _ in range(9):
        count = len(rig.sent)
        while len(rig.sent) == count:
            rig.clock.run_for(5)
        at.append(rig.clock.monotonic_ms())
        rig.sent[-1].answer(t0=ErrorCode.NOT_ENOUGH_REPLICAS)
    pauses = [after - before for before, after in itertools.pairwise(at)]
    assert pauses == sorted(pauses)
    assert 20 <= pauses[0] <= 30
    assert RETRY_MAX_MS <= pauses[-1] <= RETRY_MAX_MS + 10


@pytest.mark.parametrize("leaders", [{}, {"t": [1]}])
def test_a_partition_that_is_gone_counts_as_written(rig: Rig, leaders: dict[str, list[int]]) -> None:
    rig.leaders = leaders
    outcome = rig.send(1, 1)
    rig.clock.run_for(0)
    assert (outcome.written, rig.sent, len(rig.markers)) == ([("t", 1)], [], 0)


def test_a_transaction_without_partitions_is_done(rig: Rig) -> None:
    rig.send(1)
    rig.clock.run_for(0)
    assert len(rig.markers) == 0


@pytest.mark.parametrize("error", [ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.TRANSACTION_COORDINATOR_FENCED])
def test_what_does_not_pass_ends_it(rig: Rig, error: ErrorCode) -> None:
    outcome = rig.send(1, 0, 1)
    rig.shown()
    rig.sent[1].answer(t1=error)
    rig.sent[0].answer()
    rig.clock.run_for(10 * RETRY_MAX_MS)
    assert (outcome.written, outcome.failed, len(rig.sent)) == ([], [error], 2)


def test_after_a_cancel_nothing_is_sent_or_told(rig: Rig) -> None:
    unsent, on_its_way, again = rig.send(1, 0), rig.send(2, 1), rig.send(3, 1)
    rig.markers.cancel("id 1")
    rig.shown()
    rig.markers.cancel("id 2")
    rig.sent[0].answer(t1=ErrorCode.NOT_ENOUGH_REPLICAS)
    rig.markers.cancel("id 3")
    rig.clock.run_for(10 * RETRY_MAX_MS)
    assert [one.shown for one in rig.sent] == [(2, [(2, ["t-1"]), (3, ["t-1"])])]
    assert all(one == Outcome() for one in (unsent, on_its_way, again))


def test_a_second_transaction_of_an_id_takes_the_place_of_the_first(rig: Rig) -> None:
    first = rig.send(1, 0, transactional_id="x")
    rig.shown()
    second = rig.send(1, 0, transactional_id="x")
    rig.shown()
    rig.sent[0].answer()
    assert (first.written, second.written) == ([], [])
    rig.sent[1].answer()
    assert (first.written, second.written) == ([], [("t", 0)])


def test_who_waits_for_the_end_hears_of_it_after_the_coordinator(rig: Rig) -> None:
    heard: list[object] = []
    assert not rig.markers.when_ended("id 1", lambda: heard.append("too early"))
    outcome = rig.send(1, 0, 1)
    assert rig.markers.when_ended("id 1", lambda: heard.append(list(outcome.written)))
    rig.shown()
    rig.sent[0].answer()
    rig.clock.run_for(0)
    assert heard == []
    rig.sent[1].answer()
    assert heard == []
    rig.clock.run_for(0)
    assert heard == [[("t", 0), ("t", 1)]]


@pytest.mark.parametrize("how", ["failed", "cancelled", "replaced"])
def test_who_waits_hears_also_of_another_end(rig: Rig, how: str) -> None:
    heard: list[str] = []
    rig.send(1, 0)
    rig.markers.when_ended("id 1", lambda: heard.append("ended"))
    rig.shown()
    if how == "failed":
        rig.sent[0].answer(t0=ErrorCode.INVALID_PRODUCER_EPOCH)
    elif how == "cancelled":
        rig.markers.cancel("id 1")
    else:
        rig.send(1, 0)
    rig.clock.run_for(0)
    assert heard == ["ended"]

"""Questions about transactions go to their coordinators, many in one request, and come back in Produce's terms."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.transactions.verification import PATIENCE_MS, TRANSACTION_STATE, Answer, Verification
from ottla.controller.image import MetadataImage
from ottla.coordinators.partitioning import coordinator_partition
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.protocol.messages.add_partitions_to_txn_request import AddPartitionsToTxnRequest
from ottla.protocol.messages.add_partitions_to_txn_response import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult,
)
from ottla.testing.sim.clock import SimClock


class Rig:
    """`leaders`: of the two partitions of `__transaction_state`; `code`: what coordinators answer, by partition."""

    def __init__(self) -> None:
        self.clock = SimClock()
        self.leaders: list[int] = [1, 2]
        self.sent: list[tuple[int, Any]] = []
        self.done: dict[str, ErrorCode] = {}
        self.code: Callable[[str, int], int] = lambda topic, index: 0
        self.refusal: ApiError | None = None
        self.verification = Verification(self.clock, self.image, self.deliver)

    def image(self) -> MetadataImage:
        partitions = tuple(SimpleNamespace(leader=NodeId(leader)) for leader in self.leaders)
        topics = {TRANSACTION_STATE: SimpleNamespace(partitions=partitions)} if partitions else {}
        return cast(MetadataImage, SimpleNamespace(topics=topics))

    def deliver(
        self, node: NodeId, version: int, request: AddPartitionsToTxnRequest, done: Callable[[Answer], None]
    ) -> None:
        read, _ = AddPartitionsToTxnRequest.decode(request.encode(version), version)
        self.sent.append(
            (
                node,
                [
                    (
                        one.transactional_id,
                        one.producer_epoch,
                        one.verify_only,
                        *tuple(f"{topic.name}-{index}" for topic in one.topics for index in topic.partitions),
                    )
                    for one in read.transactions
                ],
            )
        )
        self.clock.call_later(1, done, self.refusal or self.response(read))

    def response(self, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse:
        return AddPartitionsToTxnResponse(
            results_by_transaction=[
                AddPartitionsToTxnResult(
                    transactional_id=one.transactional_id,
                    topic_results=[
                        AddPartitionsToTxnTopicResult(
                            name=topic.name,
                            results_by_partition=[
                                AddPartitionsToTxnPartitionResult(
                                    partition_index=index, partition_error_code=self.code(topic.name, index)
                                )
                                for index in topic.partitions
                            ],
                        )
                        for topic in one.topics
                    ],
                )
                for one in request.transactions
            ]
        )

    def ask(self, name: str, transactional_id: str, index: int, *, epoch: int = 0, verify_only: bool = False) -> None:
        self.verification.ask(
            transactional_id, 7, epoch, "t", index, verify_only, lambda code: self.done.__setitem__(name, code)
        )


@pytest.fixture
def rig() -> Rig:
    return Rig()


HERE, THERE = (next(i for i in "abcdef" if coordinator_partition(i, 2) == partition) for partition in (0, 1))


def test_questions_of_one_turn_travel_together_to_each_coordinator(rig: Rig) -> None:
    rig.code = lambda topic, index: ErrorCode.INVALID_TXN_STATE if index == 1 else 0
    rig.ask("a", HERE, 0)
    rig.ask("b", HERE, 1)
    rig.ask("c", THERE, 2, verify_only=True)
    assert rig.sent == []
    rig.clock.run_for(5)
    assert rig.sent == [(1, [(HERE, 0, False, "t-0", "t-1")]), (2, [(THERE, 0, True, "t-2")])]
    assert rig.done == {"a": ErrorCode.NONE, "b": ErrorCode.INVALID_TXN_STATE, "c": ErrorCode.NONE}


def test_no_request_holds_two_producers_of_one_id(rig: Rig) -> None:
    rig.ask("a", HERE, 0)
    rig.ask("b", HERE, 1, epoch=1)
    rig.ask("c", HERE, 2, verify_only=True)
    rig.ask("d", HERE, 3)
    rig.clock.run_for(5)
    assert rig.sent == [
        (1, [(HERE, 0, False, "t-0", "t-3")]),
        (1, [(HERE, 1, False, "t-1")]),
        (1, [(HERE, 0, True, "t-2")]),
    ]
    assert len(rig.done) == 4


def test_a_transaction_that_is_being_ended_is_asked_for_again(rig: Rig) -> None:
    codes = iter([ErrorCode.CONCURRENT_TRANSACTIONS] * 2 + [ErrorCode.NONE])
    rig.code = lambda topic, index: next(codes)
    rig.ask("a", HERE, 0)
    rig.clock.run_for(15)
    assert (len(rig.sent), rig.done) == (3, {"a": ErrorCode.NONE})


def test_but_not_for_ever(rig: Rig) -> None:
    rig.code = lambda topic, index: ErrorCode.CONCURRENT_TRANSACTIONS
    rig.ask("a", HERE, 0)
    rig.clock.run_for(PATIENCE_MS - 50)
    assert rig.done == {}
    rig.clock.run_for(100)
    assert rig.done == {"a": ErrorCode.CONCURRENT_TRANSACTIONS}


@pytest.mark.parametrize("leaders", [[], [-1, -1]])
def test_without_a_coordinator_the_producer_is_to_try_again(rig: Rig, leaders: list[int]) -> None:
    rig.leaders = leaders
    rig.ask("a", HERE, 0)
    assert rig.done == {}
    rig.clock.run_for(1)
    assert rig.done == {"a": ErrorCode.NOT_ENOUGH_REPLICAS}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (ErrorCode.NETWORK_EXCEPTION, ErrorCode.NOT_ENOUGH_REPLICAS),
        (ErrorCode.NOT_COORDINATOR, ErrorCode.NOT_ENOUGH_REPLICAS),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.NOT_ENOUGH_REPLICAS),
        (ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH),
        (ErrorCode.TRANSACTION_ABORTABLE, ErrorCode.INVALID_TXN_STATE),
        (ErrorCode.INVALID_PRODUCER_ID_MAPPING, ErrorCode.INVALID_PRODUCER_ID_MAPPING),
    ],
)
def test_errors_are_told_in_terms_of_produce(rig: Rig, code: ErrorCode, told: ErrorCode) -> None:
    rig.code = lambda topic, index: code
    rig.ask("answered", HERE, 0)
    rig.clock.run_for(5)
    rig.refusal = ApiError(code)
    rig.ask("refused", HERE, 0)
    rig.clock.run_for(5)
    assert rig.done == {"answered": told, "refused": told}


def test_a_partition_that_the_answer_does_not_name_is_asked_for_again_by_the_producer(rig: Rig) -> None:
    rig.response = lambda request: AddPartitionsToTxnResponse()  # type: ignore[method-assign]
    rig.ask("a", HERE, 0)
    rig.clock.run_for(5)
    assert rig.done == {"a": ErrorCode.NOT_ENOUGH_REPLICAS}

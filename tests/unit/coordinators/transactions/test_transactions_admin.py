"""DescribeTransactions and ListTransactions."""

import re

import pytest

from ottla.coordinators.groups.consumer.expressions import Matcher
from ottla.coordinators.transactions import service
from ottla.coordinators.transactions.ports import Caller
from ottla.coordinators.transactions.states import TRANSITIONS, TransactionState
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.list_transactions_request import ListTransactionsRequest
from tests.unit.coordinators.transactions.transaction_fakes import FIRST_ID, JOBS, OTHER_JOBS, Node

PID = FIRST_ID


def test_a_transaction_is_described() -> None:
    node = Node()
    producer = node.producer()
    node.add(producer, OTHER_JOBS, ("a", 3), JOBS)
    described, unknown, empty = node.describe("t", "u", "")
    assert (described.error_code, described.transactional_id, described.transaction_state) == (0, "t", "Ongoing")
    assert (described.producer_id, described.producer_epoch) == producer
    assert described.transaction_timeout_ms == 60_000
    assert described.transaction_start_time_ms == node.clock.time_ms()
    assert [(topic.topic, topic.partitions) for topic in described.topics] == [("a", [3]), ("jobs", [0, 1])]
    assert (unknown.transactional_id, unknown.error_code) == ("u", ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
    assert empty.error_code == ErrorCode.INVALID_REQUEST


def test_what_another_node_coordinates_is_not_described() -> None:
    node = Node()
    node.coordinator.resign(0)
    (state,) = node.describe("t")
    assert state.error_code == ErrorCode.NOT_COORDINATOR


def _names(response: object) -> list[str]:
    states = response.transaction_states  # type: ignore[attr-defined]
    return [f"{state.transactional_id} {state.producer_id} {state.transaction_state}" for state in states]


def test_transactions_are_listed_by_state_producer_and_duration() -> None:
    node = Node()
    node.producer("idle")
    busy = node.producer("busy")
    node.add(busy, transactional_id="busy")
    node.run(1_000)
    assert _names(node.list()) == [f"idle {PID} Empty", f"busy {PID + 1} Ongoing"]
    assert _names(node.list(producer_id_filters=[PID + 1, 7])) == [f"busy {PID + 1} Ongoing"]
    assert _names(node.list(duration_filter=999)) == [f"busy {PID + 1} Ongoing"]
    assert _names(node.list(duration_filter=1_000)) == []
    response = node.list(state_filters=["Empty", "Nonsense", "PrepareEpochFence"])
    assert _names(response) == [f"idle {PID} Empty"]
    assert response.unknown_state_filters == ["Nonsense"]


def test_transactions_are_listed_by_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_pattern(pattern: str) -> Matcher:
        if pattern == "(":
            raise ApiError(ErrorCode.INVALID_REGULAR_EXPRESSION)
        return re.compile(pattern).fullmatch

    monkeypatch.setattr(service, "compile_re2", compile_pattern)
    node = Node()
    for name in ("orders-1", "orders-2", "billing-1"):
        node.init(name)
    assert _names(node.list(transactional_id_pattern="orders-.*")) == [
        f"orders-1 {PID} Empty",
        f"orders-2 {PID + 1} Empty",
    ]
    assert _names(node.list(transactional_id_pattern="orders")) == []
    assert len(_names(node.list(transactional_id_pattern=""))) == 3
    assert node.list(transactional_id_pattern="(").error_code == ErrorCode.INVALID_REGULAR_EXPRESSION


def test_a_shard_that_loads_makes_the_list_incomplete() -> None:
    node = Node()
    node.coordinator.lead(1, node.log, 1)
    answer: list[object] = []
    node.coordinator.list_transactions(ListTransactionsRequest(), Caller("admin", 1, 1), answer.append)
    (response,) = answer
    assert response.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("state", "label"),
    [
        (TransactionState.EMPTY, "Empty"),
        (TransactionState.PREPARE_COMMIT, "PrepareCommit"),
        (TransactionState.COMPLETE_ABORT, "CompleteAbort"),
    ],
)
def test_states_have_kafkas_names(state: TransactionState, label: str) -> None:
    assert state.label == label


def test_every_state_says_where_it_leads() -> None:
    assert set(TRANSITIONS) == {None, *TransactionState}

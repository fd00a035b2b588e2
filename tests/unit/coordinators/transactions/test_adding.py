"""AddPartitionsToTxn and AddOffsetsToTxn, from clients and from brokers."""

from typing import Any

import pytest

from ottla.coordinators.partitioning import coordinator_partition
from ottla.coordinators.transactions.ports import Caller
from ottla.coordinators.transactions.service import CONSUMER_OFFSETS
from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import Producer
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.add_partitions_to_txn_request import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.transactions.transaction_fakes import FIRST_ID, JOBS, OTHER_JOBS, Node

PID = FIRST_ID
S = TransactionState


@pytest.mark.parametrize(("version", "client_version"), [(0, 0), (3, 0), (4, 2), (5, 2)])
def test_the_first_partition_begins_a_transaction(version: int, client_version: int) -> None:
    node = Node()
    producer = node.producer()
    node.run(500)
    assert node.add(producer, version=version) == [ErrorCode.NONE]
    transaction = node.transaction()
    assert transaction.state is S.ONGOING
    assert transaction.partitions == {JOBS}
    assert transaction.client_version == client_version
    assert transaction.start_ms == node.clock.time_ms()
    node.run(500)
    node.add(producer, OTHER_JOBS, version=version)
    assert node.transaction().partitions == {JOBS, OTHER_JOBS}
    assert node.transaction().start_ms == transaction.start_ms
    assert node.transaction().last_update_ms == transaction.start_ms + 500


@pytest.mark.parametrize("version", [0, 3])
def test_what_a_client_added_is_granted_once_it_is_committed(version: int) -> None:
    node = Node()
    producer = node.producer()
    node.log.auto_commit = False
    answer = node.adding(producer, JOBS, OTHER_JOBS, version=version)
    assert node.grants == []
    node.log.commit()
    node.run()
    assert node.added(answer.take(), version) == {JOBS: ErrorCode.NONE, OTHER_JOBS: ErrorCode.NONE}
    assert node.grants == [(producer.id, producer.epoch, node.epoch, {JOBS, OTHER_JOBS})]


def test_what_is_refused_or_added_by_a_leader_is_not_granted() -> None:
    node = Node()
    producer = node.producer()
    assert node.add(Producer(producer.id, producer.epoch + 1), version=3) != [ErrorCode.NONE]
    assert node.add(producer, version=5) == [ErrorCode.NONE]
    assert node.grants == []


def test_what_is_there_already_is_not_written_again() -> None:
    node = Node()
    producer = node.producer()
    node.add(producer, JOBS, OTHER_JOBS)
    assert node.add(producer, OTHER_JOBS, JOBS) == [ErrorCode.NONE, ErrorCode.NONE]
    assert node.states() == [S.EMPTY, S.ONGOING]


def test_nothing_to_add_begins_no_transaction() -> None:
    node = Node()
    producer = node.producer()
    answer = Answer()
    request = AddPartitionsToTxnRequest(v3_and_below_transactional_id="t", v3_and_below_producer_id=producer.id)
    node.coordinator.add_partitions(request, Caller("client", 1, 3), answer)
    assert answer.take().results_by_topic_v3_and_below == []
    assert node.state() is S.EMPTY


@pytest.mark.parametrize("verify_only", [True, False])
@pytest.mark.parametrize("version", [3, 4, 5])
def test_only_the_present_producer_may(version: int, verify_only: bool) -> None:
    node = Node()
    arguments: dict[str, Any] = {"version": version, "verify_only": verify_only and version > 3}
    mapping, fenced = [ErrorCode.INVALID_PRODUCER_ID_MAPPING], [ErrorCode.PRODUCER_FENCED]
    assert node.add((PID, 0), JOBS, **arguments) == mapping
    node.producer()
    assert node.add((PID + 1, 0), JOBS, **arguments) == mapping
    assert node.add((PID, 1), JOBS, **arguments) == fenced
    assert node.add_offsets((PID + 1, 0)) is mapping[0]
    assert node.add_offsets((PID, 1)) is fenced[0]
    assert node.states() == [S.EMPTY]


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_the_error_of_a_fenced_producer_is_one_that_its_version_knows(version: int) -> None:
    node = Node()
    node.producer()
    expected = ErrorCode.PRODUCER_FENCED if version >= 2 else ErrorCode.INVALID_PRODUCER_EPOCH
    assert node.add((PID, 1), version=version) == [expected]
    assert node.add_offsets((PID, 1), version=version) is expected


@pytest.mark.parametrize("version", [3, 5])
def test_while_an_end_is_prepared_nothing_is_added(version: int) -> None:
    node = Node()
    node.markers.hold = True
    producer = node.producer()
    node.add(producer, version=version)
    node.end(producer, version=4)
    assert node.add(producer, version=version) == [ErrorCode.CONCURRENT_TRANSACTIONS]
    assert node.add_offsets(producer) is ErrorCode.CONCURRENT_TRANSACTIONS


def test_the_partition_of_a_group_becomes_part_of_the_transaction() -> None:
    node = Node()
    producer = node.producer()
    assert node.add_offsets(producer, "some-group") is ErrorCode.NONE
    assert node.transaction().partitions == {(CONSUMER_OFFSETS, coordinator_partition("some-group", 3))}
    assert node.transaction().state is S.ONGOING


def test_without_the_topic_of_groups_there_is_no_partition_to_add() -> None:
    node = Node()
    producer = node.producer()
    del node.topics.counts[CONSUMER_OFFSETS]
    assert node.add_offsets(producer) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert node.state() is S.EMPTY


# --- verification


@pytest.mark.parametrize(
    ("version", "absent"), [(4, ErrorCode.INVALID_TXN_STATE), (5, ErrorCode.TRANSACTION_ABORTABLE)]
)
def test_a_leader_is_told_which_partitions_are_part_of_the_transaction(version: int, absent: ErrorCode) -> None:
    node = Node()
    producer = node.producer()
    arguments: dict[str, Any] = {"version": version, "verify_only": True}
    assert node.add(producer, JOBS, **arguments) == [absent]
    node.add(producer, JOBS, version=3)
    assert node.add(producer, JOBS, OTHER_JOBS, **arguments) == [ErrorCode.NONE, absent]
    assert node.states() == [S.EMPTY, S.ONGOING], "verification changes nothing"
    node.end(producer, version=4)
    assert node.add(producer, JOBS, **arguments) == [absent]


def test_a_verification_waits_until_what_it_saw_is_committed() -> None:
    node = Node()
    producer = node.producer()
    node.log.auto_commit = False
    node.adding(producer, version=3)
    verification = node.adding(producer, verify_only=True)
    assert not verification.arrived
    node.log.commit()
    assert verification.arrived


def test_a_broker_asks_for_several_transactions_at_once() -> None:
    node = Node()
    producers = {name: node.producer(name) for name in ("t", "u")}
    node.add(producers["u"], JOBS, transactional_id="u", version=3)
    topics = [AddPartitionsToTxnTopic(name="jobs", partitions=[0, 1])]
    request = AddPartitionsToTxnRequest(
        transactions=[
            AddPartitionsToTxnTransaction(
                transactional_id=name, producer_id=producer_id, verify_only=verify_only, topics=topics
            )
            for name, producer_id, verify_only in (
                ("t", producers["t"].id, False),
                ("u", producers["u"].id, True),
                ("v", 1, False),
                ("", 1, False),
            )
        ]
    )
    answer = Answer()
    node.coordinator.add_partitions(request, Caller("broker", 1, 5), answer)
    node.run()
    found = {
        result.transactional_id: [
            (topic.name, item.partition_index, ErrorCode(item.partition_error_code))
            for topic in result.topic_results
            for item in topic.results_by_partition
        ]
        for result in answer.take().results_by_transaction
    }
    assert found == {
        "t": [("jobs", 0, ErrorCode.NONE), ("jobs", 1, ErrorCode.NONE)],
        "u": [("jobs", 0, ErrorCode.NONE), ("jobs", 1, ErrorCode.TRANSACTION_ABORTABLE)],
        "v": [("jobs", index, ErrorCode.INVALID_PRODUCER_ID_MAPPING) for index in (0, 1)],
        "": [("jobs", index, ErrorCode.INVALID_REQUEST) for index in (0, 1)],
    }


# --- what cannot be written


def test_a_transaction_whose_beginning_is_not_written_has_not_begun() -> None:
    node = Node()
    producer = node.producer()
    node.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    assert node.add(producer) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
    assert node.state() is S.EMPTY
    node.run(120_000)
    assert node.states() == [S.EMPTY], "and does not time out"


def test_a_partition_that_is_not_written_is_not_part_of_the_transaction() -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    node.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    node.add(producer, OTHER_JOBS)
    assert node.add(producer, JOBS, OTHER_JOBS, verify_only=True) == [ErrorCode.NONE, ErrorCode.TRANSACTION_ABORTABLE]

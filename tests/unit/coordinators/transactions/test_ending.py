"""EndTxn in both flows: what it decides, and what a repeated or late one is told."""

import pytest

from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import Producer
from ottla.core.errors import ApiError, ErrorCode
from tests.unit.coordinators.transactions.transaction_fakes import FIRST_ID, JOBS, OTHER_JOBS, Node

PID = FIRST_ID
S = TransactionState
COMPLETE = {True: S.COMPLETE_COMMIT, False: S.COMPLETE_ABORT}
PREPARED = {True: S.PREPARE_COMMIT, False: S.PREPARE_ABORT}
BOTH = pytest.mark.parametrize("committed", [True, False])


@BOTH
def test_since_version_5_the_end_bumps_the_epoch_and_the_markers_have_the_new_one(committed: bool) -> None:
    node = Node()
    producer = node.producer()
    node.add(producer, JOBS, OTHER_JOBS)
    assert node.ended(producer, committed=committed) == (PID, 1)
    assert node.states() == [S.EMPTY, S.ONGOING, PREPARED[committed], COMPLETE[committed]]
    (marker,) = node.markers.sent
    assert (marker.transactional_id, marker.producer_id, marker.producer_epoch) == ("t", PID, 1)
    assert (marker.committed, marker.transaction_version, marker.coordinator_epoch) == (committed, 2, 5)
    assert marker.partitions == (JOBS, OTHER_JOBS)
    assert node.add((PID, 1)) == [ErrorCode.NONE]


@BOTH
def test_before_version_5_the_epoch_stays(committed: bool) -> None:
    node = Node()
    producer = node.producer()
    node.add(producer, version=3)
    response = node.end(producer, committed=committed, version=4).take()
    assert (response.error_code, response.producer_id, response.producer_epoch) == (0, -1, -1)
    (marker,) = node.markers.sent
    assert (marker.producer_epoch, marker.committed, marker.transaction_version) == (0, committed, 0)
    assert node.states() == [S.EMPTY, S.ONGOING, PREPARED[committed], COMPLETE[committed]]
    assert node.add(producer, version=3) == [ErrorCode.NONE]


def test_the_answer_leaves_before_the_markers_are_written_and_the_next_transaction_waits_for_them() -> None:
    node = Node()
    node.markers.hold = True
    producer = node.producer()
    node.add(producer)
    following = node.ended(producer)
    assert node.state() is S.PREPARE_COMMIT
    assert node.add(following) == [ErrorCode.CONCURRENT_TRANSACTIONS]
    assert node.add(following, verify_only=True) == [ErrorCode.CONCURRENT_TRANSACTIONS]
    assert node.end(following, committed=False).code is ErrorCode.CONCURRENT_TRANSACTIONS
    node.markers.write()
    node.run()
    assert node.state() is S.COMPLETE_COMMIT
    assert node.add(following) == [ErrorCode.NONE]


def test_all_partitions_have_their_marker_before_the_transaction_is_complete() -> None:
    node = Node()
    node.markers.hold = True
    producer = node.producer()
    node.add(producer, JOBS, OTHER_JOBS)
    node.ended(producer)
    node.markers.write("t", JOBS)
    node.markers.write("t", JOBS)
    node.run()
    assert node.state() is S.PREPARE_COMMIT
    node.markers.write("t", OTHER_JOBS)
    node.run()
    assert node.state() is S.COMPLETE_COMMIT
    assert node.transaction().partitions == frozenset()


@pytest.mark.parametrize("version", [4, 5])
def test_neither_answer_nor_marker_leaves_before_the_end_is_committed(version: int) -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    node.log.auto_commit = False
    answer = node.end(producer, version=version)
    assert not answer.arrived
    assert node.markers.sent == []
    node.log.commit()
    assert answer.code is ErrorCode.NONE
    assert len(node.markers.sent) == 1


# --- repeated


@BOTH
@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("failover", [True, False])
def test_a_repeated_end_has_the_same_answer(committed: bool, hold: bool, failover: bool) -> None:
    node = Node()
    node.markers.hold = hold
    producer = node.producer()
    node.add(producer)
    assert node.ended(producer, committed=committed) == (PID, 1)
    if failover:
        node.restart()
    assert node.ended(producer, committed=committed) == (PID, 1)
    assert node.end(producer, committed=not committed).code is ErrorCode.INVALID_TXN_STATE
    assert node.states().count(PREPARED[committed]) == 1


@BOTH
@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("failover", [True, False])
def test_a_repeated_end_of_the_older_flow_has_the_same_answer(committed: bool, hold: bool, failover: bool) -> None:
    node = Node()
    node.markers.hold = hold
    producer = node.producer()
    node.add(producer, version=3)
    for _ in range(2):
        assert node.end(producer, committed=committed, version=4).code is ErrorCode.NONE
        if failover:
            node.restart()
    assert node.end(producer, committed=not committed, version=4).code is ErrorCode.INVALID_TXN_STATE
    assert node.states().count(PREPARED[committed]) == 1


@BOTH
def test_a_late_end_does_not_end_the_next_transaction(committed: bool) -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    following = node.ended(producer)
    node.add(following)
    assert node.end(producer, committed=committed).code is ErrorCode.PRODUCER_FENCED
    assert node.state() is S.ONGOING


def test_an_end_of_the_older_flow_is_not_repeated_by_the_newer() -> None:
    node = Node()
    node.producer(producer=node.producer())
    node.add((PID, 1), version=3)
    node.end((PID, 1), version=4)
    assert node.state() is S.COMPLETE_COMMIT
    assert node.end((PID, 0)).code is ErrorCode.PRODUCER_FENCED
    assert node.end((PID, 1), committed=True).code is ErrorCode.INVALID_TXN_STATE


@BOTH
@pytest.mark.parametrize("hold", [True, False])
def test_an_end_of_the_newer_flow_is_not_repeated_by_the_older(committed: bool, hold: bool) -> None:
    node = Node()
    node.markers.hold = hold
    producer = node.producer()
    node.add(producer)
    following = node.ended(producer)
    assert node.end(following, committed=committed, version=4).code is ErrorCode.INVALID_TXN_STATE
    assert node.end(producer, committed=committed, version=4).code is ErrorCode.PRODUCER_FENCED


# --- nothing to end


@pytest.mark.parametrize("version", [4, 5])
def test_who_is_unknown_cannot_end(version: int) -> None:
    node = Node()
    assert node.end((PID, 0), version=version).code is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    node.producer()
    assert node.end((PID + 1, 0), version=version).code is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert node.end((PID, 1), version=version).code is ErrorCode.PRODUCER_FENCED


@pytest.mark.parametrize("version", range(5))
def test_the_error_of_a_fenced_producer_is_one_that_its_version_knows(version: int) -> None:
    node = Node()
    node.producer()
    expected = ErrorCode.PRODUCER_FENCED if version >= 2 else ErrorCode.INVALID_PRODUCER_EPOCH
    assert node.end((PID, 1), version=version).code is expected


@BOTH
def test_the_older_flow_ends_no_transaction_that_has_not_begun(committed: bool) -> None:
    node = Node()
    producer = node.producer()
    assert node.end(producer, committed=committed, version=4).code is ErrorCode.INVALID_TXN_STATE


def test_what_never_began_may_be_aborted_and_not_committed() -> None:
    node = Node()
    producer = node.producer()
    for _ in range(2):
        assert node.end(producer, committed=True).code is ErrorCode.INVALID_TXN_STATE
        following = node.ended(producer, committed=False)
        assert following == (PID, producer.epoch + 1)
        assert node.ended(producer, committed=False) == following, "repeated"
        assert node.state() is S.COMPLETE_ABORT
        assert node.transaction().start_ms >= 0
        producer = following
    assert node.markers.sent == []
    node.add(producer)
    producer = node.ended(producer)
    assert node.ended(producer, committed=False) == (PID, 4), "after a commit too"


# --- the end of the epochs


@BOTH
def test_with_the_last_epoch_the_producer_goes_on_with_a_new_id(committed: bool) -> None:
    node = Node()
    last = node.exhaust()
    node.add(last)
    node.markers.hold = True
    new = Producer(PID + 1, 0)
    assert node.ended(last, committed=committed) == new
    assert (node.markers.sent[-1].producer_id, node.markers.sent[-1].producer_epoch) == (PID, 32_767)
    assert node.ended(last, committed=committed) == new
    assert node.add(new) == [ErrorCode.CONCURRENT_TRANSACTIONS]
    assert node.init(producer=new).code is ErrorCode.CONCURRENT_TRANSACTIONS
    node.restart()
    assert node.ended(last, committed=committed) == new
    node.markers.write()
    node.run()
    for _ in range(2):
        assert node.ended(last, committed=committed) == new
        assert node.end(last, committed=not committed).code is ErrorCode.INVALID_TXN_STATE
        assert node.end((PID, 32_767), committed=committed).code is ErrorCode.INVALID_PRODUCER_ID_MAPPING
        node.restart()
    assert node.add(new) == [ErrorCode.NONE]
    assert node.end(last, committed=committed).code is ErrorCode.INVALID_PRODUCER_ID_MAPPING


def test_no_new_id_means_its_error_and_the_transaction_goes_on() -> None:
    node = Node()
    last = node.exhaust()
    node.add(last)
    node.ids.error = ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
    assert node.end(last).code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert node.state() is S.ONGOING


def test_the_older_flow_may_use_the_last_epoch_for_ever() -> None:
    node = Node()
    last = node.exhaust()
    for _ in range(2):
        node.add(last, version=3)
        assert node.end(last, version=4).code is ErrorCode.NONE


# --- connections


def test_in_the_older_flow_a_late_end_on_an_old_connection_does_not_end_the_next_transaction() -> None:
    node = Node()
    producer = node.producer(version=4, connection=1)
    node.add(producer, version=3, connection=1)
    assert node.end(producer, version=4, connection=2).code is ErrorCode.NONE, "repeated on a new connection"
    node.add(producer, version=3, connection=2)
    assert node.end(producer, version=4, connection=1).code is ErrorCode.PRODUCER_FENCED
    assert node.end(producer, version=1, connection=1).code is ErrorCode.INVALID_PRODUCER_EPOCH
    assert node.add(producer, OTHER_JOBS, version=3, connection=1) == [ErrorCode.PRODUCER_FENCED]
    assert node.add_offsets(producer, version=3, connection=1) is ErrorCode.PRODUCER_FENCED
    assert node.state() is S.ONGOING
    assert node.transaction().partitions == {JOBS}
    assert node.end(producer, version=4, connection=2).code is ErrorCode.NONE


def test_who_is_not_the_producer_does_not_bind_the_id() -> None:
    node = Node()
    producer = node.producer(version=4, connection=1)
    assert node.end((PID, 5), version=4, connection=9).code is ErrorCode.PRODUCER_FENCED
    assert node.add((PID, 5), version=3, connection=9) == [ErrorCode.PRODUCER_FENCED]
    assert node.add(producer, version=3, connection=1) == [ErrorCode.NONE]


def test_a_newcomer_may_come_on_an_older_connection() -> None:
    node = Node()
    node.producer(version=4, connection=7)
    producer = node.producer(version=4, connection=3)
    assert node.add(producer, version=3, connection=3) == [ErrorCode.NONE]


def test_after_a_failover_the_first_connection_that_is_heard_binds() -> None:
    node = Node()
    producer = node.producer(version=4, connection=7)
    node.restart()
    assert node.add(producer, version=3, connection=2) == [ErrorCode.NONE]
    assert node.add(producer, OTHER_JOBS, version=3, connection=1) == [ErrorCode.PRODUCER_FENCED]


def test_newer_clients_are_not_bound() -> None:
    node = Node()
    producer = node.producer(connection=7)
    assert node.add(producer, connection=1) == [ErrorCode.NONE]
    assert node.end(producer, connection=1).code is ErrorCode.NONE


# --- what cannot be written


@pytest.mark.parametrize("version", [4, 5])
def test_an_end_that_is_not_written_leaves_the_transaction_under_way(version: int) -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    node.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    assert node.end(producer, version=version).code is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert node.state() is S.ONGOING
    node.run(1_000)
    assert node.markers.sent == []
    node.run(60_000)
    assert node.state() is S.COMPLETE_ABORT, "its timeout still holds"


@pytest.mark.parametrize("code", [ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, None])
def test_an_end_whose_commit_takes_too_long_is_carried_out_when_it_is_committed(code: ErrorCode | None) -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    node.log.auto_commit = False
    answer = node.end(producer)
    if code is not None:
        node.log.fail_waiting(code)
    else:
        node.run(5_000)
    assert answer.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
    node.run(20_000)
    assert node.markers.sent == []
    repeated = node.end(producer)
    node.log.commit()
    node.run()
    assert repeated.code is ErrorCode.NONE
    assert len(node.markers.sent) == 1
    node.log.commit()
    assert node.state() is S.COMPLETE_COMMIT

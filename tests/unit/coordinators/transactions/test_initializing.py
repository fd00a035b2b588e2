"""InitProducerId: who gets which producer id and epoch, and who is fenced by it."""

from typing import Any

import pytest

from ottla.coordinators.transactions.states import TransactionState
from ottla.core.errors import ApiError, ErrorCode
from tests.unit.coordinators.transactions.transaction_fakes import FIRST_ID, JOBS, Node

PID = FIRST_ID


def test_a_new_id_gets_a_new_producer_id_and_epoch_0() -> None:
    node = Node()
    assert node.producer() == (PID, 0)
    assert node.producer("u") == (PID + 1, 0)
    assert node.states() == [TransactionState.EMPTY]
    transaction = node.transaction()
    assert (transaction.timeout_ms, transaction.previous_producer_id, transaction.start_ms) == (60_000, -1, -1)


def test_a_producer_without_transactional_id_gets_a_producer_id_and_nothing_is_written() -> None:
    node = Node()
    response = node.init(None, timeout_ms=-1).take()
    assert (response.producer_id, response.producer_epoch, response.error_code) == (PID, 0, 0)
    assert node.log.batches == []


def test_a_newcomer_takes_over_with_the_next_epoch() -> None:
    node = Node()
    first = node.producer()
    assert node.producer(timeout_ms=5) == (PID, 1)
    assert node.transaction().timeout_ms == 5
    assert node.add(first) == [ErrorCode.PRODUCER_FENCED]
    assert node.end(first).code is ErrorCode.PRODUCER_FENCED


@pytest.mark.parametrize("version", range(6))
def test_the_error_of_a_fenced_producer_is_one_that_its_version_knows(version: int) -> None:
    node = Node()
    node.producer()
    answer = node.init(producer=(PID, 7), version=version)
    assert answer.code is (ErrorCode.PRODUCER_FENCED if version >= 4 else ErrorCode.INVALID_PRODUCER_EPOCH)
    assert (answer.take().producer_id, answer.take().producer_epoch) == (-1, -1)


@pytest.mark.parametrize("timeout_ms", [0, -1, 900_001])
def test_a_timeout_out_of_bounds_is_refused(timeout_ms: int) -> None:
    node = Node()
    assert node.init(timeout_ms=timeout_ms).code is ErrorCode.INVALID_TRANSACTION_TIMEOUT
    assert node.init(timeout_ms=900_000).code is ErrorCode.NONE


@pytest.mark.parametrize("producer", [(1, -1), (-1, 1)])
def test_a_producer_id_without_epoch_is_refused(producer: tuple[int, int]) -> None:
    assert Node().init(producer=producer).code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("option", ["enable2_pc", "keep_prepared_txn"])
def test_two_phase_commit_is_refused(option: str) -> None:
    node = Node()
    options: dict[str, Any] = {option: True}
    assert node.init(version=6, **options).code is ErrorCode.UNSUPPORTED_VERSION
    assert node.log.batches == []


@pytest.mark.parametrize("transactional_id", ["", "x" * 32_768])
def test_an_id_that_cannot_be_written_is_refused(transactional_id: str) -> None:
    node = Node()
    assert node.init(transactional_id).code is ErrorCode.INVALID_REQUEST
    assert node.end((1, 1), transactional_id=transactional_id).code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ErrorCode.NOT_CONTROLLER, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS),
        (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS),
        (ErrorCode.UNKNOWN_SERVER_ERROR, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_without_a_new_producer_id_the_producer_is_told_whether_to_wait(error: ErrorCode, told: ErrorCode) -> None:
    node = Node()
    node.ids.error = ApiError(error)
    assert node.init().code is told
    assert node.init(None).code is told
    assert node.shard.transactions == {}


def test_two_newcomers_that_wait_for_a_producer_id_get_one_after_the_other() -> None:
    node = Node()
    node.ids.hold = True
    first, second = node.init(), node.init()
    node.ids.give()
    node.ids.give()
    node.run()
    assert [(answer.take().producer_id, answer.take().producer_epoch) for answer in (first, second)] == [
        (PID, 0),
        (PID, 1),
    ]


def test_a_producer_id_that_comes_after_the_leadership_is_not_used() -> None:
    node = Node()
    node.ids.hold = True
    answer = node.init()
    node.coordinator.resign(0)
    node.ids.give()
    assert answer.code is ErrorCode.NOT_COORDINATOR


# --- KIP-360


def test_a_producer_that_goes_on_gets_the_next_epoch_and_a_repeated_request_the_same() -> None:
    node = Node()
    producer = node.producer()
    assert node.producer(producer=producer) == (PID, 1)
    assert node.producer(producer=producer) == (PID, 1)
    node.restart()
    assert node.producer(producer=producer) == (PID, 1)
    assert node.producer(producer=(PID, 1)) == (PID, 2)


def test_a_producer_does_not_go_on_after_a_newcomer() -> None:
    node = Node()
    producer = node.producer()
    node.producer()
    assert node.init(producer=producer).code is ErrorCode.PRODUCER_FENCED
    node.restart()
    assert node.init(producer=producer).code is ErrorCode.PRODUCER_FENCED


@pytest.mark.parametrize("producer", [(PID, 1), (PID, 32_766), (PID - 1, 0), (PID + 1, 0)])
def test_whoever_is_not_the_producer_does_not_go_on(producer: tuple[int, int]) -> None:
    node = Node()
    node.producer()
    assert node.init(producer=producer).code is ErrorCode.PRODUCER_FENCED


def test_a_producer_of_a_forgotten_id_starts_anew() -> None:
    assert Node().producer(producer=(77, 3)) == (PID, 0)


# --- with a transaction


def test_a_newcomer_aborts_the_transaction_and_comes_back() -> None:
    node = Node()
    old = node.producer()
    node.add(old)
    node.markers.hold = True
    assert node.init().code is ErrorCode.CONCURRENT_TRANSACTIONS
    (marker,) = node.markers.sent
    assert (marker.producer_epoch, marker.committed, marker.partitions, marker.transaction_version) == (
        1,
        False,
        (JOBS,),
        2,
    )
    assert node.init().code is ErrorCode.CONCURRENT_TRANSACTIONS, "the markers are on their way"
    node.markers.write()
    node.run()
    assert node.state() is TransactionState.COMPLETE_ABORT
    assert node.producer() == (PID, 2)
    assert len(node.markers.sent) == 1


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("committed", [True, False])
def test_who_was_fenced_by_a_newcomer_neither_ends_nor_goes_on(version: int, committed: bool) -> None:
    node = Node()
    old = node.producer()
    node.add(old)
    node.init()
    for _ in range(2):
        assert node.state() is TransactionState.COMPLETE_ABORT
        assert node.end(old, committed=committed, version=version).code is ErrorCode.PRODUCER_FENCED
        assert node.init(producer=old).code is ErrorCode.PRODUCER_FENCED
        node.restart()


def test_a_producer_that_goes_on_aborts_its_own_transaction() -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    assert node.init(producer=producer).code is ErrorCode.CONCURRENT_TRANSACTIONS
    assert node.state() is TransactionState.COMPLETE_ABORT
    assert node.producer(producer=producer) == (PID, 1)


def test_an_old_request_to_go_on_does_not_abort_what_is_new() -> None:
    node = Node()
    producer = node.producer()
    new = node.producer(producer=producer)
    node.add(new)
    assert node.init(producer=producer).code is ErrorCode.PRODUCER_FENCED
    assert node.state() is TransactionState.ONGOING


def test_a_producer_may_go_on_while_its_end_is_prepared_only_later() -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    node.markers.hold = True
    following = node.ended(producer)
    for known_as in (producer, following):
        assert node.init(producer=known_as).code is ErrorCode.CONCURRENT_TRANSACTIONS
    assert node.init(producer=(PID, 9)).code is ErrorCode.PRODUCER_FENCED
    node.markers.write()
    node.run()
    assert node.producer(producer=producer) == following


# --- the end of the epochs


def test_a_newcomer_gets_a_new_producer_id_when_the_epochs_are_used_up() -> None:
    node = Node()
    assert node.exhaust() == (PID, 32_766)
    assert node.producer() == (PID + 1, 0)
    assert node.init(producer=(PID, 32_766)).code is ErrorCode.PRODUCER_FENCED


def test_a_producer_goes_on_with_a_new_producer_id_when_its_epochs_are_used_up() -> None:
    node = Node()
    last = node.exhaust()
    assert node.producer(producer=last) == (PID + 1, 0)
    node.restart()
    assert node.producer(producer=last) == (PID + 1, 0)
    assert node.init(producer=(PID, 32_765)).code is ErrorCode.PRODUCER_FENCED


def test_the_epoch_kept_for_fencing_is_given_to_nobody() -> None:
    node = Node()
    last = node.exhaust()
    node.add(last)
    assert node.init(producer=last).code is ErrorCode.CONCURRENT_TRANSACTIONS
    assert node.transaction().producer_epoch == 32_767
    for version in (4, 5):
        assert node.end(last, committed=False, version=version).code is ErrorCode.PRODUCER_FENCED
        assert node.end((PID, 32_767), version=version).code is ErrorCode.PRODUCER_FENCED
    assert node.add((PID, 32_767)) == [ErrorCode.PRODUCER_FENCED]
    assert node.producer(producer=last) == (PID + 1, 0)


# --- what cannot be written


def test_an_append_that_fails_leaves_everything_as_it_was() -> None:
    node = Node()
    node.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    assert node.init().code is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert node.shard.transactions == {}
    producer = node.producer(version=4, connection=3)
    node.log.refusals = [ApiError(ErrorCode.KAFKA_STORAGE_ERROR)]
    assert node.init(connection=9).code is ErrorCode.NOT_COORDINATOR
    assert node.transaction().producer == producer
    assert node.add(producer, version=3, connection=3) == [ErrorCode.NONE], "it is still bound to its connection"


def test_nobody_coordinates_without_the_topic() -> None:
    node = Node()
    node.topics.counts.clear()
    assert node.init().code is ErrorCode.NOT_COORDINATOR

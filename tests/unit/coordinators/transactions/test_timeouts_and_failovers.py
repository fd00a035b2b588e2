"""What happens without a call: timeouts, failovers, refused markers, expiry."""

import pytest

from ottla.coordinators.runtime import Effects
from ottla.coordinators.transactions.states import TransactionState
from ottla.core.errors import ApiError, ErrorCode
from tests.unit.coordinators.fake_log import FakeLog
from tests.unit.coordinators.transactions.transaction_fakes import FIRST_ID, JOBS, MINUTE_MS, OTHER_JOBS, Node

PID = FIRST_ID
S = TransactionState
DAY_MS = 24 * 60 * MINUTE_MS


# --- timeouts


@pytest.mark.parametrize("version", [3, 5])
def test_a_transaction_is_aborted_when_its_timeout_is_over(version: int) -> None:
    node = Node()
    producer = node.producer()
    node.run(10 * MINUTE_MS)
    node.add(producer, version=version)
    node.run(MINUTE_MS / 2)
    node.add(producer, OTHER_JOBS, version=version)
    node.run(MINUTE_MS / 2 - 1)
    assert node.state() is S.ONGOING
    node.run(1)
    assert node.states()[-2:] == [S.PREPARE_ABORT, S.COMPLETE_ABORT]
    (marker,) = node.markers.sent
    assert (marker.producer_epoch, marker.committed, marker.transaction_version) == (1, False, 2)
    assert node.add(producer, version=version) == [ErrorCode.PRODUCER_FENCED]


def test_a_transaction_that_ended_does_not_time_out_and_the_next_one_has_its_own_time() -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    node.run(MINUTE_MS - 1)
    producer = node.ended(producer)
    node.run(1)
    node.add(producer)
    node.run(MINUTE_MS - 1)
    assert node.state() is S.ONGOING
    node.run(1)
    assert node.state() is S.COMPLETE_ABORT


@pytest.mark.parametrize("failover", [True, False])
def test_after_a_timeout_the_newer_flow_goes_on_with_an_abort_and_cannot_commit(failover: bool) -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    node.run(MINUTE_MS)
    if failover:
        node.restart()
    assert node.end(producer, committed=True).code is ErrorCode.INVALID_TXN_STATE
    assert node.ended(producer, committed=False) == (PID, 1)
    assert node.states().count(S.PREPARE_ABORT) == 1
    assert node.add((PID, 1)) == [ErrorCode.NONE]


@pytest.mark.parametrize("committed", [True, False])
def test_after_a_timeout_the_older_flow_is_fenced_until_it_goes_on(committed: bool) -> None:
    node = Node()
    producer = node.producer()
    node.add(producer, version=3)
    node.run(MINUTE_MS)
    assert node.end(producer, committed=committed, version=4).code is ErrorCode.PRODUCER_FENCED
    assert node.producer(producer=producer) == (PID, 1)
    assert node.end((PID, 1), committed=committed, version=4).code is ErrorCode.INVALID_TXN_STATE


def test_an_abort_that_cannot_be_written_is_tried_again() -> None:
    node = Node()
    node.add(node.producer())
    node.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    node.run(MINUTE_MS)
    assert node.state() is S.ONGOING
    node.run(9_999)
    assert node.state() is S.ONGOING
    node.run(1)
    assert node.state() is S.COMPLETE_ABORT
    assert node.transaction().producer_epoch == 1


def test_a_failover_neither_prolongs_nor_forgets_a_timeout() -> None:
    node = Node()
    node.add(node.producer())
    node.run(MINUTE_MS - 10)
    node.restart()
    node.run(9)
    assert node.state() is S.ONGOING
    node.run(1)
    assert node.state() is S.COMPLETE_ABORT


def test_a_timeout_that_was_over_before_the_failover_comes_soon() -> None:
    node = Node()
    node.add(node.producer())
    node.clock.forget_all()
    node.run(2 * MINUTE_MS)
    node.restart()
    assert node.state() is S.ONGOING
    node.run(10_000)
    assert node.state() is S.COMPLETE_ABORT


# --- failovers


@pytest.mark.parametrize("committed", [True, False])
def test_whoever_takes_over_sends_all_markers_of_a_prepared_end_under_its_own_epoch(committed: bool) -> None:
    node = Node()
    node.markers.hold = True
    producer = node.producer()
    node.add(producer, JOBS, OTHER_JOBS)
    node.ended(producer, committed=committed)
    node.markers.write("t", JOBS)
    node.run()
    node.restart()
    assert [marker.coordinator_epoch for marker in node.markers.sent] == [5, 6]
    assert node.markers.sent[1].partitions == (JOBS, OTHER_JOBS)
    assert node.markers.sent[1].committed is committed
    node.markers.write()
    node.run()
    assert node.state() is (S.COMPLETE_COMMIT if committed else S.COMPLETE_ABORT)


def test_whoever_takes_over_sends_no_marker_of_an_end_that_is_not_committed_yet() -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    node.log.auto_commit = False
    node.end(producer)
    node.epoch = 6
    node.coordinator.lead(0, node.log, 6)
    node.run()
    assert node.markers.sent == []
    node.log.commit()
    assert [marker.coordinator_epoch for marker in node.markers.sent] == [6]


def test_an_end_that_was_lost_with_its_leader_never_happened() -> None:
    node = Node()
    producer = node.producer()
    node.add(producer)
    node.log.auto_commit = False
    assert not node.end(producer, committed=True).arrived
    node.restart(committed_only=True)
    assert node.state() is S.ONGOING
    assert node.ended(producer, committed=False) == (PID, 1)
    assert [marker.committed for marker in node.markers.sent] == [False]


def test_who_ceases_to_coordinate_stops_sending() -> None:
    node = Node()
    node.markers.hold = True
    producer = node.producer()
    node.add(producer)
    node.ended(producer)
    _, written, failed = node.markers.open["t"]
    node.coordinator.resign(0)
    assert node.markers.cancelled == ["t"]
    written([JOBS])
    failed(ApiError(ErrorCode.TRANSACTION_COORDINATOR_FENCED))
    node.run(10 * MINUTE_MS)
    assert node.states()[-1] is S.PREPARE_COMMIT
    node.coordinator.close()
    assert node.markers.cancelled == ["t"]


def test_what_the_sender_of_an_earlier_leadership_says_is_not_heard() -> None:
    node = Node()
    node.markers.hold = True
    producer = node.producer()
    node.add(producer)
    node.ended(producer)
    _, written, _ = node.markers.open["t"]
    node.coordinator.lead(0, node.log, 6)
    node.run()
    written([JOBS])
    node.run()
    assert node.state() is S.PREPARE_COMMIT
    node.markers.write()
    node.run()
    assert node.state() is S.COMPLETE_COMMIT


@pytest.mark.parametrize("code", [ErrorCode.TRANSACTION_COORDINATOR_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH])
def test_refused_markers_are_reported_and_tried_again_much_later(code: ErrorCode) -> None:
    node = Node()
    node.markers.hold = True
    producer = node.producer()
    node.add(producer)
    node.ended(producer)
    _, written, failed = node.markers.open["t"]
    node.markers.refuse(code)
    written([JOBS])
    failed(ApiError(code))
    node.run(MINUTE_MS - 1)
    assert node.reports.count("transaction_markers_refused") == 1
    assert len(node.markers.sent) == 1
    node.run(1)
    assert len(node.markers.sent) == 2
    node.markers.write()
    node.run()
    assert node.state() is S.COMPLETE_COMMIT


def test_a_completion_that_cannot_be_written_is_made_up_for() -> None:
    node = Node()
    node.markers.hold = True
    producer = node.producer()
    node.add(producer)
    following = node.ended(producer)
    node.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    node.markers.write()
    node.run()
    assert node.state() is S.PREPARE_COMMIT
    assert node.add(following) == [ErrorCode.CONCURRENT_TRANSACTIONS]
    node.run(1_000)
    assert len(node.markers.sent) == 2
    node.markers.write()
    node.run()
    assert node.state() is S.COMPLETE_COMMIT


def test_a_shard_that_is_not_loaded_refuses() -> None:
    node = Node()
    producer = node.producer()
    log = FakeLog(node.clock)
    node.coordinator.lead(0, log, 6)
    answers: list[ErrorCode] = []
    node.coordinator.runtime.execute(0, lambda response: answers.append(response.code), lambda shard, effects: None)
    assert answers == [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS]
    node.coordinator.resign(0)
    assert node.end(producer).code is ErrorCode.NOT_COORDINATOR


# --- expiry


@pytest.mark.parametrize("use", ["never", "committed", "aborted"])
def test_an_id_that_nobody_uses_is_forgotten(use: str) -> None:
    node = Node()
    producer = node.producer(connection=8)
    if use != "never":
        node.add(producer)
        node.ended(producer, committed=use == "committed")
    node.run(7 * DAY_MS - 60 * MINUTE_MS)
    assert "t" in node.shard.transactions
    node.run(3 * 60 * MINUTE_MS)
    assert node.shard.transactions == {}
    assert node.states()[-1] is S.DEAD
    node.restart()
    assert node.shard.transactions == {}
    assert node.producer() == (PID + 1, 0)


def test_an_id_that_is_used_or_whose_end_is_not_complete_is_kept() -> None:
    node = Node()
    node.markers.hold = True
    used, ended = node.producer("used"), node.producer("ended")
    node.add(ended, transactional_id="ended")
    node.ended(ended, transactional_id="ended")
    for _ in range(10):
        node.run(DAY_MS)
        used = node.ended(used, committed=False, transactional_id="used")
    assert set(node.shard.transactions) == {"used", "ended"}


def test_an_id_whose_tombstone_is_not_written_is_kept_until_the_next_look() -> None:
    node = Node(transactional_id_expiration_ms=1_000)
    node.producer()
    node.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    node.run(60 * MINUTE_MS)
    assert "t" in node.shard.transactions
    node.run(60 * MINUTE_MS)
    assert node.shard.transactions == {}


def test_many_ids_are_looked_at_in_slices() -> None:
    node = Node(transactional_id_expiration_ms=1_000)
    for number in range(1_100):
        node.init(f"t{number}")
    node.run(60 * MINUTE_MS + 10)
    assert node.shard.transactions == {}


@pytest.mark.interpreted
def test_slices_that_come_out_even_end_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    for number in range(500):
        node.init(f"t{number}")
    fired: list[object] = []
    look = node.shard.timer_fired

    def counted(event: object, effects: Effects) -> None:
        fired.append(event)
        look(event, effects)

    monkeypatch.setattr(node.shard, "timer_fired", counted)
    node.run(60 * MINUTE_MS + 1_000)
    assert len(fired) == 2

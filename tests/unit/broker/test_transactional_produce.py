"""Transactional batches: asked about before the first is appended, in order, never after their transaction's end."""

from collections.abc import Callable

import pytest

from ottla.broker.produce import ProducedTopics
from ottla.core.errors import ErrorCode
from ottla.partitions.partition import Partition
from ottla.partitions.results import Isolation, Origin
from ottla.records.batch import Record, encode_batch
from ottla.records.control import encode_end_transaction_marker
from ottla.records.header import iterate_headers
from tests.unit.broker.hot_path import HotPath, only

ID, TRANSACTIONAL_ID = 7, "payments"
AGREED = ErrorCode.NONE


class Coordinator:
    """Answers when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int, str, int, bool]] = []
        self._waiting: list[Callable[[ErrorCode], None]] = []

    def ask(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        topic: str,
        index: int,
        verify_only: bool,
        done: Callable[[ErrorCode], None],
    ) -> None:
        self.asked.append((transactional_id, producer_id, producer_epoch, topic, index, verify_only))
        self._waiting.append(done)

    def answer(self, code: ErrorCode = AGREED) -> None:
        self._waiting.pop(0)(code)


class Transactional:
    """One producer on one broker; requests are sent without waiting for answers."""

    def __init__(self, topics: dict[str, int]) -> None:
        self.broker = HotPath(topics)
        self.coordinator = Coordinator()
        self.broker.produce.serve_transactions(self.coordinator)

    @property
    def partition(self) -> Partition:
        return self.broker.partition("t")

    def send(
        self,
        sequence: int,
        *,
        epoch: int = 0,
        count: int = 1,
        index: int = 0,
        adds: bool = True,
        acks: int = -1,
        knows_abortable: bool = False,
    ) -> list[ProducedTopics]:
        records = [Record(key=b"k", value=b"%d" % (sequence + n), timestamp=1) for n in range(count)]
        encoded = encode_batch(
            records, producer_id=ID, producer_epoch=epoch, base_sequence=sequence, is_transactional=True
        )
        return self.broker.start_produce(
            [("t", [(index, memoryview(bytearray(encoded)))])],
            acks=acks,
            timeout_ms=1000,
            transactional_id=TRANSACTIONAL_ID,
            adds_partitions=adds,
            knows_abortable=knows_abortable,
        )

    def end(self, epoch: int, *, version: int, committed: bool = True) -> None:
        marker = encode_end_transaction_marker(
            committed=committed, coordinator_epoch=0, producer_id=ID, producer_epoch=epoch, timestamp_ms=1
        )
        self.partition.append(
            memoryview(bytearray(marker)), acks=-1, done=None, origin=Origin.COORDINATOR, transaction_version=version
        )

    def error(self, outcomes: list[ProducedTopics]) -> ErrorCode:
        return only(self.broker.finish(outcomes)).error

    def sequences(self) -> list[int]:
        """Of the data in the log."""
        self.broker.clock.run_for(100)
        found = self.partition.read(
            0, 1 << 20, isolation=Isolation.LOG_END, minimum_one_batch=True, done=lambda _: None
        )
        assert found is not None
        data = b"".join(bytes(part) for part in found.buffers)
        return [header.base_sequence for _, header in iterate_headers(data) if not header.is_control]


@pytest.fixture
def one() -> Transactional:
    return Transactional({"t": 2})


@pytest.mark.parametrize("adds", [True, False])
def test_the_coordinator_is_asked_once_a_transaction(one: Transactional, adds: bool) -> None:
    first = one.send(0, adds=adds)
    assert one.coordinator.asked == [(TRANSACTIONAL_ID, ID, 0, "t", 0, not adds)]
    assert one.partition.log_end_offset == 0
    one.coordinator.answer()
    assert one.error(first) is ErrorCode.NONE
    assert one.error(one.send(1, adds=adds)) is ErrorCode.NONE
    assert len(one.coordinator.asked) == 1
    one.end(1 if adds else 0, version=2 if adds else 1)
    later = one.send(0 if adds else 2, epoch=1 if adds else 0, adds=adds)
    assert len(one.coordinator.asked) == 2
    one.coordinator.answer()
    assert one.error(later) is ErrorCode.NONE


def test_five_requests_in_flight_stay_in_order(one: Transactional) -> None:
    outcomes = [one.send(sequence, count=3) for sequence in (0, 3, 6, 9, 12)]
    assert len(one.coordinator.asked) == 1
    one.coordinator.answer()
    assert [only(one.broker.finish(outcome)).base_offset for outcome in outcomes] == [0, 3, 6, 9, 12]
    assert one.sequences() == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("adds", [True, False])
def test_a_refusal_that_may_pass_leaves_no_gap(one: Transactional, adds: bool) -> None:
    """All five are to be sent again; one that was under way when the first was refused must not take its place."""
    outcomes = [one.send(sequence, adds=adds) for sequence in range(5)]
    one.coordinator.answer(ErrorCode.NOT_ENOUGH_REPLICAS)
    assert [one.error(outcome) for outcome in outcomes] == [ErrorCode.NOT_ENOUGH_REPLICAS] * 5
    assert one.error(one.send(5, adds=adds)) is ErrorCode.NOT_ENOUGH_REPLICAS  # it stands right behind them
    assert one.error(one.send(5, adds=adds)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    outcomes = [one.send(sequence, adds=adds) for sequence in range(6)]
    one.coordinator.answer()
    assert [one.error(outcome) for outcome in outcomes] == [ErrorCode.NONE] * 6
    assert one.sequences() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("adds", [True, False])
def test_a_first_batch_that_the_log_refuses_lets_none_in_behind_it(one: Transactional, adds: bool) -> None:
    one.broker.configure("t", max_message_bytes=100)
    large, small = one.send(0, count=40, adds=adds), one.send(40, adds=adds)
    one.coordinator.answer()
    assert one.error(large) is ErrorCode.MESSAGE_TOO_LARGE
    assert one.error(small) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert one.partition.log_end_offset == 0


def test_a_marker_between_question_and_answer_keeps_a_late_batch_out(one: Transactional) -> None:
    late = one.send(0, adds=False)
    one.end(0, version=1, committed=False)
    assert one.error(late) is ErrorCode.INVALID_TXN_STATE
    one.coordinator.answer()  # it agreed before it wrote the marker
    assert one.sequences() == []
    assert one.partition.last_stable_offset == one.partition.high_watermark == 1


def test_a_marker_of_version_2_between_question_and_answer_fences_a_late_batch(one: Transactional) -> None:
    late = one.send(0)
    one.end(1, version=2, committed=False)
    one.coordinator.answer()
    assert one.error(late) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert one.error(one.send(0)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert one.sequences() == []


def test_the_next_transaction_may_be_asked_about_before_the_last_marker_came(one: Transactional) -> None:
    first = one.send(0)
    one.coordinator.answer()
    assert one.error(first) is ErrorCode.NONE
    following = one.send(0, epoch=1)
    one.end(1, version=2)
    one.coordinator.answer()
    assert one.error(following) is ErrorCode.NONE
    assert one.sequences() == [0, 0]


def test_a_late_batch_of_an_ended_transaction_is_asked_about_and_refused(one: Transactional) -> None:
    first = one.send(0, adds=False)
    one.coordinator.answer()
    one.error(first)
    one.end(0, version=1)
    late = one.send(1, adds=False)
    one.coordinator.answer(ErrorCode.INVALID_TXN_STATE)
    assert one.error(late) is ErrorCode.INVALID_TXN_STATE
    assert one.sequences() == [0]


def test_a_coordinator_that_is_not_finished_is_the_producers_affair_in_the_end(one: Transactional) -> None:
    outcomes = [one.send(0), one.send(1)]
    one.coordinator.answer(ErrorCode.CONCURRENT_TRANSACTIONS)
    assert [one.error(outcome) for outcome in outcomes] == [ErrorCode.CONCURRENT_TRANSACTIONS] * 2


def test_older_producers_are_told_something_that_they_repeat(one: Transactional) -> None:
    outcome = one.send(0, adds=False)
    one.coordinator.answer(ErrorCode.CONCURRENT_TRANSACTIONS)
    assert one.error(outcome) is ErrorCode.NOT_ENOUGH_REPLICAS


def test_who_loses_the_leadership_appends_nothing_that_waited(one: Transactional) -> None:
    outcomes = [one.send(0), one.send(1)]
    one.partition.become_leader(5, None)
    one.coordinator.answer()
    assert [one.error(outcome) for outcome in outcomes] == [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 2
    assert one.sequences() == []


def test_a_request_that_gave_up_is_appended_all_the_same(one: Transactional) -> None:
    """As one that waits for replicas: what the client sends again is a duplicate, and there is no gap."""
    outcomes = [one.send(0), one.send(1)]
    one.broker.clock.run_for(2000)
    assert [one.error(outcome) for outcome in outcomes] == [ErrorCode.REQUEST_TIMED_OUT] * 2
    again = one.send(0)
    one.coordinator.answer()
    assert only(one.broker.finish(again)).base_offset == 0
    assert one.sequences() == [0, 1]


@pytest.mark.parametrize("acks", [0, 1])
def test_other_acks_wait_for_the_coordinator_too(one: Transactional, acks: int) -> None:
    outcome = one.send(0, acks=acks)
    one.broker.clock.run_for(100)
    assert outcome == []
    one.coordinator.answer()
    assert only(one.broker.finish(outcome)).base_offset == 0


def test_partitions_are_asked_about_each_for_itself(one: Transactional) -> None:
    outcomes = [one.send(0, index=0), one.send(0, index=1)]
    one.coordinator.answer(ErrorCode.INVALID_TXN_STATE)
    one.coordinator.answer()
    assert [one.error(outcome) for outcome in outcomes] == [ErrorCode.INVALID_TXN_STATE, ErrorCode.NONE]


@pytest.mark.parametrize(
    ("knows_abortable", "told"), [(False, ErrorCode.INVALID_TXN_STATE), (True, ErrorCode.TRANSACTION_ABORTABLE)]
)
def test_who_can_abort_is_told_to(one: Transactional, knows_abortable: bool, told: ErrorCode) -> None:
    outcome = one.send(0, knows_abortable=knows_abortable)
    one.coordinator.answer(ErrorCode.INVALID_TXN_STATE)
    assert one.error(outcome) is told
    fenced = one.send(0, knows_abortable=knows_abortable)
    one.coordinator.answer(ErrorCode.INVALID_PRODUCER_EPOCH)
    assert one.error(fenced) is ErrorCode.INVALID_PRODUCER_EPOCH


def test_a_late_marker_of_the_last_transaction_does_not_end_the_next(one: Transactional) -> None:
    """KIP-1228: both bear the epoch that the next transaction has."""
    for epoch in (0, 1):
        sent = one.send(0, epoch=epoch)
        one.coordinator.answer()
        one.error(sent)
        if epoch == 0:
            one.end(1, version=2)
            one.end(1, version=2)  # repeated while nothing is open: does no harm
    with pytest.raises(Exception, match="ends no transaction"):
        one.end(1, version=2)
    assert one.partition.last_stable_offset < one.partition.log_end_offset
    one.end(2, version=2)
    one.sequences()
    assert one.partition.last_stable_offset == one.partition.log_end_offset

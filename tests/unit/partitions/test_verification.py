"""Which batches may begin a transaction: events in, steps out."""

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.verification import APPEND, WAIT, Verifications

ID, EPOCH = 7, 3


class Case:
    """The questions about one producer; `told` lists what batches (named by their sequence) were told, in order."""

    def __init__(self) -> None:
        self.verifications = Verifications()
        self.told: list[tuple[int, ErrorCode, int]] = []

    def admit(
        self, sequence: int, *, epoch: int = EPOCH, ongoing: bool = False, is_known: bool = False, adds: bool = True
    ) -> int:
        return self.verifications.admit(
            ID,
            epoch,
            sequence,
            ongoing=ongoing,
            is_known=is_known,
            adds=adds,
            now_ms=0,
            resume=lambda code, guard: self.told.append((sequence, code, guard)),
        )

    def refused(self, sequence: int, guard: int, *, is_known: bool = True) -> ErrorCode | None:
        try:
            self.verifications.check(ID, EPOCH, sequence, guard, is_known=is_known)
        except ApiError as error:
            return error.code
        return None


@pytest.fixture
def case() -> Case:
    return Case()


def test_an_open_transaction_asks_nobody(case: Case) -> None:
    assert case.admit(5, ongoing=True) == APPEND
    assert len(case.verifications) == 0


def test_the_first_batch_is_asked_about_and_later_ones_wait_behind_it(case: Case) -> None:
    guard = case.admit(0)
    assert guard > 0
    assert [case.admit(n) for n in (1, 2, 3, 4)] == [WAIT] * 4
    case.verifications.answered(guard, ErrorCode.NONE)
    assert case.told == [(n, ErrorCode.NONE, guard) for n in range(5)]


def test_a_batch_is_let_in_only_while_its_guard_counts(case: Case) -> None:
    seen: list[ErrorCode | None] = []
    guard = case.verifications.admit(
        ID,
        EPOCH,
        0,
        ongoing=False,
        is_known=False,
        adds=True,
        now_ms=0,
        resume=lambda _, guard: seen.append(case.refused(0, guard)),
    )
    assert case.refused(0, guard) is ErrorCode.INVALID_TXN_STATE  # not answered yet
    case.verifications.answered(guard, ErrorCode.NONE)
    assert seen == [None]
    assert case.refused(0, guard) is ErrorCode.INVALID_TXN_STATE  # nobody appended it then
    assert case.refused(0, 0) is ErrorCode.INVALID_TXN_STATE


def test_a_refusal_is_for_all_who_wait(case: Case) -> None:
    guard = case.admit(0)
    case.admit(10)
    case.verifications.answered(guard, ErrorCode.NOT_ENOUGH_REPLICAS)
    assert [(sequence, code) for sequence, code, _ in case.told] == [
        (0, ErrorCode.NOT_ENOUGH_REPLICAS),
        (10, ErrorCode.NOT_ENOUGH_REPLICAS),
    ]


def test_after_a_refusal_nothing_above_its_sequence_begins(case: Case) -> None:
    case.verifications.answered(case.admit(10), ErrorCode.NOT_ENOUGH_REPLICAS)
    with pytest.raises(ApiError) as later:
        case.admit(20)
    assert later.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    again = case.admit(10)
    assert again > 0
    case.verifications.answered(again, ErrorCode.NOT_ENOUGH_REPLICAS)
    assert case.admit(5) > 0  # one that was sent before came later
    assert case.admit(20) == WAIT


def test_a_producer_that_is_known_is_held_to_its_own_sequence_only(case: Case) -> None:
    """A duplicate that was sent late must not keep out what follows."""
    case.verifications.answered(case.admit(0, is_known=True), ErrorCode.INVALID_TXN_STATE)
    assert case.admit(30, is_known=True) > 0


def test_the_order_holds_where_sequences_wrap(case: Case) -> None:
    last = 2**31 - 1
    case.verifications.answered(case.admit(last), ErrorCode.NOT_ENOUGH_REPLICAS)
    with pytest.raises(ApiError):
        case.admit(0)
    assert case.admit(last) > 0


def test_a_marker_voids_what_is_asked_of_the_transaction_that_it_ends(case: Case) -> None:
    guard = case.admit(0, adds=False)
    case.admit(1, adds=False)
    case.verifications.ended(ID, EPOCH, transaction_version=1)
    assert case.told == [(0, ErrorCode.INVALID_TXN_STATE, guard), (1, ErrorCode.INVALID_TXN_STATE, guard)]
    case.verifications.answered(guard, ErrorCode.NONE)
    assert len(case.told) == 2
    assert case.refused(0, guard) is ErrorCode.INVALID_TXN_STATE


def test_an_old_answer_does_not_count_for_a_new_question(case: Case) -> None:
    old = case.admit(0, adds=False)
    case.verifications.ended(ID, EPOCH, transaction_version=1)
    new = case.admit(0, adds=False)
    case.verifications.answered(old, ErrorCode.NONE)
    assert case.refused(0, new) is ErrorCode.INVALID_TXN_STATE
    assert len(case.told) == 1


def test_a_marker_of_version_2_ends_the_epochs_below_its_own(case: Case) -> None:
    old = case.admit(4, epoch=EPOCH)
    new = case.admit(0, epoch=EPOCH + 1)
    case.verifications.ended(ID, EPOCH + 1, transaction_version=2)
    assert case.told == [(4, ErrorCode.INVALID_PRODUCER_EPOCH, old)]
    case.verifications.answered(new, ErrorCode.NONE)
    assert case.told[1:] == [(0, ErrorCode.NONE, new)]


def test_a_producer_without_state_begins_a_transaction_of_version_2_with_sequence_0(case: Case) -> None:
    results: list[ErrorCode | None] = []
    for sequence, adds, is_known in ((3, True, False), (3, True, True), (3, False, False), (0, True, False)):
        verifications = case.verifications = Verifications()
        guard = verifications.admit(
            ID,
            EPOCH,
            sequence,
            ongoing=False,
            is_known=is_known,
            adds=adds,
            now_ms=0,
            resume=lambda _, guard, s=sequence, k=is_known: results.append(  # type: ignore[misc]
                case.refused(s, guard, is_known=k)
            ),
        )
        verifications.answered(guard, ErrorCode.NONE)
    assert results == [ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, None, None, None]


def test_once_a_batch_is_in_the_log_nothing_is_remembered(case: Case) -> None:
    guard = case.verifications.admit(
        ID,
        EPOCH,
        0,
        ongoing=False,
        is_known=False,
        adds=True,
        now_ms=0,
        resume=lambda code, _: case.verifications.begun(ID, EPOCH),
    )
    case.verifications.answered(guard, ErrorCode.NONE)
    assert len(case.verifications) == 0


def test_a_batch_that_comes_while_others_go_on_waits_behind_them(case: Case) -> None:
    """What answers the first may make the connection take the next request."""
    steps: list[int] = []

    def first(_: ErrorCode, __: int) -> None:
        case.verifications.begun(ID, EPOCH)
        steps.append(case.admit(2, ongoing=True))

    guard = case.verifications.admit(ID, EPOCH, 0, ongoing=False, is_known=False, adds=True, now_ms=0, resume=first)
    case.admit(1)
    case.verifications.answered(guard, ErrorCode.NONE)
    assert steps == [WAIT]
    assert [sequence for sequence, _, _ in case.told] == [1, 2]


def test_another_leader_ends_everything(case: Case) -> None:
    guard = case.admit(0)
    case.verifications.clear(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert case.told == [(0, ErrorCode.NOT_LEADER_OR_FOLLOWER, guard)]
    assert len(case.verifications) == 0


def test_refusals_are_forgotten_in_the_end(case: Case) -> None:
    case.verifications.answered(case.admit(9), ErrorCode.INVALID_TXN_STATE)
    case.verifications.expire(999, 1000)
    assert len(case.verifications) == 1
    case.verifications.expire(1000, 1000)
    assert len(case.verifications) == 0
    assert case.admit(50) > 0


# -- what the coordinator tells unasked


def test_what_was_granted_is_asked_of_nobody(case: Case) -> None:
    seen: list[ErrorCode | None] = []

    def resume(code: ErrorCode, guard: int) -> None:
        assert code is ErrorCode.NONE
        seen.append(case.refused(0, guard, is_known=False))
        case.verifications.begun(ID, EPOCH)

    case.verifications.granted(ID, EPOCH, 0)
    answer = case.verifications.admit(ID, EPOCH, 0, ongoing=False, is_known=False, adds=False, now_ms=0, resume=resume)
    assert (answer, seen) == (WAIT, [None])
    assert len(case.verifications) == 0


def test_a_grant_is_for_its_epoch_only(case: Case) -> None:
    case.verifications.granted(ID, EPOCH - 1, 0)
    assert case.admit(0, adds=False) > 0
    assert case.told == []


@pytest.mark.parametrize(("epoch", "version"), [(EPOCH, 1), (EPOCH + 1, 1), (EPOCH + 1, 2)])
def test_a_marker_takes_a_grant_away(case: Case, epoch: int, version: int) -> None:
    case.verifications.granted(ID, EPOCH, 0)
    case.verifications.ended(ID, epoch, version)
    assert case.admit(0, adds=False) > 0
    assert case.told == []


def test_another_leader_and_time_take_a_grant_away(case: Case) -> None:
    case.verifications.granted(ID, EPOCH, 0)
    case.verifications.expire(999, 1_000)
    assert len(case.verifications) == 1
    case.verifications.expire(1_000, 1_000)
    assert len(case.verifications) == 0
    case.verifications.granted(ID, EPOCH, 0)
    case.verifications.clear(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert len(case.verifications) == 0


def test_a_grant_is_for_one_batch_that_the_log_refuses(case: Case) -> None:
    case.verifications.granted(ID, EPOCH, 0)
    assert case.admit(10, adds=False) == WAIT  # and whoever heard of it appended nothing
    [(_, _, old)] = case.told
    with pytest.raises(ApiError) as later:
        case.admit(20, adds=False)
    assert later.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert case.admit(10, adds=False) > old


def test_a_grant_changes_nothing_where_a_question_is_under_way_or_was_answered(case: Case) -> None:
    guard = case.admit(10, adds=False)
    case.verifications.granted(ID, EPOCH, 0)
    assert case.told == []
    case.verifications.answered(guard, ErrorCode.NOT_ENOUGH_REPLICAS)
    case.verifications.granted(ID, EPOCH, 0)
    with pytest.raises(ApiError):
        case.admit(20, adds=False)

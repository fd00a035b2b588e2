"""The follower's states: events in, actions out."""

import pytest

from ottla.core.types import NodeId
from ottla.partitions.epoch_cache import EpochCache
from ottla.partitions.replication.divergence import Agreed, BeginAnew, Diverged, LogView, compare, cut_at
from ottla.partitions.replication.follower import (
    FollowerState,
    Pause,
    StartAnew,
    Step,
    Subscribe,
    Truncate,
    UnexpectedEvent,
)
from ottla.partitions.replication.types import NO_LEADER

L, M = NodeId(1), NodeId(2)


def log(*epochs: tuple[int, int], end: int, start: int = 0) -> LogView:
    return LogView(EpochCache(epochs), start, end)


def subscribing() -> FollowerState:
    state = FollowerState()
    assert state.lead(L, 3, online=True) == [Subscribe()]
    return state


def at(state: FollowerState) -> Step:
    return state.step


# -- divergence (KIP-101, KIP-279)


def test_a_beginning_of_the_leaders_log_agrees() -> None:
    leader = log((1, 0), (3, 10), end=20)
    assert compare(leader, 20, 3) == Agreed()
    assert compare(leader, 15, 3) == Agreed()
    assert compare(leader, 10, 1) == Agreed()
    assert compare(leader, 0, -1) == Agreed()


def test_records_that_the_leader_does_not_have_diverge_where_their_epoch_ended() -> None:
    leader = log((1, 0), (3, 10), end=20)
    assert compare(leader, 12, 1) == Diverged(1, 10)
    assert compare(leader, 25, 3) == Diverged(3, 20)


def test_an_epoch_that_the_leader_never_saw_diverges_at_the_one_before() -> None:
    leader = log((1, 0), (3, 10), end=20)
    assert compare(leader, 15, 2) == Diverged(1, 10)


def test_equal_ends_of_different_epochs_diverge() -> None:
    """Two leaders wrote the same offsets: comparing lengths, or high watermarks, would not tell."""
    assert compare(log((1, 0), (3, 10), end=20), 20, 2) == Diverged(1, 10)


def test_an_empty_leader_takes_the_whole_log_of_a_follower_for_foreign() -> None:
    assert compare(log((4, 0), end=0), 5, 2) == Diverged(2, 0)


def test_a_follower_that_ends_before_the_leaders_start_begins_anew() -> None:
    assert compare(log((4, 50), end=60, start=50), 49, 2) == BeginAnew(50)
    assert compare(log((4, 50), end=60, start=50), 50, 2) == Agreed()


def test_an_empty_follower_past_the_leaders_end_cuts() -> None:
    assert compare(log((4, 0), end=60), 70, -1) == Diverged(-1, 60)


def test_a_follower_cuts_at_the_smaller_of_both_ends() -> None:
    follower = log((1, 0), (2, 10), end=30)
    assert cut_at(follower, Diverged(2, 20)) == 20
    assert cut_at(follower, Diverged(1, 15)) == 10
    assert cut_at(follower, Diverged(1, 5)) == 5
    assert cut_at(follower, Diverged(-1, 7)) == 7


def test_asking_again_converges_over_interleaved_epochs() -> None:
    """KIP-279's scenario: both sides led in turns and neither saw the other's epochs."""
    leader = log((1, 0), (3, 12), (5, 18), end=25)
    follower = log((1, 0), (2, 10), (4, 15), end=30)
    end, last = 30, 4
    rounds = []
    while not isinstance(answer := compare(leader, end, last), Agreed):
        assert isinstance(answer, Diverged)
        end = cut_at(follower, answer)
        follower.epochs.truncate_end(end)
        follower = LogView(follower.epochs, 0, end)
        last = follower.epochs.epoch_for(end - 1)
        rounds.append((end, last))
    assert rounds == [(15, 2), (10, 1)]


# -- states


def test_a_life_in_order() -> None:
    state = FollowerState()
    assert state.lead(L, 3, online=False) == []
    assert at(state) is Step.WAITING
    assert state.connected() == [Subscribe()]
    assert state.diverged(Diverged(2, 20), log((1, 0), (2, 10), end=30), 20) == [Truncate(20, lossy=False)]
    assert at(state) is Step.CUTTING
    assert state.cut() == [Subscribe()]
    state.accepted()
    assert at(state) is Step.STREAMING
    state.data()
    state.disconnected()
    assert at(state) is Step.WAITING
    assert state.lead(NO_LEADER, 4, online=False) == []
    assert at(state) is Step.NO_LEADER


def test_truncation_below_the_high_watermark_says_so() -> None:
    state = subscribing()
    assert state.diverged(Diverged(2, 20), log((1, 0), (2, 10), end=30), 21) == [Truncate(20, lossy=True)]


def test_begins_anew_where_the_leader_starts() -> None:
    state = subscribing()
    assert state.begin_anew(BeginAnew(50), log((1, 0), end=30)) == [StartAnew(50)]
    assert state.cut() == [Subscribe()]


def test_a_refusal_pauses_and_asks_again() -> None:
    state = subscribing()
    assert state.refused() == [Pause()]
    assert state.retry() == [Subscribe()]
    assert state.retry() == [], "somebody else has asked already"


def test_a_change_of_leader_during_a_cut_waits_for_its_end() -> None:
    state = subscribing()
    state.diverged(Diverged(2, 20), log((1, 0), (2, 10), end=30), 0)
    assert state.lead(M, 4, online=True) == []
    assert at(state) is Step.CUTTING
    assert state.cut() == [Subscribe()]
    assert (state.leader, state.leader_epoch) == (M, 4)


def test_a_lost_connection_during_a_cut_is_remembered() -> None:
    state = subscribing()
    state.diverged(Diverged(2, 20), log((1, 0), (2, 10), end=30), 0)
    state.disconnected()
    assert state.cut() == []
    assert at(state) is Step.WAITING


def test_nothing_to_cut_pauses_instead_of_asking_in_a_circle() -> None:
    state = subscribing()
    assert state.diverged(Diverged(-1, 30), log(end=30), 0) == [Pause()]


@pytest.mark.parametrize("event", ["data", "accepted", "cut"])
def test_events_out_of_place_are_errors(event: str) -> None:
    state = FollowerState()
    with pytest.raises(UnexpectedEvent, match="while no leader known"):
        getattr(state, event)()


def test_offline_is_the_end() -> None:
    state = subscribing()
    state.failed()
    with pytest.raises(UnexpectedEvent):
        state.lead(M, 9, online=True)
    with pytest.raises(UnexpectedEvent):
        state.connected()

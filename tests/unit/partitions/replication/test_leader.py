"""The rules of DESIGN's "What keeps it safe", one by one."""

from typing import Any

from ottla.core.error_codes import ErrorCode
from ottla.core.types import NodeId
from ottla.partitions.replication.leader import REFUSED_PAUSE_MS, LeaderState
from ottla.partitions.replication.types import IsrChange, Verdict, verdict

ME, A, B = NodeId(1), NodeId(2), NodeId(3)


def leader(**fields: Any) -> LeaderState:
    given: dict[str, Any] = {
        "node": ME, "leader_epoch": 5, "epoch_start_offset": 100, "high_watermark": 90, "durable_end_offset": 100,
        "replicas": (ME, A, B), "isr": (ME, A, B), "partition_epoch": 7, "min_insync_replicas": 2,
        "lag_time_max_ms": 1000.0, "now_ms": 0.0,
    }  # fmt: skip
    state = LeaderState(**{**given, **fields})
    for node, epoch in ((A, 20), (B, 30)):
        if node in state.followers:
            state.subscribed(node, epoch)
    return state


def report(state: LeaderState, node: NodeId, durable: int, now_ms: float = 0.0, end: int | None = None) -> bool:
    return state.reported(node, durable, durable if end is None else end, 0, now_ms)


def change(*isr: tuple[NodeId, int], partition_epoch: int = 7) -> IsrChange:
    return IsrChange(leader_epoch=5, partition_epoch=partition_epoch, isr=isr)


# -- the high watermark


def test_high_watermark_is_the_smallest_durable_end_of_the_isr_the_leaders_own_included() -> None:
    state = leader()
    assert state.synced(110, 120) is False, "nothing is known of the followers"
    assert report(state, A, 115, end=120) is False
    assert report(state, B, 105, end=120) is True
    assert state.high_watermark == 105
    assert report(state, B, 118, end=120) is True
    assert state.high_watermark == 110, "the leader's own disk counts"
    assert state.synced(120, 120) is True
    assert state.high_watermark == 115


def test_log_ends_do_not_move_the_high_watermark() -> None:
    state = leader()
    state.synced(120, 120)
    report(state, A, 95, end=120)
    report(state, B, 95, end=120)
    assert state.high_watermark == 95


def test_high_watermark_never_goes_back() -> None:
    state = leader(high_watermark=100)
    state.synced(100, 100)
    report(state, A, 40)
    report(state, B, 50)
    assert state.high_watermark == 100


def test_high_watermark_stands_still_while_the_committed_isr_is_below_the_minimum() -> None:
    state = leader(isr=(ME,))
    assert state.synced(150, 150) is False
    assert report(state, A, 150) is False, "A is proposed, and not committed"
    assert state.pending == change((ME, -1), (A, 20))
    assert (state.high_watermark, state.has_enough_replicas) == (90, False)
    assert state.committed((ME, A, B), (ME, A), 8, 0.0) is True
    assert state.high_watermark == 150


def test_the_minimum_is_never_more_than_there_are_replicas() -> None:
    state = leader(replicas=(ME, A), isr=(ME, A), min_insync_replicas=5)
    assert state.effective_min_insync_replicas == 2
    assert state.has_enough_replicas


def test_a_single_replica_that_moves_takes_writes_while_its_copy_is_made() -> None:
    state = leader(replicas=(ME,), isr=(ME,))
    assert state.effective_min_insync_replicas == 1
    state.committed((A, ME), (ME,), 8, 0.0, replication_factor=1)
    assert state.has_enough_replicas, "two replicas, of which one is to stay"
    assert state.synced(150, 150) is True
    assert state.high_watermark == 150
    state.committed((A, ME), (ME,), 9, 0.0)
    assert not state.has_enough_replicas, "two that are to stay"


def test_what_a_follower_told_before_it_subscribed_anew_does_not_count() -> None:
    state = leader()
    report(state, A, 120)
    report(state, B, 120)
    state.subscribed(A, 20)
    assert state.synced(120, 120) is False
    assert state.high_watermark == 100
    assert report(state, A, 110) is True
    assert state.high_watermark == 110


def test_what_an_old_incarnation_told_does_not_count() -> None:
    state = leader()
    report(state, A, 120)
    report(state, B, 120)
    state.restarted(A, 21)
    assert state.synced(120, 120) is False
    state.subscribed(A, 21)
    state.restarted(A, 21)
    assert report(state, A, 120) is True


def test_latest_is_known_when_the_high_watermark_has_passed_the_start_of_the_epoch() -> None:
    state = leader()
    state.synced(100, 100)
    report(state, A, 99)
    report(state, B, 100)
    assert not state.latest_is_known
    report(state, A, 100)
    assert state.latest_is_known


# -- joining


def test_a_follower_joins_at_the_high_watermark_and_not_one_record_before() -> None:
    state = leader(isr=(ME, A), epoch_start_offset=50)
    state.synced(120, 120)
    report(state, A, 120)
    assert state.high_watermark == 120
    report(state, B, 119)
    assert state.take_proposal() is None
    report(state, B, 120)
    assert state.take_proposal() == change((ME, -1), (A, 20), (B, 30))
    assert state.take_proposal() is None, "it is sent once"


def test_a_follower_joins_at_the_start_of_the_epoch_and_not_one_record_before() -> None:
    state = leader(isr=(ME, A))  # high watermark 90, epoch from 100 on
    report(state, B, 99)
    assert state.pending is None
    report(state, B, 100)
    assert state.pending == change((ME, -1), (A, 20), (B, 30))


def test_a_proposed_member_counts_at_once() -> None:
    state = leader(isr=(ME, A))
    state.synced(100, 100)
    report(state, A, 100)
    report(state, B, 100)
    state.synced(130, 130)
    assert report(state, A, 130) is False, "B might be elected from now on"
    assert state.high_watermark == 100
    assert report(state, B, 125) is True
    assert state.high_watermark == 125


def test_only_registered_incarnations_that_are_not_fenced_join() -> None:
    state = leader(isr=(ME, A))
    state.eligible({ME: 1, A: 20})
    report(state, B, 100)
    assert state.pending is None, "B is fenced"
    state.eligible({ME: 1, A: 20, B: 31})
    state.tick(0.0)
    assert state.pending is None, "B is registered anew, what it told was its predecessor's"
    state.eligible({ME: 1, A: 20, B: 30})
    state.tick(0.0)
    assert state.pending == change((ME, -1), (A, 20), (B, 30))


def test_who_is_no_replica_any_more_does_not_join() -> None:
    state = leader(replicas=(ME, A), isr=(ME, A))
    assert B not in state.followers


# -- leaving


def test_a_follower_that_lags_leaves_after_the_time_and_counts_until_that_is_committed() -> None:
    state = leader()
    state.synced(100, 100)
    report(state, A, 100)
    report(state, B, 100)
    state.synced(200, 200)
    report(state, A, 200, now_ms=900)
    state.tick(1000.0)
    assert state.take_proposal() is None
    state.tick(1001.0)
    assert state.take_proposal() == change((ME, -1), (A, 20))
    state.synced(300, 300)
    report(state, A, 300, now_ms=1002)
    assert state.high_watermark == 100, "the controller may elect B still"
    assert state.committed((ME, A, B), (ME, A), 8, 1003.0) is True
    assert state.high_watermark == 300


def test_a_follower_that_keeps_pace_some_batches_behind_stays() -> None:
    state = leader(lag_time_max_ms=100.0)
    report(state, A, 100)
    report(state, B, 100)
    for n in range(1, 400):  # ten reports of B in the time of one round trip
        state.synced(100 + n, 100 + n)
        report(state, A, 100 + n, now_ms=n)
        report(state, B, max(100, 100 + n - 20), now_ms=n)
        state.tick(float(n))
    assert state.pending is None


def test_an_idle_follower_that_has_everything_stays() -> None:
    state = leader()
    report(state, A, 100)
    report(state, B, 100)
    state.tick(1e9)
    assert state.pending is None


# -- answers


def test_a_refused_change_is_over_and_proposed_again_after_a_pause() -> None:
    state = leader(isr=(ME, A))
    report(state, A, 100)
    report(state, B, 100)
    proposed = state.take_proposal()
    assert proposed is not None
    state.synced(120, 120)
    report(state, A, 120)
    assert state.high_watermark == 100
    assert state.answered(proposed, Verdict.REFUSED, 10.0) is True
    assert (state.pending, state.high_watermark) == (None, 120), "B does not count any more"
    report(state, B, 120, now_ms=10.0)
    assert state.pending is None
    state.tick(10.0 + REFUSED_PAUSE_MS)
    assert state.pending is not None


def test_an_answer_that_is_lost_changes_nothing_and_the_same_is_asked_again() -> None:
    state = leader(isr=(ME, A))
    report(state, B, 100)
    proposed = state.take_proposal()
    assert proposed is not None
    state.answered(proposed, Verdict.UNKNOWN, 0.0)
    assert state.maximal_isr == {ME, A, B}
    assert state.take_proposal() is proposed


def test_an_outdated_change_counts_until_the_metadata_tell_what_was_committed() -> None:
    state = leader(isr=(ME, A))
    report(state, B, 100)
    proposed = state.take_proposal()
    assert proposed is not None
    state.answered(proposed, Verdict.OUTDATED, 0.0)
    assert (state.maximal_isr, state.proposal_due) == ({ME, A, B}, False)
    state.committed((ME, A, B), (ME, A), 9, 0.0)
    assert state.pending is not proposed


def test_an_answer_to_an_earlier_change_is_passed_over() -> None:
    state = leader(isr=(ME, A))
    report(state, B, 100)
    proposed = state.take_proposal()
    assert proposed is not None
    state.committed((ME, A, B), (ME, A, B), 8, 0.0)
    assert state.answered(proposed, Verdict.REFUSED, 0.0) is False
    assert state.isr == (ME, A, B)


def test_an_older_state_is_passed_over() -> None:
    state = leader()
    assert state.committed((ME, A, B), (ME,), 7, 0.0) is False
    assert state.isr == (ME, A, B)


def test_what_errors_of_the_controller_mean() -> None:
    assert verdict(ErrorCode.INELIGIBLE_REPLICA) is Verdict.REFUSED
    assert verdict(ErrorCode.INVALID_UPDATE_VERSION) is Verdict.OUTDATED
    assert verdict(ErrorCode.FENCED_LEADER_EPOCH) is Verdict.OUTDATED
    assert verdict(ErrorCode.REQUEST_TIMED_OUT) is Verdict.UNKNOWN
    assert verdict(ErrorCode.NOT_CONTROLLER) is Verdict.UNKNOWN

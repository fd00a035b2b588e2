"""Who goes from a consumer group, or is put out of it, and what becomes of its partitions (KIP-848)."""

import pytest

from ottla.core.errors import ErrorCode
from tests.unit.coordinators.consumer_fakes import ConsumerCluster, Member, jobs, partitions_of, settle

ALL = jobs(*range(8))


@pytest.fixture
def cluster() -> ConsumerCluster:
    return ConsumerCluster()


# --- time


def test_silent_member_is_out_after_the_session_timeout(cluster: ConsumerCluster) -> None:
    a, b = Member(cluster, "a"), Member(cluster, "b")
    settle(a, b)
    cluster.run(44_000)
    a.beat()
    cluster.run(2_000)
    settle(a)
    assert a.owned == ALL
    assert cluster.beat("b", b.epoch).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_member_that_does_not_revoke_in_its_rebalance_timeout_is_out(cluster: ConsumerCluster) -> None:
    cluster.enter("a", rebalance_timeout_ms=20_000)
    cluster.enter("b")
    cluster.beat("a", 1, owned=ALL)
    for _ in range(2):
        cluster.run(9_000)
        assert cluster.beat("a", 1, owned=ALL).error_code == 0
        assert cluster.beat("b", 2, owned={}).assignment is None
    cluster.run(3_000)
    assert cluster.beat("a", 1, owned=ALL).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert partitions_of(cluster.beat("b", 2, owned={})) == ALL


def test_member_that_revokes_in_time_stays(cluster: ConsumerCluster) -> None:
    a, b = Member(cluster, "a"), Member(cluster, "b")
    a.beat()
    b.beat()
    a.beat()
    a.beat()
    for _ in range(4):
        cluster.run(30_000)
        a.beat()
        b.beat()


def test_timeouts_run_again_after_the_coordinator_moved(cluster: ConsumerCluster) -> None:
    cluster.enter("a", rebalance_timeout_ms=30_000)
    cluster.enter("b")
    cluster.beat("a", 1, owned=ALL)
    cluster.restart()
    cluster.run(29_000)
    assert cluster.beat("a", 1, owned=ALL).error_code == 0
    assert cluster.beat("b", 2).error_code == 0
    cluster.run(2_000)
    assert cluster.beat("a", 1, owned=ALL).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    cluster.run(46_000)
    assert cluster.beat("b", 2).error_code == ErrorCode.UNKNOWN_MEMBER_ID


# --- leaving, and static members


def test_partitions_of_a_member_that_leaves_are_free_at_once(cluster: ConsumerCluster) -> None:
    a, b = Member(cluster, "a"), Member(cluster, "b")
    settle(a, b)
    answer = cluster.beat("a", -1)
    assert (answer.error_code, answer.member_id, answer.member_epoch) == (0, "a", -1)
    assert partitions_of(b.beat()) == ALL
    assert cluster.kinds()[-7:-3] == [
        "-CurrentMemberAssignment",
        "-TargetAssignmentMember",
        "-MemberMetadata",
        "Metadata",
    ]


def test_static_member_that_is_away_keeps_its_partitions_for_its_next_life(cluster: ConsumerCluster) -> None:
    a, b = Member(cluster, "a", instance="i1"), Member(cluster, "b", instance="i2")
    settle(a, b)
    epoch = cluster.consumer_group().epoch
    assert cluster.beat("a", -2, instance_id="i1").member_epoch == -2
    b.beat()
    assert len(b.partitions) == 4
    back = Member(cluster, "a2", instance="i1")
    back.beat()
    assert back.owned == a.owned
    assert back.epoch == epoch, "nothing changes for the group"
    assert set(cluster.consumer_group().members) == {"a2", "b"}
    assert cluster.beat("a", a.epoch, instance_id="i1").error_code == ErrorCode.FENCED_INSTANCE_ID
    cluster.restart()
    assert set(cluster.consumer_group().members) == {"a2", "b"}
    assert back.beat().error_code == 0


def test_static_member_that_stays_away_is_out_after_its_session(cluster: ConsumerCluster) -> None:
    a, b = Member(cluster, "a", instance="i1"), Member(cluster, "b")
    settle(a, b)
    cluster.beat("a", -2, instance_id="i1")
    cluster.run(30_000)
    b.beat()
    cluster.run(16_000)
    settle(b)
    assert b.owned == ALL


def test_instance_id_in_use_is_not_given_away(cluster: ConsumerCluster) -> None:
    cluster.enter("a", instance_id="i")
    answer = cluster.enter("b", instance_id="i")
    assert answer.error_code == ErrorCode.UNRELEASED_INSTANCE_ID
    assert cluster.enter("a", instance_id="i").error_code == 0, "its owner may join again"


def test_static_member_may_come_back_under_its_old_id(cluster: ConsumerCluster) -> None:
    a = Member(cluster, "a", instance="i")
    settle(a)
    cluster.beat("a", -2, instance_id="i")
    assert cluster.beat("a", a.epoch, instance_id="i").error_code == ErrorCode.FENCED_MEMBER_EPOCH
    answer = cluster.enter("a", instance_id="i")
    assert (answer.member_epoch, partitions_of(answer)) == (1, ALL)
    cluster.restart()
    assert cluster.beat("a", 1, instance_id="i", owned=ALL).error_code == 0


def test_static_member_that_leaves_for_good(cluster: ConsumerCluster) -> None:
    cluster.enter("a", instance_id="i")
    assert cluster.beat("a", -1, instance_id="i").member_epoch == -1
    assert cluster.consumer_group().members == {}
    assert cluster.beat("a", 1, instance_id="i").error_code == ErrorCode.UNKNOWN_MEMBER_ID

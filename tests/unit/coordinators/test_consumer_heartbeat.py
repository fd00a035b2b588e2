"""ConsumerGroupHeartbeat, step by step: joins, the way to a target, and who is fenced (KIP-848)."""

from typing import Any

import pytest

from ottla.coordinators.groups.consumer.member import MemberState
from ottla.core.errors import ErrorCode
from ottla.core.types import Uuid
from tests.unit.coordinators.consumer_fakes import ConsumerCluster, Member, jobs, partitions_of, settle
from tests.unit.coordinators.coordinator_fakes import TOPIC_ID

ALL = jobs(*range(8))


@pytest.fixture
def cluster() -> ConsumerCluster:
    return ConsumerCluster()


def state(cluster: ConsumerCluster, member_id: str) -> tuple[MemberState, int]:
    member = cluster.consumer_group().members[member_id]
    return member.state, member.epoch


# --- joining


def test_first_member_gets_all_partitions_in_its_first_answer(cluster: ConsumerCluster) -> None:
    answer = cluster.enter("a")
    assert (answer.error_code, answer.member_id, answer.member_epoch) == (0, "a", 1)
    assert answer.heartbeat_interval_ms == 250
    assert partitions_of(answer) == ALL
    assert cluster.kinds() == [
        "MemberMetadata",
        "Metadata",
        "TargetAssignmentMember",
        "TargetAssignmentMetadata",
        "CurrentMemberAssignment",
    ]


def test_heartbeats_are_quick_for_a_while_after_each_change(cluster: ConsumerCluster) -> None:
    first, second, third = (Member(cluster, name) for name in "abc")
    settle(first, third)
    cluster.run(1_900)
    first.beat()
    assert first.interval_ms == 250
    cluster.run(100)
    first.beat()
    assert first.interval_ms == 1000

    second.beat()
    first.beat()
    assert (first.interval_ms, second.interval_ms) == (250, 250)
    settle(first, second, third)
    cluster.run(2_000)
    first.beat()
    assert first.interval_ms == 1000
    cluster.beat("b", -1)
    first.beat()
    assert first.interval_ms == 250


def test_many_members_have_no_quick_heartbeats(cluster: ConsumerCluster) -> None:
    members = [Member(cluster, str(number)) for number in range(201)]
    for member in members:
        member.beat()
    intervals = [member.interval_ms for member in members]
    assert intervals[:51] == [250] * 51
    assert intervals[100] == 500
    assert intervals[200] == 1000


def test_next_coordinator_asks_for_the_usual_heartbeats(cluster: ConsumerCluster) -> None:
    member = Member(cluster, "a")
    member.beat()
    cluster.restart()
    member.beat()
    assert member.interval_ms == 1000


def test_heartbeat_in_a_settled_group_writes_nothing_and_says_nothing_new(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    before = cluster.log.log_end_offset
    answer = cluster.beat("a", 1)
    assert (answer.error_code, answer.member_epoch, answer.assignment) == (0, 1, None)
    assert cluster.log.log_end_offset == before


def test_heartbeat_that_says_everything_is_told_everything(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    answer = cluster.beat("a", 1, subscribed_topic_names=["jobs"], rebalance_timeout_ms=60_000, owned=ALL)
    assert partitions_of(answer) == ALL


def test_member_without_an_id_is_given_one_by_version_0_only(cluster: ConsumerCluster) -> None:
    answer = cluster.enter("", version=0)
    assert answer.error_code == 0
    assert len(answer.member_id) == 22
    assert answer.member_id in cluster.consumer_group().members
    assert cluster.enter("", version=1).error_code == ErrorCode.INVALID_REQUEST


def test_partition_changes_hands_only_when_its_owner_has_given_it_up(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    second = cluster.enter("b")
    assert (second.member_epoch, partitions_of(second)) == (2, {})
    assert state(cluster, "b") == (MemberState.UNRELEASED_PARTITIONS, 2)

    told = cluster.beat("a", 1, owned=ALL)
    kept = partitions_of(told)
    assert kept is not None
    assert len(kept[TOPIC_ID]) == 4
    assert told.member_epoch == 1, "it is in the old epoch until it has given up the rest"
    assert state(cluster, "a") == (MemberState.UNREVOKED_PARTITIONS, 1)
    assert partitions_of(cluster.enter("b")) == {}
    assert cluster.beat("b", 2, owned={}).assignment is None

    assert cluster.beat("a", 1, owned=ALL).member_epoch == 1, "it still owns all"
    assert cluster.beat("a", 1).member_epoch == 1, "it does not say what it owns"
    assert cluster.beat("b", 2, owned={}).assignment is None

    assert cluster.beat("a", 1, owned=kept).member_epoch == 2
    assert state(cluster, "a") == (MemberState.STABLE, 2)
    rest = partitions_of(cluster.beat("b", 2, owned={}))
    assert rest == {TOPIC_ID: ALL[TOPIC_ID] - kept[TOPIC_ID]}
    assert state(cluster, "b") == (MemberState.STABLE, 2)


def test_member_takes_what_is_free_before_the_rest_is(cluster: ConsumerCluster) -> None:
    a, b, c = (Member(cluster, name) for name in "abc")
    settle(a, b)
    c.beat()
    a.beat()
    a.beat()  # has given up its part, b has not
    assert len(c.partitions) == 0
    c.beat()
    assert 0 < len(c.partitions) < 2
    assert state(cluster, "c")[0] is MemberState.UNRELEASED_PARTITIONS
    settle(a, b, c)
    assert sorted(len(member.partitions) for member in (a, b, c)) == [2, 3, 3]


def test_new_target_while_a_member_revokes_is_followed_after_the_revocation(cluster: ConsumerCluster) -> None:
    a, b, c = (Member(cluster, name) for name in "abc")
    a.beat()
    b.beat()
    a.beat()
    assert state(cluster, "a") == (MemberState.UNREVOKED_PARTITIONS, 1)
    c.beat()
    owned = a.owned
    a.beat()
    assert state(cluster, "a")[0] is MemberState.UNREVOKED_PARTITIONS
    assert a.owned[TOPIC_ID] < owned[TOPIC_ID], "now for the third member"
    assert a.epoch == 2, "it left the epoch whose partitions it gave up, and is not in the newest yet"
    settle(a, b, c)
    assert {member.epoch for member in (a, b, c)} == {3}


# --- the group's epoch


def test_changed_subscription_raises_the_epoch(cluster: ConsumerCluster) -> None:
    other = cluster.topics.create("other", 2)
    cluster.enter("a")
    answer = cluster.beat("a", 1, subscribed_topic_names=["other"], owned=ALL)
    assert (answer.member_epoch, partitions_of(answer)) == (1, {})
    answer = cluster.beat("a", 1, owned={})
    assert (answer.member_epoch, partitions_of(answer)) == (2, {other: {0, 1}})


def test_more_partitions_are_given_out_with_the_next_heartbeat(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    cluster.beat("a", 1)
    cluster.topics.counts["jobs"] = 10
    assert cluster.beat("a", 1).assignment is None, "nobody told the coordinator"
    cluster.coordinator.topics_changed()
    answer = cluster.beat("a", 1)
    assert (answer.member_epoch, partitions_of(answer)) == (2, jobs(*range(10)))


def test_topic_that_comes_later_is_given_out(cluster: ConsumerCluster) -> None:
    answer = cluster.enter("a", topics=("late",))
    assert (answer.member_epoch, partitions_of(answer)) == (1, {})
    late = cluster.topics.create("late", 1)
    cluster.coordinator.topics_changed()
    answer = cluster.beat("a", 1, owned={})
    assert (answer.member_epoch, partitions_of(answer)) == (2, {late: {0}})


def test_deleted_topic_is_taken_away_and_a_new_one_of_its_name_is_another(cluster: ConsumerCluster) -> None:
    first = cluster.topics.create("other", 1)
    assert partitions_of(cluster.enter("a", topics=("other",))) == {first: {0}}
    second = cluster.topics.create("other", 1)
    cluster.coordinator.topics_changed()
    assert partitions_of(cluster.beat("a", 1, owned={first: {0}})) == {}
    assert partitions_of(cluster.beat("a", 1, owned={})) == {second: {0}}


def test_topics_that_do_not_concern_the_group_change_nothing(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    before = cluster.log.log_end_offset
    cluster.topics.create("other", 3)
    cluster.coordinator.topics_changed()
    assert cluster.beat("a", 1).member_epoch == 1
    assert cluster.log.log_end_offset == before


def test_topics_that_changed_while_nobody_coordinated_are_noticed(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    cluster.topics.counts["jobs"] = 9
    cluster.restart()
    answer = cluster.beat("a", 1)
    assert (answer.member_epoch, partitions_of(answer)) == (2, jobs(*range(9)))


# --- epochs of members


def test_member_that_missed_an_answer_comes_with_its_previous_epoch(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    cluster.topics.counts["jobs"] = 10
    cluster.coordinator.topics_changed()
    cluster.beat("a", 1, owned=ALL)  # the answer is lost
    again = cluster.beat("a", 1, owned=ALL, subscribed_topic_names=["jobs"], rebalance_timeout_ms=60_000)
    assert (again.error_code, again.member_epoch, partitions_of(again)) == (0, 2, jobs(*range(10)))


@pytest.mark.parametrize(
    ("epoch", "owned"),
    [(3, ALL), (1, jobs(0, 11)), (1, None), (1, {Uuid(b"another-topic-id"): {0}})],
    ids=["from the future", "owns more than it has", "does not say what it owns", "owns another topic"],
)
def test_wrong_epoch_is_fenced(cluster: ConsumerCluster, epoch: int, owned: Any) -> None:
    cluster.enter("a")
    cluster.topics.counts["jobs"] = 10
    cluster.coordinator.topics_changed()
    assert cluster.beat("a", 1).member_epoch == 2
    answer = cluster.beat("a", epoch, owned=owned)
    assert answer.error_code == ErrorCode.FENCED_MEMBER_EPOCH
    assert "rejoin" in answer.error_message


def test_epoch_before_the_previous_one_is_fenced(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    for count in (9, 10):
        cluster.topics.counts["jobs"] = count
        cluster.coordinator.topics_changed()
        cluster.beat("a", count - 8)
    assert cluster.beat("a", 1, owned=ALL).error_code == ErrorCode.FENCED_MEMBER_EPOCH


def test_fenced_member_joins_again_under_its_id(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    cluster.enter("b")
    answer = cluster.enter("a")
    assert answer.error_code == 0
    assert answer.member_epoch == 2
    given = partitions_of(answer)
    assert given is not None
    assert len(given[TOPIC_ID]) == 4, "it gave up everything, so the others need not wait for it"
    other = partitions_of(cluster.beat("b", 2, owned={}))
    assert other == {TOPIC_ID: ALL[TOPIC_ID] - given[TOPIC_ID]}


def test_unknown_member_and_unknown_group(cluster: ConsumerCluster) -> None:
    assert cluster.beat("a", 1).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    cluster.enter("a")
    assert cluster.beat("b", 1).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert cluster.beat("b", -1).error_code == ErrorCode.UNKNOWN_MEMBER_ID

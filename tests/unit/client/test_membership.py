"""What a member of a group tells its coordinator, and what it makes of the answers."""

from collections.abc import Sequence

from ottla.client.coordination import HeartbeatAnswer, TopicIdAndName
from ottla.client.membership import JOIN_EPOCH, Membership, MemberState
from ottla.client.types import TopicPartition

T0, T1, T2 = (TopicPartition("t", index) for index in range(3))
TOPIC = TopicIdAndName(b"t-id", "t")


def joined(instance_id: str | None = None) -> Membership:
    member = Membership(group_id="g", member_id="m", instance_id=instance_id, rebalance_timeout_ms=1000)
    member.join(["t"])
    return member


def beat(member: Membership, epoch: int, *indexes: int, topic: TopicIdAndName = TOPIC) -> None:
    answer = HeartbeatAnswer(
        member_id="m", member_epoch=epoch, heartbeat_interval_ms=5, assignment={topic: indexes} if indexes else None
    )
    member.answered(member.request(), answer)


def settle(member: Membership) -> None:
    revoked, added = member.difference()
    member.gave_up(revoked)
    member.took(added)


def owned(member: Membership) -> Sequence[int] | None:
    told = member.request().owned
    return None if told is None else told.get(b"t-id", [])


def test_joining_says_everything_and_staying_only_what_changed() -> None:
    member = joined()
    first = member.request()
    assert (first.member_epoch, first.topics, first.owned, first.rebalance_timeout_ms) == (0, ("t",), {}, 1000)
    beat(member, 1, 0, 1)
    assert (member.state, member.epoch, member.interval_ms) == (MemberState.MEMBER, 1, 5)
    quiet = member.request()
    assert (quiet.topics, quiet.owned, quiet.rebalance_timeout_ms, member.has_news) == (None, None, -1, False)
    settle(member)
    assert member.has_news
    assert (member.request().topics, owned(member)) == (None, [0, 1])
    beat(member, 1)
    assert (owned(member), member.has_news) == (None, False)
    member.join(["t", "u"])
    assert member.request().topics == ("t", "u")


def test_after_a_lost_heartbeat_everything_is_said_again() -> None:
    member = joined()
    beat(member, 1, 0)
    settle(member)
    member.failed()
    again = member.request()
    assert (again.member_epoch, again.topics, again.owned) == (1, ("t",), {b"t-id": [0]})


def test_partitions_that_stay_are_in_no_difference() -> None:
    member = joined()
    beat(member, 1, 0, 1)
    assert member.difference() == ([], [T0, T1])
    settle(member)
    beat(member, 1, 1)
    assert member.difference() == ([T0], [])
    settle(member)
    assert owned(member) == [1]
    beat(member, 2, 1, 2)
    assert member.difference() == ([], [T2])
    assert set(member.owned) == {T1}


def test_a_target_that_is_reached_by_itself_is_told() -> None:
    member = joined()
    beat(member, 1, 0)
    settle(member)
    beat(member, 1)
    beat(member, 2, 0, 1)
    beat(member, 2, 0)  # before anything was taken
    assert member.difference() == ([], [])
    assert (member.has_news, owned(member)) == (True, [0])
    beat(member, 2)
    assert (member.has_news, owned(member)) == (False, None)


def test_so_is_one_for_which_is_given_up_what_the_coordinator_never_knew_to_be_taken() -> None:
    member = joined()
    beat(member, 1, 0)
    settle(member)
    beat(member, 1)
    beat(member, 2, 0, 1)
    request = member.request()
    settle(member)
    answer = HeartbeatAnswer(member_id="m", member_epoch=2, heartbeat_interval_ms=5, assignment={TOPIC: [0]})
    member.answered(request, answer)
    settle(member)
    assert (member.has_news, owned(member)) == (True, [0])


def test_what_changed_while_a_heartbeat_was_under_way_is_news() -> None:
    member = joined()
    beat(member, 1, 0)
    settle(member)
    request = member.request()
    member.gave_up([T0])
    member.answered(request, HeartbeatAnswer(member_id="m", member_epoch=1, heartbeat_interval_ms=5, assignment=None))
    assert (member.has_news, owned(member)) == (True, [])


def test_a_topic_made_anew_is_another_one() -> None:
    member = joined()
    beat(member, 1, 0)
    settle(member)
    beat(member, 2, 0, topic=TopicIdAndName(b"another", "t"))
    assert member.difference() == ([T0], [T0])


def test_who_is_fenced_loses_everything_and_joins_again() -> None:
    member = joined()
    beat(member, 3, 0, 1)
    settle(member)
    member.fenced()
    assert (member.state, member.epoch, member.owned) == (MemberState.JOINING, JOIN_EPOCH, {})
    assert sorted(member.lost) == [T0, T1]
    assert member.difference() == ([], [])
    assert member.request().owned == {}
    assert member.metadata().member_epoch == -1


def test_an_answer_to_an_earlier_membership_says_nothing() -> None:
    member = joined()
    beat(member, 3, 0)
    request = member.request()
    member.fenced()
    answer = HeartbeatAnswer(member_id="m", member_epoch=3, heartbeat_interval_ms=5, assignment={TOPIC: [0]})
    member.answered(request, answer)
    assert (member.state, member.difference()) == (MemberState.JOINING, ([], []))


def test_a_static_member_leaves_so_that_nothing_moves() -> None:
    assert joined().leaving().member_epoch == -1
    assert joined(instance_id="i").leaving().member_epoch == -2

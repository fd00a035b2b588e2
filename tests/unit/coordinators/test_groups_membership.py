"""Scenes of the classic protocol: what each member is told, and when."""

import pytest

from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.state import GroupState
from ottla.core.error_codes import ErrorCode
from ottla.protocol.messages.sync_group_request import SyncGroupRequest
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.group_cluster import Cluster


def test_a_first_member_leads_the_first_generation() -> None:
    cluster = Cluster()
    member, joined = cluster.join_new(metadata=b"topics")

    answer = joined.take()
    assert (answer.generation_id, answer.leader, answer.member_id) == (1, member, member)
    assert (answer.protocol_type, answer.protocol_name) == ("consumer", "range")
    assert [(item.member_id, item.metadata) for item in answer.members] == [(member, b"topics")]

    synced = cluster.sync(member, 1, {member: b"all"})
    assert synced.take().assignment == b"all"
    assert cluster.heartbeat(member, 1) == ErrorCode.NONE
    assert cluster.group().state is GroupState.STABLE


def test_member_ids_bear_the_name_of_their_client() -> None:
    cluster = Cluster()
    answer = cluster.join(client="shop").take()
    assert answer.member_id.startswith("shop-")
    assert len(answer.member_id) == len("shop-") + 36


def test_clients_of_old_versions_join_without_a_second_request() -> None:
    cluster = Cluster()
    assert cluster.join(version=3).take().generation_id == 1


def test_a_second_member_makes_the_first_rejoin() -> None:
    cluster = Cluster()
    (first,), generation = cluster.stable(1)
    second, waiting = cluster.join_new()
    assert not waiting.arrived
    assert cluster.heartbeat(first, generation) == ErrorCode.REBALANCE_IN_PROGRESS

    rejoined = cluster.join(first)
    assert rejoined.take().generation_id == waiting.take().generation_id == generation + 1
    assert {item.member_id for item in rejoined.take().members} == {first, second}
    assert waiting.take().leader == first
    assert waiting.take().members == []


def test_followers_wait_for_the_assignment_of_their_leader() -> None:
    cluster = Cluster()
    (leader, follower), generation = cluster.joined(2)
    waiting = cluster.sync(follower, generation)
    assert not waiting.arrived
    cluster.sync(leader, generation, {leader: b"1", follower: b"2"})
    assert waiting.take().assignment == b"2"


def test_a_follower_that_syncs_late_gets_what_was_decided() -> None:
    cluster = Cluster()
    (leader, follower), generation = cluster.joined(2)
    cluster.sync(leader, generation, {leader: b"1", follower: b"2"})
    assert cluster.sync(follower, generation).take().assignment == b"2"


def test_members_whom_the_leader_forgot_get_an_empty_assignment() -> None:
    cluster = Cluster()
    (leader, follower), generation = cluster.joined(2)
    cluster.sync(leader, generation, {leader: b"1"})
    assert cluster.sync(follower, generation).take().assignment == b""


def test_a_member_that_joins_again_unchanged_does_not_disturb_the_group() -> None:
    cluster = Cluster()
    (_, follower), generation = cluster.stable(2)
    again = cluster.join(follower)
    assert again.take().generation_id == generation
    assert cluster.group().state is GroupState.STABLE


def test_a_leader_that_joins_again_starts_a_rebalance() -> None:
    cluster = Cluster()
    (leader, follower), generation = cluster.stable(2)
    again = cluster.join(leader)
    assert not again.arrived
    assert cluster.heartbeat(follower, generation) == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_member_with_another_subscription_starts_a_rebalance() -> None:
    cluster = Cluster()
    (_, follower), _ = cluster.stable(2)
    cluster.join(follower, metadata=b"other topics")
    assert cluster.group().state is GroupState.PREPARING_REBALANCE


def test_joining_while_the_leader_assigns_sends_those_who_wait_back() -> None:
    cluster = Cluster()
    (_, follower), generation = cluster.joined(2)
    waiting = cluster.sync(follower, generation)
    cluster.join_new()
    assert waiting.code == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_member_that_missed_the_answer_to_its_join_gets_it_again() -> None:
    cluster = Cluster()
    (leader, follower), generation = cluster.joined(2)
    again = cluster.join(leader).take()
    assert again.generation_id == generation
    assert {item.member_id for item in again.members} == {leader, follower}


def test_silence_ends_a_membership_after_the_session_timeout() -> None:
    cluster = Cluster(session_timeout_ms=10_000)
    (first, second), generation = cluster.stable(2)
    for _ in range(3):
        cluster.run(4_000)
        code = cluster.heartbeat(first, generation)
    assert code is ErrorCode.REBALANCE_IN_PROGRESS
    assert set(cluster.group().members) == {first}
    assert cluster.join(first).take().generation_id == generation + 1
    assert cluster.heartbeat(second, generation) == ErrorCode.UNKNOWN_MEMBER_ID


def test_heartbeats_keep_a_session_alive() -> None:
    cluster = Cluster(session_timeout_ms=10_000)
    (member,), generation = cluster.stable(1)
    for _ in range(20):
        cluster.run(9_000)
        assert cluster.heartbeat(member, generation) == ErrorCode.NONE


def test_a_member_that_waits_for_others_needs_no_heartbeat() -> None:
    cluster = Cluster(session_timeout_ms=10_000)
    (first, second), generation = cluster.stable(2)
    waiting = cluster.join(first)
    for _ in range(5):
        cluster.run(9_000)
        assert cluster.heartbeat(second, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    assert first in cluster.group().members
    cluster.join(second)
    assert waiting.code == ErrorCode.NONE


def test_whoever_does_not_rejoin_in_time_is_out() -> None:
    cluster = Cluster(session_timeout_ms=300_000)
    (first, second), generation = cluster.stable(2, rebalance_timeout_ms=20_000)
    waiting = cluster.join(first, rebalance_timeout_ms=20_000)
    cluster.run(19_999)
    assert not waiting.arrived
    cluster.run(1)
    assert waiting.take().generation_id == generation + 1
    assert cluster.heartbeat(second, generation + 1) == ErrorCode.UNKNOWN_MEMBER_ID


def test_whoever_never_asks_for_its_assignment_is_out() -> None:
    cluster = Cluster(session_timeout_ms=300_000)
    (leader, lost), generation = cluster.joined(2, rebalance_timeout_ms=20_000)
    cluster.sync(leader, generation, {leader: b"1", lost: b"2"})
    assert cluster.group().state is GroupState.STABLE
    cluster.run(20_000)
    assert cluster.heartbeat(leader, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    assert lost not in cluster.group().members


def test_a_leader_that_dies_before_it_assigns_is_replaced() -> None:
    cluster = Cluster(session_timeout_ms=10_000)
    (leader, follower), generation = cluster.joined(2)
    waiting = cluster.sync(follower, generation)
    cluster.run(10_000)
    assert waiting.code == ErrorCode.REBALANCE_IN_PROGRESS
    assert cluster.join(follower).take().leader == follower
    assert leader not in cluster.group().members


def test_a_promised_member_that_never_comes_is_not_waited_for_beyond_its_session() -> None:
    cluster = Cluster(session_timeout_ms=10_000)
    (member,), _ = cluster.stable(1)
    cluster.join()
    waiting = cluster.join(member)
    assert not waiting.arrived
    cluster.run(10_000)
    assert waiting.code == ErrorCode.NONE


def test_promises_of_members_leave_nothing_behind() -> None:
    cluster = Cluster(session_timeout_ms=10_000)
    cluster.join()
    assert cluster.group().pending_join
    cluster.run(10_000)
    (shard,) = cluster.coordinator.runtime.active_shards()
    assert shard.groups == {}
    assert cluster.log.records() == []


def test_leaving_tells_the_others_at_once() -> None:
    cluster = Cluster()
    (first, second), generation = cluster.stable(2)
    answer = cluster.leave(second)
    assert [item.error_code for item in answer.members] == [ErrorCode.NONE]
    assert cluster.heartbeat(first, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    assert cluster.join(first).take().generation_id == generation + 1


def test_the_last_to_leave_empties_the_group_for_good() -> None:
    cluster = Cluster()
    (member,), generation = cluster.stable(1)
    cluster.leave(member)
    assert cluster.group().state is GroupState.EMPTY
    assert cluster.generation() == generation + 1
    cluster.restart()
    assert cluster.group().state is GroupState.EMPTY
    assert cluster.join_new()[1].take().generation_id == generation + 2


def test_several_leave_with_one_request_and_each_gets_its_outcome() -> None:
    cluster = Cluster()
    (first, second, third), generation = cluster.stable(3)
    answer = cluster.leave(second, "stranger", third)
    codes = [item.error_code for item in answer.members]
    assert codes == [ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NONE]
    assert cluster.join(first).take().generation_id == generation + 1


@pytest.mark.parametrize("timeout_ms", [5_999, 1_800_001])
def test_session_timeouts_have_limits(timeout_ms: int) -> None:
    assert Cluster().join(session_timeout_ms=timeout_ms).code == ErrorCode.INVALID_SESSION_TIMEOUT


def test_a_group_has_a_name() -> None:
    assert Cluster().join(group="").code == ErrorCode.INVALID_GROUP_ID


def test_nobody_joins_an_unknown_group_under_an_old_id() -> None:
    assert Cluster().join("gone-1").code == ErrorCode.UNKNOWN_MEMBER_ID


def test_members_share_a_protocol_or_stay_out() -> None:
    cluster = Cluster()
    cluster.stable(1, protocols=("range", "sticky"))
    assert cluster.join(protocols=("cooperative",)).code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert cluster.join(protocol_type="connect").code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert cluster.join(protocols=()).code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_the_protocol_that_all_support_and_most_prefer_wins() -> None:
    cluster = Cluster()
    first, _ = cluster.join_new(protocols=("a", "b", "c"))
    second, _ = cluster.join_new(protocols=("b", "c", "a"))
    cluster.join(first, protocols=("a", "b", "c"))
    _, waiting = cluster.join_new(protocols=("x", "c", "b"))
    cluster.join(first, protocols=("a", "b", "c"))
    cluster.join(second, protocols=("b", "c", "a"))
    assert waiting.take().protocol_name == "b"


def test_a_full_group_takes_nobody() -> None:
    cluster = Cluster(group_max_size=2)
    (first, _), generation = cluster.stable(2)
    assert cluster.join().code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert cluster.heartbeat(first, generation) == ErrorCode.NONE


@pytest.mark.parametrize("generation_step", [-1, 1])
def test_calls_of_another_generation_are_refused(generation_step: int) -> None:
    cluster = Cluster()
    (member,), generation = cluster.stable(1)
    other = generation + generation_step
    assert cluster.heartbeat(member, other) == ErrorCode.ILLEGAL_GENERATION
    assert cluster.sync(member, other).code == ErrorCode.ILLEGAL_GENERATION


def test_a_sync_for_another_protocol_is_refused() -> None:
    cluster = Cluster()
    (member,), generation = cluster.joined(1)
    assert cluster.sync(member, generation, protocol="sticky").code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_a_sync_has_to_name_its_protocol_since_it_can() -> None:
    cluster = Cluster()
    (member,), generation = cluster.joined(1)
    for missing in ("protocol_type", "protocol_name"):
        request = SyncGroupRequest(
            group_id="g", generation_id=generation, member_id=member, protocol_type="consumer", protocol_name="range"
        )
        setattr(request, missing, None)
        answer = Answer()
        cluster.coordinator.sync_group(request, Caller("client", "/127.0.0.1", 5), answer)
        assert answer.code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert cluster.sync(member, generation, {member: b"1"}, protocol=None).take().assignment == b"1"


def test_leaving_an_unknown_group_is_an_error_of_each_member() -> None:
    cluster = Cluster()
    response = cluster.leave("m", group="nobody", instances=("i",))
    assert response.error_code == ErrorCode.NONE
    assert [member.error_code for member in response.members] == [ErrorCode.UNKNOWN_MEMBER_ID] * 2
    assert cluster.leave("m", group="nobody", version=2).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    (shard,) = cluster.coordinator.runtime.active_shards()
    assert shard.groups == {}


def test_a_new_group_waits_for_more_members_when_it_is_told_to() -> None:
    cluster = Cluster(group_initial_rebalance_delay_ms=3_000)
    first, one = cluster.join_new()
    cluster.run(2_000)
    second, two = cluster.join_new()
    cluster.run(3_999)
    assert not one.arrived
    cluster.run(1)
    assert one.take().generation_id == two.take().generation_id == 1
    assert {item.member_id for item in one.take().members} == {first, second}


def test_the_initial_wait_ends_with_the_rebalance_timeout() -> None:
    cluster = Cluster(group_initial_rebalance_delay_ms=3_000)
    _, one = cluster.join_new(rebalance_timeout_ms=7_000)
    for _ in range(6):
        cluster.run(1_000)
        cluster.join_new(rebalance_timeout_ms=7_000)
    cluster.run(1_000)
    assert one.code == ErrorCode.NONE
    assert len(one.take().members) == 7


class TestStaticMembers:
    def test_a_static_member_comes_back_without_a_rebalance(self) -> None:
        cluster = Cluster()
        old = cluster.join(instance="i1").take()
        follower, _ = cluster.join_new()
        cluster.join(old.member_id, instance="i1")
        cluster.sync(old.member_id, 2, {old.member_id: b"1", follower: b"2"}, instance="i1")
        cluster.sync(follower, 2)

        back = cluster.join(instance="i1").take()
        assert back.error_code == ErrorCode.NONE
        assert back.member_id != old.member_id
        assert back.generation_id == 2
        assert back.leader == back.member_id
        assert back.skip_assignment
        assert len(back.members) == 2
        assert cluster.sync(back.member_id, 2, instance="i1").take().assignment == b"1"
        assert cluster.heartbeat(follower, 2) == ErrorCode.NONE

    def test_clients_that_cannot_skip_the_assignment_come_back_as_followers(self) -> None:
        cluster = Cluster()
        old = cluster.join(instance="i1", version=8).take()
        cluster.sync(old.member_id, 1, {old.member_id: b"1"}, instance="i1")
        back = cluster.join(instance="i1", version=8).take()
        assert (back.leader, back.members, back.skip_assignment) == (old.member_id, [], False)

    def test_the_former_self_is_fenced(self) -> None:
        cluster = Cluster()
        old = cluster.join(instance="i1").take().member_id
        cluster.sync(old, 1, {old: b"1"}, instance="i1")
        new = cluster.join(instance="i1").take().member_id
        assert cluster.heartbeat(old, 1, instance="i1") == ErrorCode.FENCED_INSTANCE_ID
        assert cluster.heartbeat(old, 1) == ErrorCode.UNKNOWN_MEMBER_ID
        assert cluster.sync(old, 1, instance="i1").code == ErrorCode.FENCED_INSTANCE_ID
        assert cluster.join(old, instance="i1").code == ErrorCode.FENCED_INSTANCE_ID
        assert cluster.committed(cluster.commit({0: 1}, member_id=old, generation=1, instance="i1")) == [
            ErrorCode.FENCED_INSTANCE_ID
        ]
        assert cluster.heartbeat(new, 1, instance="i1") == ErrorCode.NONE

    def test_a_duplicate_that_waits_for_the_rebalance_is_fenced_at_once(self) -> None:
        cluster = Cluster()
        (dynamic,), _ = cluster.stable(1)
        waiting = cluster.join(instance="i1")
        assert not waiting.arrived
        second = cluster.join(instance="i1")
        assert waiting.code == ErrorCode.FENCED_INSTANCE_ID
        cluster.join(dynamic)
        assert second.code == ErrorCode.NONE

    def test_coming_back_while_the_leader_assigns_starts_again(self) -> None:
        cluster = Cluster()
        old = cluster.join(instance="i1").take()
        back = cluster.join(instance="i1").take()
        assert back.generation_id == old.generation_id + 1

    def test_a_new_preference_changes_the_protocol_and_so_rebalances(self) -> None:
        cluster = Cluster()
        old = cluster.join(instance="i1", protocols=("range", "sticky")).take()
        cluster.sync(old.member_id, 1, {old.member_id: b"1"}, instance="i1")
        back = cluster.join(instance="i1", protocols=("sticky", "range")).take()
        assert (back.generation_id, back.protocol_name) == (2, "sticky")

    def test_the_swap_survives_a_restart(self) -> None:
        cluster = Cluster()
        old = cluster.join(instance="i1").take().member_id
        cluster.sync(old, 1, {old: b"1"}, instance="i1")
        new = cluster.join(instance="i1").take().member_id
        cluster.restart()
        assert cluster.heartbeat(new, 1, instance="i1") == ErrorCode.NONE
        assert cluster.heartbeat(old, 1, instance="i1") == ErrorCode.FENCED_INSTANCE_ID
        assert cluster.sync(new, 1, instance="i1").take().assignment == b"1"

    def test_an_absent_static_member_is_kept_until_its_session_ends(self) -> None:
        cluster = Cluster(session_timeout_ms=30_000)
        static = cluster.join(instance="i1", rebalance_timeout_ms=5_000).take().member_id
        newcomer, waiting = cluster.join_new(rebalance_timeout_ms=5_000)
        cluster.run(5_000)
        assert waiting.take().generation_id == 2
        assert static in cluster.group().members
        for _ in range(4):
            cluster.run(8_000)
            cluster.heartbeat(newcomer, 2)
        assert static not in cluster.group().members

    def test_an_administrator_removes_a_static_member_by_its_instance_id(self) -> None:
        cluster = Cluster()
        member = cluster.join(instance="i1").take().member_id
        cluster.sync(member, 1, {member: b"1"}, instance="i1")
        answer = cluster.leave(instances=("i1", "i2"))
        assert [item.error_code for item in answer.members] == [ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID]
        assert cluster.group().state is GroupState.EMPTY


def test_a_restarted_coordinator_goes_on_with_the_generation_it_finds() -> None:
    cluster = Cluster(session_timeout_ms=10_000)
    (leader, follower), generation = cluster.stable(2, metadata=b"topics")
    cluster.restart()
    assert cluster.heartbeat(leader, generation) == ErrorCode.NONE
    assert cluster.sync(follower, generation).take().assignment == follower.encode()
    assert cluster.group().leader_id == leader
    cluster.run(10_000)
    assert cluster.group().state is GroupState.EMPTY, "nobody gave a sign of life since"


def test_a_rebalance_that_a_crash_interrupts_is_forgotten() -> None:
    cluster = Cluster()
    (member,), generation = cluster.stable(1)
    newcomer, _ = cluster.join_new()
    cluster.restart()
    assert cluster.heartbeat(member, generation) == ErrorCode.NONE
    assert cluster.join(newcomer).code == ErrorCode.UNKNOWN_MEMBER_ID

"""Members whose connection closed: how long they are waited for, and who is left alone."""

import pytest

from ottla.coordinators.groups.presence import Presence
from ottla.coordinators.groups.state import GroupState
from ottla.core.errors import ApiError, ErrorCode
from tests.unit.coordinators.consumer_fakes import ConsumerCluster, Member, jobs, settle
from tests.unit.coordinators.coordinator_fakes import TOPIC_ID
from tests.unit.coordinators.group_cluster import Cluster

SESSION_MS = 10_000
PATIENCE_MS = 3_333
"""A third of that."""
CONSUMER_PATIENCE_MS = 3_000
"""Three heartbeats."""


def two(cluster: Cluster) -> tuple[str, str, int]:
    """Two members of a stable group, on the connections 1 and 2; the first leads."""
    cluster.connection = 1
    first, joined = cluster.join_new()
    generation = joined.take().generation_id
    cluster.sync(first, generation, {first: b"all"})
    cluster.connection = 2
    second, _ = cluster.join_new()
    cluster.connection = 1
    generation = cluster.join(first).take().generation_id
    cluster.sync(first, generation, {first: b"1", second: b"2"})
    cluster.connection = 2
    assert cluster.sync(second, generation).take().assignment == b"2"
    return first, second, generation


def members(cluster: Cluster) -> set[str]:
    return set(cluster.group().members)


def disconnected(cluster: Cluster) -> list[tuple[str, int]]:
    return [
        (fields["member"], fields["waited_ms"]) for name, fields in cluster.reported if name == "member_disconnected"
    ]


# --- classic groups


def test_member_is_out_a_third_of_its_session_after_its_connection_closed() -> None:
    cluster = Cluster()
    first, second, generation = two(cluster)
    cluster.close(2)
    cluster.run(PATIENCE_MS - 1)
    assert members(cluster) == {first, second}
    cluster.run(2)
    assert members(cluster) == {first}
    cluster.connection = 1
    assert cluster.heartbeat(first, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    assert cluster.join(first).take().generation_id == generation + 1
    assert disconnected(cluster) == [(second, PATIENCE_MS)]
    assert cluster.coordinator.disconnected == 1


@pytest.mark.parametrize("by", ["heartbeat", "commit", "join", "sync"])
def test_member_that_is_heard_again_has_its_whole_session(by: str) -> None:
    cluster = Cluster()
    first, second, generation = two(cluster)
    cluster.close(2)
    cluster.run(PATIENCE_MS - 100)
    cluster.connection = 3
    if by == "heartbeat":
        assert cluster.heartbeat(second, generation) == ErrorCode.NONE
    elif by == "commit":
        assert cluster.committed(cluster.commit({0: 1}, member_id=second, generation=generation)) == [ErrorCode.NONE]
    elif by == "join":
        assert cluster.join(second).take().generation_id == generation
    else:
        assert cluster.sync(second, generation).take().assignment == b"2"
    cluster.run(SESSION_MS / 2)
    cluster.connection = 1
    assert cluster.heartbeat(first, generation) == ErrorCode.NONE
    cluster.run(SESSION_MS / 2 - 100)
    assert members(cluster) == {first, second}
    cluster.run(200)
    assert members(cluster) == {first}
    assert disconnected(cluster) == []


def test_connection_that_a_member_gave_up_before_means_nothing() -> None:
    cluster = Cluster()
    first, second, generation = two(cluster)
    cluster.connection = 3
    assert cluster.heartbeat(second, generation) == ErrorCode.NONE
    cluster.close(2)
    cluster.run(PATIENCE_MS + 1)
    assert members(cluster) == {first, second}
    cluster.close(3)
    cluster.run(PATIENCE_MS + 1)
    assert members(cluster) == {first}


def test_session_is_never_prolonged() -> None:
    cluster = Cluster()
    first, second, generation = two(cluster)
    cluster.run(SESSION_MS - 1_000)
    cluster.connection = 1
    cluster.heartbeat(first, generation)
    cluster.close(2)
    cluster.run(1_001)
    assert members(cluster) == {first}
    assert second not in dict(disconnected(cluster))  # its session was over


def test_member_that_was_put_out_joins_anew() -> None:
    cluster = Cluster()
    first, second, generation = two(cluster)
    cluster.close(2)
    cluster.run(PATIENCE_MS + 1)
    cluster.connection = 3
    assert cluster.heartbeat(second, generation) == ErrorCode.UNKNOWN_MEMBER_ID
    refused = cluster.commit({0: 1}, member_id=second, generation=generation)
    assert cluster.committed(refused) == [ErrorCode.UNKNOWN_MEMBER_ID]
    again, _ = cluster.join_new()
    cluster.connection = 1
    cluster.join(first)
    assert members(cluster) == {first, again}


def test_static_member_keeps_its_session() -> None:
    cluster = Cluster()
    cluster.connection = 1
    joined = cluster.join(instance="i").take()
    member, generation = joined.member_id, joined.generation_id
    cluster.sync(member, generation, {member: b"all"}, instance="i")
    cluster.close(1)
    cluster.run(SESSION_MS - 1)
    assert members(cluster) == {member}
    cluster.run(2)
    assert members(cluster) == set()


def test_who_waits_for_a_join_is_not_put_out_before_it_is_answered() -> None:
    cluster = Cluster()
    first, second, generation = two(cluster)
    cluster.connection = 3
    third, waiting = cluster.join_new()
    cluster.connection = 2
    rejoined = cluster.join(second)
    cluster.close(2)
    cluster.close(3)
    for _ in range(3):
        cluster.run(PATIENCE_MS)
        cluster.connection = 1
        assert cluster.heartbeat(first, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    assert members(cluster) == {first, second, third}

    cluster.join(first)
    assert rejoined.take().generation_id == waiting.take().generation_id == generation + 1  # nobody read these
    cluster.sync(first, generation + 1, {first: b"1"})
    cluster.run(PATIENCE_MS - 1)
    assert members(cluster) == {first, second, third}
    cluster.run(2)
    assert members(cluster) == {first}


def test_who_waits_for_its_assignment_is_not_put_out_before_it_is_answered() -> None:
    cluster = Cluster()
    (leader, _), generation = cluster.joined(2)
    follower = next(member for member in members(cluster) if member != leader)
    cluster.connection = 2
    waiting = cluster.sync(follower, generation)
    cluster.close(2)
    cluster.run(SESSION_MS - 1)
    assert members(cluster) == {leader, follower}
    cluster.sync(leader, generation, {leader: b"1", follower: b"2"})
    assert waiting.arrived
    cluster.run(PATIENCE_MS + 1)
    assert members(cluster) == {leader}


def test_who_comes_back_while_others_are_waited_for_has_its_whole_session() -> None:
    cluster = Cluster()
    first, second, _ = two(cluster)
    cluster.connection = 3
    third, _ = cluster.join_new()
    cluster.connection = 2
    cluster.join(second)
    cluster.close(2)
    cluster.connection = 4
    rejoined = cluster.join(second)
    cluster.connection = 1
    cluster.join(first)
    assert rejoined.take().error_code == 0
    cluster.run(PATIENCE_MS + 1)
    assert members(cluster) == {first, second, third}


def test_next_coordinator_knows_no_connections() -> None:
    cluster = Cluster()
    first, second, _ = two(cluster)
    cluster.close(2)
    cluster.restart()
    cluster.close(1)
    cluster.run(SESSION_MS - 1)
    assert members(cluster) == {first, second}
    cluster.run(2)
    assert members(cluster) == set()


def test_failed_append_leaves_the_member_away() -> None:
    cluster = Cluster()
    first, second, generation = two(cluster)
    cluster.join(second, metadata=b"other topics")
    cluster.close(2)
    cluster.connection = 1
    assert cluster.join(first).take().generation_id == generation + 1
    cluster.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    assert cluster.sync(first, generation + 1, {first: b"1"}).code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert cluster.generation() == generation
    cluster.run(PATIENCE_MS - 1)
    assert members(cluster) == {first, second}
    cluster.run(2)
    assert members(cluster) == {first}
    assert disconnected(cluster) == [(second, PATIENCE_MS)]


def test_switched_off_it_is_as_in_kafka() -> None:
    cluster = Cluster(disconnect_timeout_ms=-1)
    first, second, _ = two(cluster)
    cluster.close(1)
    cluster.close(2)
    cluster.run(SESSION_MS - 1)
    assert members(cluster) == {first, second}
    cluster.run(2)
    assert members(cluster) == set()


def test_setting_counts_where_a_third_of_the_session_is_shorter() -> None:
    cluster = Cluster(disconnect_timeout_ms=7_000)
    first, second, _ = two(cluster)
    cluster.close(1)
    cluster.close(2)
    cluster.run(7_000 - 1)
    assert members(cluster) == {first, second}
    cluster.run(2)
    assert members(cluster) == set()


# --- consumer groups


def three(cluster: ConsumerCluster) -> list[Member]:
    found = []
    for number in (1, 2, 3):
        cluster.connection = number
        found.append(Member(cluster, f"m{number}"))
        settle_all(cluster, found)
    return found


def settle_all(cluster: ConsumerCluster, found: list[Member]) -> None:
    """Each on its own connection."""
    for _ in range(6):
        for number, member in enumerate(found, 1):
            cluster.connection = number
            member.beat()


def test_consumer_group_goes_on_without_a_member_whose_connection_closed() -> None:
    cluster = ConsumerCluster(consumer_session_timeout_ms=SESSION_MS)
    first, second, third = three(cluster)
    cluster.close(3)
    cluster.run(CONSUMER_PATIENCE_MS - 1)
    settle_all(cluster, [first, second])
    assert set(cluster.consumer_group().members) == {"m1", "m2", "m3"}
    cluster.run(2)
    settle_all(cluster, [first, second])
    assert first.owned[TOPIC_ID] | second.owned[TOPIC_ID] == jobs(*range(8))[TOPIC_ID]
    assert disconnected(cluster) == [("m3", CONSUMER_PATIENCE_MS)]
    cluster.connection = 4
    refused = cluster.beat("m3", third.epoch, owned=third.owned)
    assert refused.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    third.epoch, third.owned = 0, {}
    settle(first, second, third)
    assert third.owned


def test_consumer_that_connects_again_stays() -> None:
    cluster = ConsumerCluster(consumer_session_timeout_ms=SESSION_MS)
    first, second, third = three(cluster)
    epoch = cluster.consumer_group().epoch
    cluster.close(3)
    cluster.run(CONSUMER_PATIENCE_MS - 1)
    cluster.connection = 4
    third.beat()
    settle_all(cluster, [first, second])
    cluster.run(SESSION_MS - 1)
    assert cluster.consumer_group().epoch == epoch
    assert disconnected(cluster) == []


def test_consumer_is_waited_for_three_heartbeats_however_long_its_session() -> None:
    """A third of the default session would be 15 s. librdkafka may go without a goodbye, as does whatever is killed."""
    cluster = ConsumerCluster(disconnect_timeout_ms=0, consumer_heartbeat_interval_ms=2_000)
    cluster.connection = 1
    first = Member(cluster, "m1")
    settle(first)
    cluster.connection = 2
    Member(cluster, "m2").beat()
    cluster.close(2)
    cluster.connection = 1
    settle(first)
    cluster.run(5_999)
    assert set(cluster.consumer_group().members) == {"m1", "m2"}
    cluster.run(2)
    settle(first)
    assert first.owned == jobs(*range(8))
    assert disconnected(cluster) == [("m2", 6_000)]


def test_call_by_grpc_gives_the_whole_session() -> None:
    cluster = ConsumerCluster(consumer_session_timeout_ms=SESSION_MS)
    cluster.connection = 1
    member = Member(cluster, "m")
    member.beat()
    cluster.connection = 0
    member.beat()
    cluster.close(1)
    cluster.run(SESSION_MS - 1)
    assert set(cluster.consumer_group().members) == {"m"}


def test_static_consumer_keeps_its_session() -> None:
    cluster = ConsumerCluster(consumer_session_timeout_ms=SESSION_MS)
    cluster.connection = 1
    Member(cluster, "m", instance="i").beat()
    cluster.close(1)
    cluster.run(SESSION_MS - 1)
    assert set(cluster.consumer_group().members) == {"m"}
    cluster.run(2)
    assert not cluster.consumer_group().members


# --- what is kept


def test_nothing_is_kept_of_members_that_are_gone() -> None:
    presence = Presence(3_000)
    presence.heard("g", "a", 1)
    presence.heard("g", "b", 1)
    presence.heard("g", "a", 2)
    presence.forget("g", "b")
    assert presence.closed(1) == []
    assert presence.closed(2) == [("g", "a")]
    presence.forget("g", "a")
    assert presence.patience_ms("g", "a", 9_000) is None
    assert not any(vars(presence)[name] for name in ("_connections", "_members", "_away"))


def test_stable_state_is_left_by_the_usual_way() -> None:
    cluster = Cluster()
    two(cluster)
    assert cluster.group().state is GroupState.STABLE
    cluster.close(1)
    cluster.close(2)
    cluster.run(PATIENCE_MS + 1)
    cluster.run(60_000)
    assert cluster.group().state is GroupState.EMPTY

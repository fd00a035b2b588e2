"""Groups that change their protocol while their members work, and classic members of consumer groups."""

from typing import Any

import pytest

from ottla.coordinators.groups.consumer.embedded import decode_assignment
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from ottla.protocol.messages.consumer_protocol_assignment import ConsumerProtocolAssignment
from ottla.protocol.messages.consumer_protocol_assignment import TopicPartition as Assigned
from ottla.protocol.messages.consumer_protocol_subscription import ConsumerProtocolSubscription, TopicPartition
from tests.unit.coordinators.consumer_fakes import ConsumerCluster, Member, jobs, settle
from tests.unit.coordinators.coordinator_fakes import TOPIC_ID

EAGER, COOPERATIVE = "range", "cooperative-sticky"


def subscription(*owned: int, topics: tuple[str, ...] = ("jobs",)) -> bytes:
    message = ConsumerProtocolSubscription(
        topics=list(topics), owned_partitions=[TopicPartition(topic="jobs", partitions=list(owned))] if owned else []
    )
    out = bytearray(b"\x00\x01")
    message.encode_into(out, 1)
    return bytes(out)


def assignment(*partitions: int) -> bytes:
    message = ConsumerProtocolAssignment(assigned_partitions=[Assigned(topic="jobs", partitions=list(partitions))])
    out = bytearray(b"\x00\x01")
    message.encode_into(out, 1)
    return bytes(out)


class Classic:
    """A client of the classic protocol, eager or cooperative."""

    def __init__(self, cluster: ConsumerCluster, protocol: str = EAGER, instance: str | None = None) -> None:
        self.cluster, self.protocol, self.instance = cluster, protocol, instance
        self.member_id = ""
        self.generation = -1
        self.owned: set[int] = set()

    @property
    def partitions(self) -> set[tuple[Uuid, int]]:
        return {(TOPIC_ID, index) for index in self.owned}

    def _metadata(self) -> bytes:
        if self.protocol == EAGER:
            self.owned = set()
        return subscription(*sorted(self.owned))

    def join(self) -> Any:
        answer = self.cluster.join(
            self.member_id, instance=self.instance, protocols=(self.protocol,), metadata=self._metadata()
        ).take()
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            return self.join()
        if answer.error_code == 0:
            self.member_id, self.generation = answer.member_id, answer.generation_id
        return answer

    def sync(self) -> ErrorCode:
        answer = self.cluster.sync(self.member_id, self.generation, instance=self.instance, protocol=self.protocol)
        response = answer.take()
        if response.error_code:
            return ErrorCode(response.error_code)
        given = set(decode_assignment(response.assignment, self.cluster.topics).get(TOPIC_ID, ()))
        gone = self.owned - given
        self.owned = given
        if gone:  # a cooperative member gives up, and joins again to say so
            self.rejoin()
        return ErrorCode.NONE

    def rejoin(self) -> None:
        assert self.join().error_code == 0
        self.sync()

    def beat(self) -> ErrorCode:
        """A heartbeat, and what it asks for."""
        code = self.cluster.heartbeat(self.member_id, self.generation, instance=self.instance)
        if code is ErrorCode.REBALANCE_IN_PROGRESS:
            self.rejoin()
        return code


@pytest.fixture
def cluster() -> ConsumerCluster:
    return ConsumerCluster()


def classic_group(cluster: ConsumerCluster, *, protocol: str = EAGER) -> list[Classic]:
    """Two members of a classic group, with four partitions each."""
    ids, generation = cluster.joined(2, protocols=(protocol,), metadata=subscription())
    clients = []
    for number, member_id in enumerate(ids):
        client = Classic(cluster, protocol)
        client.member_id, client.generation = member_id, generation
        client.owned = set(range(4 * number, 4 * number + 4))
        clients.append(client)
    follower = cluster.sync(ids[1], generation, protocol=protocol)
    leader = cluster.sync(
        ids[0], generation, {ids[0]: assignment(0, 1, 2, 3), ids[1]: assignment(4, 5, 6, 7)}, protocol=protocol
    )
    assert (follower.code, leader.code) == (0, 0)
    return clients


def parts_of(*members: Classic | Member) -> list[set[tuple[Uuid, int]]]:
    return [one.partitions for one in members]


def work(*members: Classic | Member, rounds: int = 12) -> None:
    """All go on until nothing moves, and never do two of them read the same."""
    for _ in range(rounds):
        for member in members:
            member.beat()
            parts = parts_of(*members)
            assert sum(map(len, parts)) == len(set().union(*parts)), "read by two"


def is_classic(cluster: ConsumerCluster) -> bool:
    (shard,) = cluster.coordinator.runtime.active_shards()
    assert ("g" in shard.groups) != (shard.consumers.get("g") is not None)
    return "g" in shard.groups


# --- upgrade


@pytest.mark.parametrize("protocol", [EAGER, COOPERATIVE])
def test_first_member_of_the_new_protocol_takes_the_group_along(cluster: ConsumerCluster, protocol: str) -> None:
    old = classic_group(cluster, protocol=protocol)
    new = Member(cluster, "new")
    new.beat()
    assert new.partitions == set(), "others have them"
    assert not is_classic(cluster)
    assert [old[0].beat(), old[1].beat()] == [ErrorCode.REBALANCE_IN_PROGRESS] * 2
    work(*old, new)
    assert sorted(map(len, parts_of(*old, new))) == [2, 3, 3]
    assert cluster.described().group_state == "Stable"
    assert sorted(member.member_type for member in cluster.described().members) == [0, 0, 1]
    cluster.restart()
    work(*old, new, rounds=2)
    assert sorted(map(len, parts_of(*old, new))) == [2, 3, 3]


def test_members_that_wait_in_a_rebalance_are_sent_to_join_again(cluster: ConsumerCluster) -> None:
    old = classic_group(cluster)
    waiting = cluster.join(old[0].member_id, protocols=(EAGER,), metadata=subscription())
    assert not waiting.arrived
    cluster.enter("new")
    assert waiting.code == ErrorCode.REBALANCE_IN_PROGRESS
    old[0].owned = set()
    old[0].rejoin()
    new = Member(cluster, "new")
    work(*old, new)
    assert sorted(map(len, parts_of(*old, new))) == [2, 3, 3]


def test_partition_that_a_classic_leader_gave_to_two_has_one_owner(cluster: ConsumerCluster) -> None:
    ids, generation = cluster.joined(2, metadata=subscription())
    cluster.sync(ids[0], generation, {ids[0]: assignment(0, 1), ids[1]: assignment(1, 2)})
    cluster.enter("new")
    for _ in range(2):
        members = cluster.consumer_group().members
        parts = [set(members[member_id].assigned.get(TOPIC_ID, {})) for member_id in ids]
        assert parts in ([{0, 1}, {2}], [{0}, {1, 2}])
        assert set(members["new"].assigned[TOPIC_ID]).isdisjoint({0, 1, 2})
        cluster.restart()


@pytest.mark.parametrize("policy", ["disabled", "downgrade"])
def test_policy_forbids_the_upgrade(policy: str) -> None:
    cluster = ConsumerCluster(consumer_migration_policy=policy)
    old = classic_group(cluster)
    assert cluster.enter("new").error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert [one.beat() for one in old] == [ErrorCode.NONE] * 2


def test_group_of_another_kind_is_not_upgraded(cluster: ConsumerCluster) -> None:
    cluster.join("", version=3, protocol_type="connect", metadata=b"x")
    assert cluster.enter("new").error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_subscription_that_is_not_understood_stays_classic(cluster: ConsumerCluster) -> None:
    cluster.stable(1, metadata=b"?")
    before = cluster.log.log_end_offset
    assert cluster.enter("new").error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert is_classic(cluster)
    assert cluster.log.log_end_offset == before


def test_upgrade_that_cannot_be_written_leaves_the_classic_group(cluster: ConsumerCluster) -> None:
    old = classic_group(cluster)
    cluster.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    assert cluster.enter("new").error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert is_classic(cluster)
    assert [one.beat() for one in old] == [ErrorCode.NONE] * 2


def test_offsets_stay_through_both_ways(cluster: ConsumerCluster) -> None:
    old = classic_group(cluster)
    committed = cluster.commit({0: 5}, member_id=old[0].member_id, generation=old[0].generation)
    assert cluster.committed(committed) == [ErrorCode.NONE]
    cluster.enter("new")
    assert cluster.fetch(partitions=(0,)) == {0: 5}
    cluster.beat("new", -1)
    cluster.run(1)
    assert is_classic(cluster)
    assert cluster.fetch(partitions=(0,)) == {0: 5}
    cluster.restart()
    assert cluster.fetch(partitions=(0,)) == {0: 5}


# --- classic members of a consumer group


def test_classic_member_joins_a_consumer_group(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new")
    new.beat()
    old = Classic(cluster)
    answer = old.join()
    assert (answer.error_code, answer.leader, answer.members, answer.protocol_name) == (0, "", [], EAGER)
    assert old.sync() is ErrorCode.NONE
    assert old.owned == set()
    work(old, new)
    assert {*map(len, parts_of(old, new))} == {4}
    committed = cluster.commit({0: 5}, member_id=old.member_id, generation=old.generation, version=8)
    assert cluster.committed(committed) == [ErrorCode.NONE]
    committed = cluster.commit({0: 5}, member_id=old.member_id, generation=old.generation + 1, version=8)
    assert cluster.committed(committed) == [ErrorCode.ILLEGAL_GENERATION]


def test_classic_member_whose_connection_closed_has_a_third_of_its_own_session(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new")
    new.beat()
    cluster.connection = 2
    old = Classic(cluster)
    assert old.join().error_code == 0
    assert old.sync() is ErrorCode.NONE
    cluster.close(2)
    third_ms = cluster.session_timeout_ms // 3
    cluster.run(third_ms - 1)
    assert set(cluster.consumer_group().members) == {"new", old.member_id}
    cluster.run(2)
    assert set(cluster.consumer_group().members) == {"new"}


def test_classic_calls_are_checked(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new")
    new.beat()
    old = Classic(cluster)
    old.join()
    epoch = old.generation
    assert cluster.heartbeat("new", new.epoch) is ErrorCode.UNKNOWN_MEMBER_ID, "it speaks the other protocol"
    assert cluster.heartbeat("nobody", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert cluster.heartbeat(old.member_id, epoch + 1) is ErrorCode.ILLEGAL_GENERATION
    assert cluster.sync(old.member_id, epoch - 1).code == ErrorCode.ILLEGAL_GENERATION
    assert cluster.sync(old.member_id, epoch, protocol="other").code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert cluster.join("", protocol_type="connect").code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert cluster.join("", metadata=b"?").code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    other = cluster.join("", protocols=("other",), metadata=subscription())
    assert other.code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "the classic members could not be a group of their own"
    assert cluster.leave("new").members[0].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert cluster.leave(old.member_id).members[0].error_code == 0
    assert new.beat().error_code == 0


def test_member_that_does_not_join_again_in_time_is_out(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new")
    new.beat()
    old = Classic(cluster)
    old.join()
    old.sync()
    work(old, new)
    new.topics = ("jobs", "other")
    cluster.topics.create("other", 1)
    new.beat(subscribed_topic_names=["jobs", "other"])
    for _ in range(7):  # it beats, and does not do what it hears
        assert cluster.heartbeat(old.member_id, old.generation) is ErrorCode.REBALANCE_IN_PROGRESS
        cluster.run(8_000)
        new.beat()
    cluster.run(8_000)
    assert cluster.heartbeat(old.member_id, old.generation) is ErrorCode.UNKNOWN_MEMBER_ID


def test_member_that_does_not_sync_in_time_is_out(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new")
    new.beat()
    old = Classic(cluster)
    old.join()
    for _ in range(7):
        cluster.run(9_000)
        new.beat()
        cluster.heartbeat(old.member_id, old.generation)
    assert cluster.heartbeat(old.member_id, old.generation) is ErrorCode.UNKNOWN_MEMBER_ID


def test_silent_classic_member_is_out_after_its_own_session_timeout(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new")
    new.beat()
    old = Classic(cluster)
    old.join()
    old.sync()
    cluster.run(11_000)
    work(new, rounds=2)
    assert new.owned == jobs(*range(8))


# --- downgrade


@pytest.mark.parametrize("protocol", [EAGER, COOPERATIVE])
def test_last_member_of_the_new_protocol_leaves_a_classic_group(cluster: ConsumerCluster, protocol: str) -> None:
    new = Member(cluster, "new")
    new.beat()
    old = [Classic(cluster, protocol), Classic(cluster, protocol)]
    for one in old:
        one.join()
        one.sync()
    work(*old, new)
    cluster.beat("new", -1)
    cluster.run(1)
    assert is_classic(cluster)
    rebalance(cluster, old, protocol)


def rebalance(cluster: ConsumerCluster, clients: list[Classic], protocol: str) -> None:
    """A round of the classic protocol, of which the members hear in their heartbeats."""
    codes = {cluster.heartbeat(one.member_id, one.generation) for one in clients}
    assert codes == {ErrorCode.REBALANCE_IN_PROGRESS}
    joins = [cluster.join(one.member_id, protocols=(protocol,), metadata=subscription()) for one in clients]
    cluster.run()
    answers = [one.take() for one in joins]
    assert {answer.error_code for answer in answers} == {0}
    assert {answer.leader for answer in answers} <= {one.member_id for one in clients}
    assert len({answer.generation_id for answer in answers}) == 1
    assert answers[0].generation_id > max(one.generation for one in clients)


def test_rebalance_after_the_downgrade_is_not_lost_with_the_coordinator(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new")
    new.beat()
    old = [Classic(cluster), Classic(cluster)]
    for one in old:
        one.join()
        one.sync()
    work(*old, new)
    cluster.beat("new", -1)
    cluster.run(1)
    cluster.restart()
    assert is_classic(cluster)
    rebalance(cluster, old, EAGER)


def test_downgrade_that_cannot_be_written_is_tried_again(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new")
    new.beat()
    old = Classic(cluster)
    old.join()
    old.sync()
    work(old, new)
    answer = cluster.send(leaving("new"))
    cluster.clock.call_soon(cluster.log.refusals.append, ApiError(ErrorCode.NOT_ENOUGH_REPLICAS))
    cluster.run(1)
    cluster.run(1)
    assert answer.arrived
    assert cluster.log.refusals == []
    assert is_classic(cluster)
    rebalance(cluster, [old], EAGER)


def leaving(member_id: str) -> Any:
    return ConsumerGroupHeartbeatRequest(group_id="g", member_id=member_id, member_epoch=-1)


def test_silence_of_the_last_member_of_the_new_protocol_counts_too(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new")
    new.beat()
    old = Classic(cluster)
    old.join()
    old.sync()
    work(old, new)
    for _ in range(6):
        cluster.run(8_000)
        if not is_classic(cluster):
            old.beat()
    assert is_classic(cluster)


def test_static_member_may_change_its_protocol(cluster: ConsumerCluster) -> None:
    new = Member(cluster, "new", instance="i")
    new.beat()
    old = Classic(cluster, instance="i")
    assert old.join().error_code == 0
    cluster.run(1)
    assert is_classic(cluster), "nobody speaks the new protocol any more"
    assert cluster.beat("new", 1, instance_id="i").error_code == ErrorCode.GROUP_ID_NOT_FOUND
    again = cluster.enter("newer", instance_id="i")
    assert again.error_code == 0
    assert set(cluster.consumer_group().members) == {"newer"}


@pytest.mark.parametrize("policy", ["disabled", "upgrade"])
def test_policy_forbids_the_downgrade(policy: str) -> None:
    cluster = ConsumerCluster(consumer_migration_policy=policy)
    new = Member(cluster, "new")
    new.beat()
    old = Classic(cluster)
    old.join()
    old.sync()
    cluster.beat("new", -1)
    cluster.run(1)
    assert not is_classic(cluster)
    work(old, rounds=3)
    assert old.owned == set(range(8)), "it is served as before"


def test_there_and_back_again(cluster: ConsumerCluster) -> None:
    old = classic_group(cluster)
    for _ in range(2):
        new = Member(cluster, "new")
        work(*old, new)
        assert not is_classic(cluster)
        assert sum(map(len, parts_of(*old, new))) == 8
        cluster.beat("new", -1)
        cluster.run(1)
        assert is_classic(cluster)
        joins = [cluster.join(one.member_id, protocols=(EAGER,), metadata=subscription()) for one in old]
        leader = joins[0].take().leader
        generation = joins[0].take().generation_id
        parts = {old[0].member_id: assignment(0, 1, 2, 3), old[1].member_id: assignment(4, 5, 6, 7)}
        for one in sorted(old, key=lambda one: one.member_id == leader):
            one.generation = generation
            cluster.sync(one.member_id, generation, parts if one.member_id == leader else None)
        for number, one in enumerate(old):
            one.owned = set(range(4 * number, 4 * number + 4))
    settle()

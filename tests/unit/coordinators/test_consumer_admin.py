"""Consumer groups as administrators and committers see them."""

from typing import Any

import pytest

from ottla.coordinators.groups.joining import Caller
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.delete_groups_request import DeleteGroupsRequest
from ottla.protocol.messages.describe_groups_request import DescribeGroupsRequest
from ottla.protocol.messages.list_groups_request import ListGroupsRequest
from ottla.protocol.messages.offset_delete_request import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.protocol.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from tests.unit.coordinators.consumer_fakes import ConsumerCluster, Member, jobs, settle
from tests.unit.coordinators.coordinator_fakes import Answer


@pytest.fixture
def cluster() -> ConsumerCluster:
    return ConsumerCluster()


def ask(cluster: ConsumerCluster, method: str, request: Any, version: int) -> Any:
    answer = Answer()
    getattr(cluster.coordinator, method)(request, Caller("admin", "/127.0.0.1", version), answer)
    cluster.run()
    return answer.take()


def listed(cluster: ConsumerCluster, states: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> list[Any]:
    request = ListGroupsRequest(states_filter=list(states), types_filter=list(types))
    groups = ask(cluster, "list_groups", request, 5).groups
    return sorted((one.group_id, one.protocol_type, one.group_state, one.group_type) for one in groups)


def delete(cluster: ConsumerCluster, group: str = "g") -> ErrorCode:
    (result,) = ask(cluster, "delete_groups", DeleteGroupsRequest(groups_names=[group]), 2).results
    return ErrorCode(result.error_code)


def fetched(cluster: ConsumerCluster, member_id: str | None, epoch: int) -> tuple[ErrorCode, dict[int, int]]:
    request = OffsetFetchRequestGroup(
        group_id="g",
        member_id=member_id,
        member_epoch=epoch,
        topics=[OffsetFetchRequestTopics(name="jobs", partition_indexes=[0])],
    )
    (group,) = ask(cluster, "fetch_offsets", OffsetFetchRequest(groups=[request]), 9).groups
    return ErrorCode(group.error_code), {
        item.partition_index: item.committed_offset for topic in group.topics for item in topic.partitions
    }


def commit(cluster: ConsumerCluster, member_id: str, epoch: int, partition: int = 0, **fields: Any) -> ErrorCode:
    (code,) = cluster.committed(cluster.commit({partition: 7}, member_id=member_id, generation=epoch, **fields))
    return code


# --- states


def test_state_follows_the_epochs(cluster: ConsumerCluster) -> None:
    a, b = Member(cluster, "a"), Member(cluster, "b")
    settle(a, b)
    assert cluster.described().group_state == "Stable"
    cluster.beat("b", -1)
    described = cluster.described()
    assert (described.group_state, described.group_epoch, described.assignment_epoch) == ("Assigning", 3, 2)
    b.epoch, b.owned = 0, {}
    b.beat()
    assert cluster.described().group_state == "Reconciling"
    settle(a, b)
    assert cluster.described().group_state == "Stable"
    cluster.beat("a", -1)
    cluster.beat("b", -1)
    assert cluster.described().group_state == "Empty"


def test_description_shows_what_members_have_and_shall_have(cluster: ConsumerCluster) -> None:
    cluster.enter("a", instance_id="i", rack_id="r")
    cluster.enter("b")
    described = cluster.described()
    assert described.assignor_name == "uniform"
    a, b = described.members
    assert (a.member_id, a.instance_id, a.rack_id, a.member_epoch, a.client_id, a.client_host, a.member_type) == (
        "a",
        "i",
        "r",
        1,
        "client",
        "/127.0.0.1",
        1,
    )
    assert (a.subscribed_topic_names, a.subscribed_topic_regex) == (["jobs"], None)
    assert a.assignment is not None
    assert a.target_assignment is not None
    assert [(one.topic_name, one.partitions) for one in a.assignment.topic_partitions] == [("jobs", list(range(8)))]
    (target,) = a.target_assignment.topic_partitions
    assert len(target.partitions) == 4
    assert b.assignment is not None
    assert b.assignment.topic_partitions == []


def test_groups_are_found_only_as_what_they_are(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    (classic,) = ask(cluster, "describe_groups", DescribeGroupsRequest(groups=["g"]), 6).groups
    assert classic.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    (classic,) = ask(cluster, "describe_groups", DescribeGroupsRequest(groups=["g"]), 5).groups
    assert (classic.error_code, classic.group_state) == (0, "Dead")
    cluster.stable(1, group="c")
    described = cluster.described("c")
    assert (described.error_code, described.error_message) == (
        ErrorCode.GROUP_ID_NOT_FOUND,
        "Group c is not a consumer group.",
    )
    assert cluster.described("nothing").error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_lists_know_types(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    cluster.stable(1, group="c")
    consumer, classic = ("g", "consumer", "Stable", "Consumer"), ("c", "consumer", "Stable", "Classic")
    assert listed(cluster) == [classic, consumer]
    assert listed(cluster, types=("consumer",)) == [consumer]
    assert listed(cluster, types=("Classic",)) == [classic]
    assert listed(cluster, states=("stable",), types=("CONSUMER",)) == [consumer]
    assert listed(cluster, states=("Empty",)) == []


# --- offsets


def test_member_commits_with_its_epoch(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    assert commit(cluster, "a", 1) is ErrorCode.NONE
    assert commit(cluster, "a", 2) is ErrorCode.STALE_MEMBER_EPOCH
    assert commit(cluster, "b", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert commit(cluster, "", -1) is ErrorCode.UNKNOWN_MEMBER_ID, "the group has members"
    assert commit(cluster, "a", 1, version=8) is ErrorCode.UNSUPPORTED_VERSION
    assert fetched(cluster, None, -1) == (ErrorCode.NONE, {0: 7})


def test_member_that_is_behind_commits_what_it_has_had_since(cluster: ConsumerCluster) -> None:
    """KIP-1251."""
    a, b = Member(cluster, "a"), Member(cluster, "b")
    settle(a, b)
    kept = min(part for _, part in a.partitions)
    lost = min(part for _, part in b.partitions)
    assert a.epoch == 2
    assert commit(cluster, "a", 1, kept) is ErrorCode.NONE
    assert commit(cluster, "a", 1, lost) is ErrorCode.STALE_MEMBER_EPOCH
    assert commit(cluster, "b", 1, lost) is ErrorCode.STALE_MEMBER_EPOCH, "it was not here in epoch 1"
    assert commit(cluster, "a", 1, kept, version=10) is ErrorCode.NONE


def test_member_commits_what_it_is_asked_to_give_up(cluster: ConsumerCluster) -> None:
    a = Member(cluster, "a")
    a.beat()
    cluster.enter("b")
    before = a.partitions
    a.beat()
    going = min(part for _, part in before - a.partitions)
    assert commit(cluster, "a", 1, going) is ErrorCode.NONE


def test_everybody_may_commit_to_an_empty_group(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    cluster.beat("a", -1)
    assert commit(cluster, "", -1) is ErrorCode.NONE
    cluster.restart()
    assert cluster.described().group_state == "Empty"
    assert listed(cluster) == [("g", "consumer", "Empty", "Consumer")]


def test_member_fetches_with_its_epoch(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    commit(cluster, "a", 1)
    assert fetched(cluster, "a", 1) == (ErrorCode.NONE, {0: 7})
    assert fetched(cluster, "a", 0)[0] is ErrorCode.STALE_MEMBER_EPOCH
    assert fetched(cluster, "b", 1)[0] is ErrorCode.UNKNOWN_MEMBER_ID


def test_offsets_of_what_members_read_are_not_deleted(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    commit(cluster, "a", 1)
    request = OffsetDeleteRequest(
        group_id="g",
        topics=[OffsetDeleteRequestTopic(name="jobs", partitions=[OffsetDeleteRequestPartition(partition_index=0)])],
    )

    def outcome() -> int:
        code: int = ask(cluster, "delete_offsets", request, 0).topics[0].partitions[0].error_code
        return code

    assert outcome() == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
    cluster.beat("a", -1)
    assert outcome() == 0
    assert fetched(cluster, None, -1) == (ErrorCode.NONE, {0: -1})


def test_offsets_expire_when_nobody_reads_the_topic_and_the_group_with_them() -> None:
    cluster = ConsumerCluster(offsets_retention_minutes=10, offsets_retention_check_interval_ms=60_000)
    a = Member(cluster, "a")
    a.beat()
    commit(cluster, "a", 1)
    for _ in range(30):
        cluster.run(30_000)
        a.beat()
    assert fetched(cluster, None, -1) == (ErrorCode.NONE, {0: 7})
    commit(cluster, "a", 1)
    cluster.beat("a", -1)
    cluster.run(9 * 60_000)
    assert fetched(cluster, None, -1) == (ErrorCode.NONE, {0: 7})
    cluster.run(2 * 60_000)
    assert fetched(cluster, None, -1) == (ErrorCode.NONE, {0: -1})
    assert listed(cluster) == []


# --- the end of a group


def test_only_an_empty_group_is_deleted_with_all_that_is_its_own(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    commit(cluster, "a", 1)
    assert delete(cluster) is ErrorCode.NON_EMPTY_GROUP
    cluster.beat("a", -1)
    assert delete(cluster) is ErrorCode.NONE
    assert listed(cluster) == []
    assert fetched(cluster, None, -1) == (ErrorCode.NONE, {0: -1})
    last = {}
    for record in cluster.written():
        key = record.key
        last[type(key).__name__, *(getattr(key, name) for name in key.__slots__)] = record.value
    assert set(last.values()) == {None}, "a compacted log forgets the group"
    assert delete(cluster) is ErrorCode.GROUP_ID_NOT_FOUND
    cluster.restart()
    assert listed(cluster) == []


def test_deleted_group_may_come_again(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    cluster.beat("a", -1)
    delete(cluster)
    assert cluster.enter("b").member_epoch == 1


def test_offsets_alone_are_taken_over_by_a_consumer_group(cluster: ConsumerCluster) -> None:
    assert cluster.committed(cluster.commit({3: 30})) == [ErrorCode.NONE]
    assert listed(cluster)[0][3] == "Classic"
    cluster.enter("a")
    assert listed(cluster) == [("g", "consumer", "Stable", "Consumer")]
    assert cluster.fetch(partitions=(3,)) == {3: 30}
    cluster.restart()
    assert listed(cluster) == [("g", "consumer", "Stable", "Consumer")]


def test_empty_groups_change_their_type(cluster: ConsumerCluster) -> None:
    (member_id,), _ = cluster.stable(1)
    assert cluster.enter("a").error_code == ErrorCode.GROUP_ID_NOT_FOUND
    cluster.leave(member_id)
    assert cluster.enter("a").member_epoch == 1
    cluster.restart()
    assert [one[3] for one in listed(cluster)] == ["Consumer"]
    cluster.beat("a", -1)
    cluster.stable(1)
    assert [one[3] for one in listed(cluster)] == ["Classic"]
    cluster.restart()
    assert [one[3] for one in listed(cluster)] == ["Classic"]


def test_assignment_names_no_deleted_topic(cluster: ConsumerCluster) -> None:
    cluster.enter("a")
    assert cluster.consumer_group().members["a"].assigned.keys() == jobs(0).keys()
    del cluster.topics.counts["jobs"]
    cluster.topics.jobs_id = type(cluster.topics.jobs_id)(b"another-topic-id")
    (member,) = cluster.described().members
    assert member.assignment is not None
    assert member.assignment.topic_partitions == []

"""Committed offsets: who may commit, what is kept, and for how long."""

import pytest

from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.runtime import Effects
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.protocol.messages.consumer_protocol_subscription import ConsumerProtocolSubscription
from ottla.protocol.messages.offset_delete_request import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.protocol.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from ottla.protocol.messages.offset_fetch_response import OffsetFetchResponse
from tests.unit.coordinators.coordinator_fakes import TOPIC_ID, Answer
from tests.unit.coordinators.group_cluster import Cluster

NONE = ErrorCode.NONE
DAY_MS = 86_400_000


def fetch(cluster: Cluster, request: OffsetFetchRequest, version: int) -> Answer:
    answer = Answer()
    cluster.coordinator.fetch_offsets(request, Caller("client", "/127.0.0.1", version), answer)
    cluster.run()
    return answer


def subscription(*topics: str) -> bytes:
    return b"\x00\x01" + ConsumerProtocolSubscription(topics=list(topics)).encode(1)


def delete(cluster: Cluster, *partitions: int, topic: str = "jobs") -> Answer:
    answer = Answer()
    request = OffsetDeleteRequest(
        group_id="g",
        topics=[
            OffsetDeleteRequestTopic(
                name=topic, partitions=[OffsetDeleteRequestPartition(partition_index=index) for index in partitions]
            )
        ],
    )
    cluster.coordinator.delete_offsets(request, Caller("client", "/127.0.0.1", 0), answer)
    cluster.run()
    return answer


def test_a_member_commits_and_reads_back() -> None:
    cluster = Cluster()
    (member,), generation = cluster.stable(1)
    answer = cluster.commit({0: 5, 3: 7}, member_id=member, generation=generation, metadata="mark")
    assert cluster.committed(answer) == [NONE, NONE]
    assert cluster.fetch() == {0: 5, 3: 7}
    assert cluster.fetch(partitions=(0, 1)) == {0: 5, 1: -1}


def test_metadata_and_leader_epoch_come_back_too() -> None:
    cluster = Cluster()
    cluster.commit({0: 5}, metadata="mark")
    cluster.run()
    group = OffsetFetchRequestGroup(group_id="g", topics=None)
    (found,) = fetch(cluster, OffsetFetchRequest(groups=[group]), 9).take().groups
    (partition,) = found.topics[0].partitions
    assert (partition.committed_offset, partition.committed_leader_epoch, partition.metadata) == (5, 3, "mark")


def test_offsets_survive_a_restart() -> None:
    cluster = Cluster()
    for offset in range(20):
        cluster.commit({offset % 8: offset})
        cluster.run()
    before = cluster.fetch()
    cluster.restart()
    assert cluster.fetch() == before == {0: 16, 1: 17, 2: 18, 3: 19, 4: 12, 5: 13, 6: 14, 7: 15}


def test_null_metadata_is_empty_metadata() -> None:
    cluster = Cluster()
    assert cluster.committed(cluster.commit({0: 5}, metadata=None)) == [NONE]
    cluster.restart()
    assert cluster.fetch() == {0: 5}


def test_an_unknown_group_has_no_offsets_and_that_is_no_error() -> None:
    cluster = Cluster()
    assert cluster.fetch("nobody", partitions=(0,)) == {0: -1}
    assert cluster.fetch("nobody") == {}


def test_outsiders_commit_only_to_empty_groups() -> None:
    cluster = Cluster()
    assert cluster.committed(cluster.commit({0: 1})) == [NONE]
    (member,), _ = cluster.stable(1)
    assert cluster.committed(cluster.commit({0: 2})) == [ErrorCode.UNKNOWN_MEMBER_ID]
    cluster.leave(member)
    assert cluster.committed(cluster.commit({0: 3})) == [NONE]
    assert cluster.fetch() == {0: 3}


@pytest.mark.parametrize(
    ("member", "generation", "code"),
    [
        ("known", 0, ErrorCode.ILLEGAL_GENERATION),
        ("known", 2, ErrorCode.ILLEGAL_GENERATION),
        ("known", -1, ErrorCode.ILLEGAL_GENERATION),
        ("stranger", 1, ErrorCode.UNKNOWN_MEMBER_ID),
        ("", 1, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_commits_of_others_are_refused(member: str, generation: int, code: ErrorCode) -> None:
    cluster = Cluster()
    (known,), _ = cluster.stable(1)
    answer = cluster.commit({0: 1}, member_id=known if member == "known" else member, generation=generation)
    assert cluster.committed(answer) == [code]
    assert cluster.fetch() == {}


@pytest.mark.parametrize(("version", "code"), [(8, ErrorCode.ILLEGAL_GENERATION), (9, ErrorCode.GROUP_ID_NOT_FOUND)])
def test_a_generation_of_a_group_that_is_gone_is_refused(version: int, code: ErrorCode) -> None:
    cluster = Cluster()
    answer = cluster.commit({0: 1}, member_id="m", generation=3, version=version)
    assert cluster.committed(answer) == [code]


def test_a_commit_before_the_assignment_is_told_to_wait() -> None:
    cluster = Cluster()
    (member,), generation = cluster.joined(1)
    answer = cluster.commit({0: 1}, member_id=member, generation=generation)
    assert cluster.committed(answer) == [ErrorCode.REBALANCE_IN_PROGRESS]


def test_members_may_still_commit_while_others_join() -> None:
    cluster = Cluster()
    (member,), generation = cluster.stable(1)
    cluster.join_new()
    assert cluster.committed(cluster.commit({0: 1}, member_id=member, generation=generation)) == [NONE]


def test_a_commit_is_a_sign_of_life() -> None:
    cluster = Cluster(session_timeout_ms=10_000)
    (member,), generation = cluster.stable(1)
    for offset in range(5):
        cluster.run(9_000)
        assert cluster.committed(cluster.commit({0: offset}, member_id=member, generation=generation)) == [NONE]


def test_each_partition_has_its_own_outcome() -> None:
    cluster = Cluster()
    answer = cluster.commit({0: 1, 8: 1, -1: 1, 7: 1})
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert cluster.committed(answer) == [NONE, unknown, unknown, NONE]
    assert cluster.fetch() == {0: 1, 7: 1}


def test_offsets_of_an_unknown_topic_are_refused() -> None:
    cluster = Cluster()
    assert cluster.committed(cluster.commit({0: 1}, topic="none")) == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert cluster.committed(cluster.commit({0: 1}, topic="none", version=10)) == [ErrorCode.UNKNOWN_TOPIC_ID]


def test_metadata_has_a_limit() -> None:
    cluster = Cluster(offset_metadata_max_bytes=10)
    assert cluster.committed(cluster.commit({0: 1}, metadata="x" * 11)) == [ErrorCode.OFFSET_METADATA_TOO_LARGE]
    assert cluster.committed(cluster.commit({0: 1}, metadata="x" * 10)) == [NONE]


def test_negative_offsets_are_kept_as_kafka_keeps_them() -> None:
    """Some clients store their own marks. A committed -1 reads as none."""
    cluster = Cluster()
    assert cluster.committed(cluster.commit({0: -2, 1: -1})) == [NONE, NONE]
    assert cluster.fetch(partitions=(0, 1, 2)) == {0: -2, 1: -1, 2: -1}


def test_topics_may_be_named_by_their_ids() -> None:
    cluster = Cluster()
    assert cluster.committed(cluster.commit({0: 4}, version=10)) == [NONE]
    group = OffsetFetchRequestGroup(
        group_id="g",
        topics=[
            OffsetFetchRequestTopics(topic_id=TOPIC_ID, partition_indexes=[0]),
            OffsetFetchRequestTopics(topic_id=Uuid(b"x" * 16), partition_indexes=[1]),
        ],
    )
    (found,) = fetch(cluster, OffsetFetchRequest(groups=[group]), 10).take().groups
    known, unknown = found.topics
    assert (known.topic_id, known.partitions[0].committed_offset) == (TOPIC_ID, 4)
    assert unknown.partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_several_groups_are_read_with_one_request() -> None:
    cluster = Cluster()
    cluster.commit({0: 1}, group="a")
    cluster.commit({0: 2}, group="b")
    cluster.run()
    groups = [OffsetFetchRequestGroup(group_id=name, topics=None) for name in ("a", "b", "c")]
    answer = fetch(cluster, OffsetFetchRequest(groups=groups), 8).take()
    assert [
        [partition.committed_offset for topic in group.topics for partition in topic.partitions]
        for group in answer.groups
    ] == [[1], [2], []]


@pytest.mark.parametrize("version", [1, 2, 5, 7])
def test_old_requests_read_one_group(version: int) -> None:
    cluster = Cluster()
    cluster.commit({0: 1})
    cluster.run()
    request = OffsetFetchRequest(group_id="g", topics=[OffsetFetchRequestTopic(name="jobs", partition_indexes=[0, 1])])
    answer = fetch(cluster, request, version).take()
    assert [partition.committed_offset for partition in answer.topics[0].partitions] == [1, -1]
    answer.encode(version)


@pytest.mark.parametrize("version", [1, 2, 3, 7])
def test_while_another_node_coordinates_no_partition_seems_to_have_no_offset(version: int) -> None:
    """There are clients that look at partitions alone, and would begin to read anew."""
    cluster = Cluster()
    cluster.coordinator.resign(0)
    request = OffsetFetchRequest(group_id="g", topics=[OffsetFetchRequestTopic(name="jobs", partition_indexes=[0, 1])])
    answer = OffsetFetchResponse.decode(fetch(cluster, request, version).take().encode(version), version)[0]
    assert [partition.error_code for partition in answer.topics[0].partitions] == [ErrorCode.NOT_COORDINATOR] * 2
    assert answer.error_code == (ErrorCode.NOT_COORDINATOR if version >= 2 else 0)


class TestDeletion:
    def test_an_empty_groups_offsets_may_be_deleted(self) -> None:
        cluster = Cluster()
        cluster.commit({0: 1, 1: 2})
        cluster.run()
        answer = delete(cluster, 0, 9).take()
        codes = [partition.error_code for partition in answer.topics[0].partitions]
        assert codes == [NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        assert cluster.fetch() == {1: 2}
        cluster.restart()
        assert cluster.fetch() == {1: 2}

    def test_offsets_that_members_use_stay(self) -> None:
        cluster = Cluster()
        (member,), generation = cluster.stable(1, metadata=subscription("jobs"))
        cluster.commit({0: 1}, member_id=member, generation=generation)
        cluster.run()
        answer = delete(cluster, 0).take()
        assert answer.topics[0].partitions[0].error_code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC

    def test_offsets_that_members_no_longer_use_may_go(self) -> None:
        cluster = Cluster()
        cluster.commit({0: 1})
        cluster.run()
        cluster.stable(1, metadata=subscription("others"))
        assert delete(cluster, 0).take().topics[0].partitions[0].error_code == NONE
        assert cluster.fetch() == {}

    def test_groups_whose_subscription_is_unknown_keep_theirs(self) -> None:
        cluster = Cluster()
        cluster.commit({0: 1})
        cluster.run()
        cluster.stable(1, metadata=b"")
        assert delete(cluster, 0).code == ErrorCode.NON_EMPTY_GROUP

    def test_an_unknown_group_has_nothing_to_delete(self) -> None:
        assert delete(Cluster(), 0).code == ErrorCode.GROUP_ID_NOT_FOUND

    def test_a_new_topic_does_not_inherit_the_offsets_of_an_old_one(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 1}))
        cluster.topics.jobs_id = Uuid(b"another-topic-id")
        assert cluster.fetch(partitions=(0,)) == {0: -1}
        assert cluster.fetch() == {}

    def test_the_offsets_of_a_deleted_topic_go(self) -> None:
        cluster = Cluster()
        cluster.commit({0: 1}, group="a")
        cluster.commit({0: 2}, group="b")
        cluster.run()
        cluster.coordinator.topic_deleted("jobs")
        cluster.run()
        assert cluster.fetch("a") == cluster.fetch("b") == {}
        cluster.restart()
        assert cluster.fetch("a") == cluster.fetch("b") == {}


class TestRetention:
    def test_offsets_of_a_simple_consumer_expire_after_their_commit(self) -> None:
        cluster = Cluster(offsets_retention_minutes=1440)
        cluster.commit({0: 1})
        cluster.run(DAY_MS - 1_000_000)
        cluster.commit({1: 2})
        cluster.run(1_000_001 + 600_000)
        assert cluster.fetch() == {1: 2}
        cluster.run(DAY_MS)
        assert cluster.fetch() == {}
        (shard,) = cluster.coordinator.runtime.active_shards()
        assert shard.groups == {}

    def test_offsets_of_a_group_expire_after_its_last_member_left(self) -> None:
        cluster = Cluster(offsets_retention_minutes=1440, session_timeout_ms=1_800_000)
        (member,), generation = cluster.stable(1, metadata=subscription("jobs"))
        cluster.commit({0: 1}, member_id=member, generation=generation)
        for _ in range(60):
            cluster.run(1_700_000)
            cluster.heartbeat(member, generation)
        cluster.leave(member)
        cluster.run(DAY_MS - 1)
        assert cluster.fetch() == {0: 1}
        cluster.run(600_000)
        assert cluster.fetch() == {}
        cluster.restart()
        (shard,) = cluster.coordinator.runtime.active_shards()
        assert shard.groups == {}, "the group went with its offsets"

    def test_a_stable_group_loses_the_offsets_of_topics_that_it_left(self) -> None:
        cluster = Cluster(offsets_retention_minutes=60, session_timeout_ms=1_800_000)
        cluster.topics.counts["others"] = 1
        cluster.commit({0: 1})
        cluster.commit({0: 2}, topic="others")
        cluster.run()
        (member,), generation = cluster.stable(1, metadata=subscription("others"))
        for _ in range(4):
            cluster.run(1_700_000)
            cluster.heartbeat(member, generation)
        group = OffsetFetchRequestGroup(group_id="g", topics=None)
        (found,) = fetch(cluster, OffsetFetchRequest(groups=[group]), 9).take().groups
        assert [topic.name for topic in found.topics] == ["others"]

    def test_an_expiry_that_the_client_asked_for_is_kept(self) -> None:
        cluster = Cluster()
        cluster.commit({0: 1}, retention_ms=2_000_000, version=4)
        cluster.run()
        cluster.restart()
        cluster.run(1_900_000)
        assert cluster.fetch() == {0: 1}
        cluster.run(700_000)
        assert cluster.fetch() == {}

    def test_many_groups_are_looked_through_in_slices(self) -> None:
        cluster = Cluster(offsets_retention_minutes=1)
        for number in range(1_500):
            cluster.commit({0: number}, group=f"g{number}")
        cluster.run()
        appended = len(cluster.log.batches)
        cluster.run(600_020)
        assert len(cluster.log.batches) - appended >= 3
        (shard,) = cluster.coordinator.runtime.active_shards()
        assert shard.offsets.count == 0

    def test_slices_that_come_out_even_end_the_look(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cluster = Cluster()
        for number in range(125):
            cluster.commit({0: number}, group=f"g{number}")
        cluster.run()
        (shard,) = cluster.coordinator.runtime.active_shards()
        fired: list[object] = []
        look = shard.timer_fired

        def counted(event: object, effects: Effects) -> None:
            fired.append(event)
            look(event, effects)

        monkeypatch.setattr(shard, "timer_fired", counted)
        cluster.run(600_000 + 1_000)
        assert len(fired) == 2

    def test_what_could_not_be_written_expires_at_the_next_look(self) -> None:
        cluster = Cluster(offsets_retention_minutes=1)
        group, count = "g" * 600, 1_001
        cluster.topics.counts["jobs"] = count
        cluster.commit(dict.fromkeys(range(count), 1), group=group)
        cluster.run()
        cluster.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
        cluster.run(601_000)
        assert len(cluster.fetch(group)) == count
        cluster.run(600_000)
        assert cluster.fetch(group) == {}

"""Administration of groups through clients' own admin interfaces."""

import uuid
from collections.abc import Iterator

import confluent_kafka
import pytest
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic

from ottla.testing.cluster import Cluster

WAIT_S = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def admin(cluster: Cluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture
def topic(admin: AdminClient) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(name, num_partitions=2)])[name].result(WAIT_S)
    return name


def set_offset(admin: AdminClient, group: str, topic: str, offset: int) -> str | None:
    """The error of the partition, if there is one."""
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 1, offset)])
    (partition,) = admin.alter_consumer_group_offsets([request])[group].result(WAIT_S).topic_partitions
    return None if partition.error is None else str(partition.error.name())


def offsets(admin: AdminClient, group: str) -> list[tuple[str, int, int]]:
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(WAIT_S)
    return [(item.topic, item.partition, item.offset) for item in found.topic_partitions]


def test_an_administrator_sets_reads_and_deletes_offsets(admin: AdminClient, topic: str) -> None:
    group = f"group-{uuid.uuid4().hex[:8]}"
    assert set_offset(admin, group, topic, 42) is None
    assert offsets(admin, group) == [(topic, 1, 42)]
    assert group in {item.group_id for item in admin.list_consumer_groups().result(WAIT_S).valid}
    described = admin.describe_consumer_groups([group])[group].result(WAIT_S)
    assert (described.state, described.members) == (ConsumerGroupState.EMPTY, [])
    assert not described.authorized_operations
    with_operations = admin.describe_consumer_groups([group], include_authorized_operations=True)[group].result(WAIT_S)
    assert {AclOperation.READ, AclOperation.DELETE} < set(with_operations.authorized_operations)
    admin.delete_consumer_groups([group])[group].result(WAIT_S)
    assert offsets(admin, group) == []
    assert group not in {item.group_id for item in admin.list_consumer_groups().result(WAIT_S).valid}


def test_a_group_at_work_is_described_and_not_deleted(cluster: Cluster, admin: AdminClient, topic: str) -> None:
    group = f"group-{uuid.uuid4().hex[:8]}"
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": cluster.bootstrap, "group.id": group, "client.id": "worker"}
    )
    consumer.subscribe([topic])
    for _ in range(100):
        if consumer.assignment():
            break
        consumer.poll(0.1)
    described = admin.describe_consumer_groups([group])[group].result(WAIT_S)
    assert (described.state, described.partition_assignor) == (ConsumerGroupState.STABLE, "range")
    (member,) = described.members
    assert member.client_id == "worker"
    assert {item.partition for item in member.assignment.topic_partitions} == {0, 1}
    with pytest.raises(confluent_kafka.KafkaException, match="NON_EMPTY_GROUP"):
        admin.delete_consumer_groups([group])[group].result(WAIT_S)
    assert set_offset(admin, group, topic, 1) == "UNKNOWN_MEMBER_ID"
    consumer.close()


def test_the_offsets_of_a_deleted_topic_are_forgotten(admin: AdminClient, topic: str) -> None:
    group = f"group-{uuid.uuid4().hex[:8]}"
    assert set_offset(admin, group, topic, 42) is None
    admin.delete_topics([topic])[topic].result(WAIT_S)
    assert offsets(admin, group) == []

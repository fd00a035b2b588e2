"""`ottla group` and the Groups service on three real nodes, for a group of a Kafka client."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import confluent_kafka
import grpc
import pytest

from ottla.client import GroupDescription, TopicPartition
from ottla.client.sync import Admin, Producer
from ottla.testing.cluster import Cluster
from ottla.v1 import cluster_pb2, cluster_pb2_grpc, groups_pb2, groups_pb2_grpc

WAIT_S = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture
def admin(cluster: Cluster) -> Iterator[Admin]:
    with Admin(bootstrap_servers=cluster.grpc) as admin:
        yield admin


@pytest.fixture
def topic(admin: Admin) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin.create_topic(name, 2)
    return name


@pytest.fixture
def group(topic: str) -> str:
    return topic.replace("topic", "group")


def ottla(cluster: Cluster, *arguments: str, code: int = 0, given: str = "") -> str:
    """What the command prints; what it says of an error when `code` is not 0."""
    command = [sys.executable, "-m", "ottla.cli", *arguments, "--server", cluster.grpc]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def ottla_json(cluster: Cluster, *arguments: str) -> Any:
    return json.loads(ottla(cluster, *arguments, "--json"))


def produce(cluster: Cluster, topic: str, count: int, *, age_s: float = 0) -> None:
    timestamp = int((time.time() - age_s) * 1000)
    with Producer(bootstrap_servers=cluster.grpc) as producer:
        for number in range(count):
            producer.send(topic, b"%d" % number, partition=0, timestamp_ms=timestamp)


@contextmanager
def member(cluster: Cluster, group: str, topic: str) -> Iterator[confluent_kafka.Consumer]:
    """Has partitions of the topic."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "client.id": "biller",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    try:
        deadline = time.monotonic() + WAIT_S
        while not consumer.assignment() and time.monotonic() < deadline:
            consumer.poll(0.1)
        yield consumer
    finally:
        consumer.close()


def test_lag_is_told_in_records_and_in_seconds(cluster: Cluster, admin: Admin, topic: str, group: str) -> None:
    produce(cluster, topic, 10, age_s=3600)
    admin.alter_group_offsets(group, {TopicPartition(topic, 0): 4, TopicPartition(topic, 1): 0})
    found = ottla_json(cluster, "group", "lag", group)
    behind, done = found["partitions"]
    assert (behind["partition"], behind["committed"], behind["end"], behind["lag"]) == (0, 4, 10, 6)
    assert 3600 <= behind["behind_s"] < 3600 + WAIT_S
    assert (done["lag"], done["behind_s"]) == (0, 0.0)
    assert (found["lag"], found["behind_s"]) == (6, behind["behind_s"])
    assert "1h0m" in ottla(cluster, "group", "lag", group, "--topic", topic)
    ottla(cluster, "group", "lag", group, "--topic", "nowhere", code=4)


def test_a_reset_shows_first_and_does_it_when_told(cluster: Cluster, admin: Admin, topic: str, group: str) -> None:
    produce(cluster, topic, 10, age_s=7200)
    produce(cluster, topic, 5)
    admin.alter_group_offsets(group, {TopicPartition(topic, 0): 15})

    def reset(*arguments: str, given: str = "", execute: bool = False) -> int:
        more = ("--execute",) if execute else ()
        told = ottla(cluster, "group", "reset-offsets", group, *arguments, *more, "--json", given=given)
        [row] = json.loads(told)["partitions"]
        return int(row["new"])

    def committed() -> int:
        return admin.list_group_offsets(group)[TopicPartition(topic, 0)].offset

    assert reset("--all-topics", "--to-earliest") == 0
    assert committed() == 15
    assert reset("--all-topics", "--by-duration", "1h", "--execute") == committed() == 10
    assert reset("--all-topics", "--shift-by", "-3", "--execute") == committed() == 7
    assert reset("--topic", f"{topic}:0", "--to-offset", "99", "--execute") == committed() == 15
    assert reset("--all-topics", "--to-datetime", "2020-01-01T00:00:00Z", "--execute") == committed() == 0
    assert reset("--all-topics", "--to-latest", "--execute") == committed() == 15
    assert reset("--from-file", "-", given=f"{topic},0,6\n", execute=True) == committed() == 6
    assert reset("--all-topics", "--to-current") == 6
    assert reset("--topic", f"{topic}:1", "--to-current") == 0  # nothing is committed, nothing was written


def test_what_is_not_there_is_said_at_once(cluster: Cluster) -> None:
    started = time.monotonic()
    for options in ((), ("--group", "nobody")):
        said = ottla(cluster, "consume", "nosuch", "--exit", "--timeout", str(WAIT_S), *options, code=4)
        assert "nosuch" in said
        assert "there is no such topic" in said
    assert time.monotonic() - started < WAIT_S


def test_what_has_members_is_described_and_left_alone(cluster: Cluster, admin: Admin, topic: str, group: str) -> None:
    with member(cluster, group, topic):
        [found] = ottla_json(cluster, "group", "describe", group)
        assert (found["state"], found["type"], found["assignor"]) == ("Stable", "classic", "range")
        [row] = found["members"]
        assert (row["client"], row["topics"]) == ("biller", [topic])
        assert row["assignment"] == row["target"] == [[topic, 0], [topic, 1]]
        assert {"group": group, "type": "classic", "state": "Stable", "protocol_type": "consumer"} in ottla_json(
            cluster, "group", "list", "--state", "Stable"
        )
        refused = ottla(cluster, "group", "reset-offsets", group, "--topic", topic, "--to-earliest", code=1)
        assert "Stable with 1 member(s) (biller)" in refused
        assert "NON_EMPTY_GROUP" in ottla(cluster, "group", "delete", group, code=1)
        assert all(row["member"] for row in ottla_json(cluster, "group", "lag", group)["partitions"])
    ottla(cluster, "group", "delete", group)
    assert "GROUP_ID_NOT_FOUND" in ottla(cluster, "group", "describe", group, code=4)
    assert group not in {one.group_id for one in admin.list_groups()}


def test_offsets_are_set_read_and_forgotten_wherever_the_coordinators_are(
    cluster: Cluster, admin: Admin, topic: str
) -> None:
    partition = TopicPartition(topic, 1)
    groups = {f"{topic}-{number}": number for number in range(6)}
    for group_id, offset in groups.items():
        admin.alter_group_offsets(group_id, {partition: offset})
    described: list[GroupDescription] = admin.describe_groups(groups)
    assert [one.group_id for one in described] == list(groups)
    assert len({one.coordinator_id for one in described}) > 1
    assert {one: admin.list_group_offsets(one)[partition].offset for one in groups} == groups
    admin.delete_group_offsets(f"{topic}-3", [partition])
    assert admin.list_group_offsets(f"{topic}-3") == {}
    admin.delete_groups([one for one in groups if one != f"{topic}-3"])


def test_another_node_says_who_coordinates(cluster: Cluster, admin: Admin, topic: str, group: str) -> None:
    admin.alter_group_offsets(group, {TopicPartition(topic, 0): 1})
    addresses = {node.node_id: f"{node.host}:{node.port}" for node in admin.describe_cluster().nodes}
    with grpc.insecure_channel(cluster.grpc.split(",")[0]) as channel:
        asked = cluster_pb2.FindCoordinatorsRequest(type=cluster_pb2.COORDINATOR_TYPE_GROUP, keys=[group])
        [found] = cluster_pb2_grpc.ClusterStub(channel).FindCoordinators(asked, timeout=WAIT_S).coordinators
    assert f"{found.host}:{found.port}" == addresses[found.node_id]
    other = next(address for node_id, address in addresses.items() if node_id != found.node_id)
    with grpc.insecure_channel(other) as channel, pytest.raises(grpc.RpcError) as caught:
        request = groups_pb2.FetchOffsetsRequest(group_id=group)
        groups_pb2_grpc.GroupsStub(channel).FetchOffsets(request, timeout=WAIT_S)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == f"ask node {found.node_id} at {addresses[found.node_id]}, which coordinates {group}"

"""`ottla node add`, `remove` and `replace` on a local cluster: the whole way, with what each refuses."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.testing.cluster import Cluster, ClusterError

WAIT_S = 60.0
RECORDS = 300


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "data", nodes=3) as running:
        yield running


def create(cluster: Cluster, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic(topic, 3, 3)])[topic].result(WAIT_S)


def write(cluster: Cluster, topic: str, first: int) -> None:
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all"})
    for number in range(first, first + RECORDS):
        producer.produce(
            topic,
            b"%d" % number,
            partition=number % 3,
            on_delivery=lambda error, _: failed.extend([error] if error else []),
        )
    assert producer.flush(WAIT_S) == 0
    assert not failed


def read(cluster: Cluster, topic: str, count: int) -> list[int]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(3)])
    values: list[int] = []
    try:
        while len(values) < count:
            messages = consumer.consume(count, WAIT_S)
            assert messages
            for message in messages:
                assert message.error() is None
                values.append(int(message.value() or b"-1"))
    finally:
        consumer.close()
    return sorted(values)


def replicas(cluster: Cluster, topic: str) -> list[tuple[list[int], list[int]]]:
    """Assigned, and in sync, by partition."""
    found = AdminClient({"bootstrap.servers": cluster.bootstrap}).list_topics(topic, WAIT_S).topics[topic].partitions
    return [(sorted(found[index].replicas), sorted(found[index].isrs)) for index in sorted(found)]


def roles(cluster: Cluster) -> dict[int, str]:
    return {node["id"]: node["standing"]["role"] for node in cluster.status()["nodes"] if node["standing"]}


def test_a_node_whose_disk_is_lost_comes_back_with_an_empty_one(cluster: Cluster) -> None:
    create(cluster, "kept")
    write(cluster, "kept", 0)
    with pytest.raises(ClusterError, match="node 2 is running"):
        cluster.replace_node(2)
    cluster.kill_node(2)
    with pytest.raises(ClusterError, match="holds data: start the node with it"):
        cluster.replace_node(2)
    shutil.rmtree(cluster.directory / "node-2")
    with pytest.raises(ClusterError, match=r"node 2 has lost its data: .* `ottla node replace 2"):
        cluster.start_node(2)
    assert not (cluster.directory / "node-2").exists()
    write(cluster, "kept", RECORDS)
    told = cluster.replace_node(2)
    assert "Node 2 votes." in told
    assert told.splitlines()[-1] == "3 of 3 replica(s) of node 2 are in sync."
    assert replicas(cluster, "kept") == [([1, 2, 3], [1, 2, 3])] * 3
    assert sorted(roles(cluster).values()) == ["leader", "voter", "voter"]
    write(cluster, "kept", 2 * RECORDS)
    cluster.kill_node(1)  # the replaced one is of the majority now, and has what was written before
    write(cluster, "kept", 3 * RECORDS)
    assert read(cluster, "kept", 4 * RECORDS) == list(range(4 * RECORDS))


def test_a_cluster_that_was_down_starts_without_a_lost_disk_only_when_told_to(cluster: Cluster) -> None:
    create(cluster, "kept")
    write(cluster, "kept", 0)
    cluster.kill()
    shutil.rmtree(cluster.directory / "node-3")
    with pytest.raises(ClusterError, match="`ottla up --without 3`"):
        cluster.start()
    cluster.start(without=[3])
    cluster.replace_node(3)
    assert replicas(cluster, "kept") == [([1, 2, 3], [1, 2, 3])] * 3
    assert len(roles(cluster)) == 3
    assert read(cluster, "kept", RECORDS) == list(range(RECORDS))


def test_a_cluster_grows_shrinks_and_stays_so_over_a_restart(cluster: Cluster) -> None:
    create(cluster, "kept")
    write(cluster, "kept", 0)
    assert "Node 4 runs and follows." in cluster.add_node(4)
    with pytest.raises(ClusterError, match="node 4 is a node of the cluster already"):
        cluster.add_node(4)
    assert roles(cluster)[4] == "observer"
    controller = cluster.controller()
    assert controller is not None
    told = cluster.remove_node(controller)
    assert "3 of 3 replica(s)" in told
    assert "Node 4 votes." in told
    left = sorted({1, 2, 3, 4} - {controller})
    assert replicas(cluster, "kept") == [(left, left)] * 3
    assert sorted(roles(cluster)) == left
    assert sorted(roles(cluster).values()) == ["leader", "voter", "voter"]
    with pytest.raises(ClusterError, match="besides node 4 only 2 node"):
        cluster.remove_node(4)
    write(cluster, "kept", RECORDS)
    cluster.restart()
    assert sorted(roles(cluster)) == left
    assert read(cluster, "kept", 2 * RECORDS) == list(range(2 * RECORDS))

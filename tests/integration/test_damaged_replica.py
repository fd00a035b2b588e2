"""A replica that lost a part of its files while its node was down is made anew, and what it had is kept aside."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, ElectionType, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.rolling import until_in_sync
from ottla.partitions.checkpoints import DAMAGE_FILE, RECOVERY_POINT_FILE
from ottla.partitions.manager import DAMAGED_SUFFIX
from ottla.testing.cluster import Cluster

TOPIC = "decays"
RECORD = b"v" * 10_000
COUNT = 300


def segments(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(directory.glob("*.log"))]


def until_saved(checkpoint: Path) -> None:
    """From then on a start takes what is missing for lost, and not for what was never synced."""
    deadline = time.monotonic() + 30
    while not checkpoint.exists() or f"{TOPIC} 0 {COUNT}" not in checkpoint.read_text():
        assert time.monotonic() < deadline, "the checkpoint does not come"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_damaged_replica_is_made_anew_from_the_others(tmp_path: Path) -> None:
    with Cluster(tmp_path / "data", nodes=3) as cluster:
        new = NewTopic(TOPIC, 1, replica_assignment=[[1, 2, 3]], config={"segment.bytes": str(1 << 20)})
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        admin.create_topics([new])[TOPIC].result(30)
        producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "batch.size": 50_000})
        for _ in range(COUNT):
            producer.produce(TOPIC, RECORD)
        assert producer.flush(30) == 0
        until_in_sync(cluster, 3)
        until_saved(cluster.directory / "node-2" / RECOVERY_POINT_FILE)
        cluster.kill_node(2)
        damaged = cluster.directory / "node-2" / f"{TOPIC}-0"
        first, *others = sorted(damaged.glob("*.log"))
        assert others  # the first one is closed: it was durable long ago
        content = first.read_bytes()[: 1 << 19]
        first.write_bytes(content)
        cluster.start_node(2)
        until_in_sync(cluster, 3)
        [kept] = (cluster.directory / "node-2").glob(f"{TOPIC}-0.*{DAMAGED_SUFFIX}")
        assert (kept / first.name).read_bytes() == content
        find_damage_while_it_runs(cluster, admin)
        cluster.stop()
        assert segments(cluster.directory / "node-3" / f"{TOPIC}-0") == segments(damaged)
        assert segments(damaged) == segments(cluster.directory / "node-1" / f"{TOPIC}-0")
        cluster.start()
        admin.delete_topics([TOPIC])[TOPIC].result(30)
        until(lambda: not kept.exists(), "what was kept goes with its topic")


def find_damage_while_it_runs(cluster: Cluster, admin: AdminClient) -> None:
    """In what no start reads: the leader gives way to the others, and is made anew after its next start."""
    node = cluster.directory / "node-1"
    cluster.kill_node(1)
    first = min((node / f"{TOPIC}-0").glob("*.log"))
    content = bytearray(first.read_bytes())
    content[len(content) // 2 + 2_000] ^= 4  # within the records of a batch
    first.write_bytes(content)
    cluster.start_node(1)
    until_in_sync(cluster, 3)
    assert not list(node.glob(f"*{DAMAGED_SUFFIX}"))
    partition = TopicPartition(TOPIC, 0, OFFSET_BEGINNING)
    admin.elect_leaders(ElectionType.PREFERRED, [partition]).result(30)
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "reader"})
    try:
        consumer.assign([partition])
        values = consumer.consume(COUNT, timeout=60)
        assert [message.value() for message in values] == [RECORD] * COUNT
    finally:
        consumer.close()
    until(lambda: (node / f"{TOPIC}-0" / DAMAGE_FILE).exists(), "the damage is noted")
    cluster.kill_node(1)
    cluster.start_node(1)
    until_in_sync(cluster, 3)
    [kept] = node.glob(f"{TOPIC}-0.*{DAMAGED_SUFFIX}")
    assert (kept / first.name).read_bytes() == content


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"not yet: {what}"
        time.sleep(0.05)

"""A node whose disk does not answer: it sends its clients to those who lead instead, whom it cannot know by itself."""

import sys
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.rolling import until_in_sync
from chaos.stall import PARTITIONS, TOPIC, stall
from chaos.stalled_disk import StallableDisks
from chaos.verdict import judge
from chaos.writers import IMPATIENT, GrpcWriter, KafkaWriter, Writer
from ottla.testing.cluster import Cluster

STALL_S = 6.0
GAP_S = 4.0  # 0.6 to 1.5 s on a machine that does little else


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the stalled disk is a preloaded library of Linux")
def test_clients_of_a_node_whose_disk_stalls_go_on_elsewhere(tmp_path: Path) -> None:
    disks = StallableDisks(tmp_path)
    with Cluster(tmp_path / "data", nodes=3, environment=disks.environment) as cluster:
        spread = [[(n + step) % 3 + 1 for step in range(3)] for n in range(PARTITIONS)]
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, replica_assignment=spread)])[TOPIC].result(30)
        until_in_sync(cluster, 3 * PARTITIONS)
        writers: list[Writer] = [
            KafkaWriter("kafka", TOPIC, PARTITIONS, cluster.bootstrap, IMPATIENT),
            GrpcWriter("grpc", TOPIC, PARTITIONS, cluster.grpc),
        ]
        for writer in writers:
            writer.start()
        time.sleep(1)
        done = stall(cluster, disks, 1, STALL_S)  # the first that clients know of, and ask for metadata
        written = [writer.stop() for writer in writers]
    assert done.led
    assert done.resigned_s is not None
    assert not done.was_fenced
    for client in written:
        assert not client.refused
        assert client.longest_gap_s(done.at, done.over_at) < GAP_S
    assert not judge(tmp_path / "data", TOPIC, [[1, 2, 3]] * PARTITIONS, written).problems

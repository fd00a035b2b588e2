"""A node whose disk does not answer sends its clients to those who lead instead, whom it cannot know by itself; and
where the files of one replica fail, another one leads.
"""

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


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stalled disk is a preloaded library of Linux")


def leader_of(cluster: Cluster, partition: int) -> int:
    found = AdminClient({"bootstrap.servers": cluster.bootstrap}).list_topics(TOPIC, 30)
    return int(found.topics[TOPIC].partitions[partition].leader)


@pytest.mark.slow
def test_where_the_files_of_a_leader_fail_another_one_leads(tmp_path: Path) -> None:
    disks = StallableDisks(tmp_path)
    with Cluster(tmp_path / "data", nodes=3, environment=disks.environment) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        new = NewTopic(TOPIC, 2, replica_assignment=[[1, 2, 3], [1, 2, 3]])
        admin.create_topics([new])[TOPIC].result(30)
        until_in_sync(cluster, 6)
        writer = KafkaWriter("kafka", TOPIC, 2, cluster.bootstrap, IMPATIENT)
        writer.start()
        time.sleep(1)
        failed_at = time.monotonic()
        with disks.failing(cluster.directory / "node-1" / f"{TOPIC}-0"):
            deadline = failed_at + 20
            while leader_of(cluster, 0) == 1:
                assert time.monotonic() < deadline, cluster.log_tail()
                time.sleep(0.05)
            time.sleep(1)
        assert leader_of(cluster, 1) == 1  # its own files are well
        cluster.restart_node(1)
        until_in_sync(cluster)
        written = writer.stop()
    assert not written.refused
    assert written.longest_gap_s(failed_at, failed_at + 2) < GAP_S
    assert not judge(tmp_path / "data", TOPIC, [[1, 2, 3]] * 2, [written]).problems


@pytest.mark.slow
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

"""A cluster of three grows: a fourth node follows, takes partitions, votes; then the first one goes for good."""

import uuid
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.core.types import NodeId
from ottla.node.data_directory import Formatting, Identity, format_directory, random_uuid, read_identity
from ottla.node.observing import read_known_voters, write_known_voters
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages import add_raft_voter_request as add
from ottla.protocol.messages import alter_partition_reassignments_request as alter
from ottla.protocol.messages import describe_quorum_request as quorum
from ottla.protocol.messages.describe_cluster_request import DescribeClusterRequest
from ottla.protocol.messages.list_partition_reassignments_request import ListPartitionReassignmentsRequest
from ottla.protocol.messages.remove_raft_voter_request import RemoveRaftVoterRequest
from ottla.protocol.messages.unregister_broker_request import UnregisterBrokerRequest
from tests.integration.kafka_request import ask
from tests.integration.several_nodes import Nodes, several_nodes, until

WAIT_S = 40.0


def any_node(nodes: Nodes) -> str:
    return nodes.running()[-1].address("kafka")


def brokers(nodes: Nodes) -> list[tuple[int, str | None, bool]]:
    request = DescribeClusterRequest(include_fenced_brokers=True)
    answer = ask(any_node(nodes), ApiKey.DESCRIBE_CLUSTER, request)
    return sorted((one.broker_id, one.rack, one.is_fenced) for one in answer.brokers)


def described_quorum(nodes: Nodes) -> Any:
    wanted = quorum.TopicData(topic_name="__cluster_metadata", partitions=[quorum.PartitionData(partition_index=0)])
    answer = ask(any_node(nodes), ApiKey.DESCRIBE_QUORUM, quorum.DescribeQuorumRequest(topics=[wanted]))
    assert answer.error_code == 0, answer.error_message
    return answer.topics[0].partitions[0]


def partitions(nodes: Nodes, topic: str) -> dict[int, Any]:
    client = AdminClient({"bootstrap.servers": nodes.bootstrap, "log_level": 0})
    return dict(client.list_topics(topic, timeout=WAIT_S).topics[topic].partitions)


def move(nodes: Nodes, topic: str, replicas: list[int]) -> None:
    wanted = [alter.ReassignablePartition(partition_index=n, replicas=replicas) for n in partitions(nodes, topic)]
    request = alter.AlterPartitionReassignmentsRequest(topics=[alter.ReassignableTopic(name=topic, partitions=wanted)])
    answer = ask(any_node(nodes), ApiKey.ALTER_PARTITION_REASSIGNMENTS, request)
    assert {one.error_code for one in answer.responses[0].partitions} == {0}, answer
    listing = ListPartitionReassignmentsRequest(topics=None)
    until(lambda: not ask(any_node(nodes), ApiKey.LIST_PARTITION_REASSIGNMENTS, listing).topics, "all moved", nodes)
    until(lambda: all(sorted(p.isrs) == sorted(replicas) for p in partitions(nodes, topic).values()), "in sync", nodes)


def format_observer(nodes: Nodes, node_id: int) -> Any:
    """As `ottla node format --join` does it."""
    other = nodes[2]
    identity = Identity(
        cluster_id=read_identity(other.directory).cluster_id, node_id=NodeId(node_id), directory_id=random_uuid()
    )
    node = nodes.add(node_id)
    secret = (other.directory / "cluster.secret").read_bytes().strip()
    format_directory(node.directory, Formatting(identity=identity, secret=secret, voters=()))
    write_known_voters(node.directory, {NodeId(2): other.address("internal")})
    node.peers = ""
    return identity


def test_a_fourth_node_follows_takes_partitions_and_votes_and_the_first_goes(tmp_path: Path) -> None:
    with several_nodes(tmp_path, settings=lambda n: {"rack": f"r{n}"}) as nodes:
        topic = f"topic-{uuid.uuid4().hex[:8]}"
        client = AdminClient({"bootstrap.servers": nodes.bootstrap})
        new = NewTopic(topic, num_partitions=3, replica_assignment=[[1, 2, 3], [2, 3, 1], [3, 1, 2]])
        client.create_topics([new])[topic].result(WAIT_S)
        identity = format_observer(nodes, 4)
        nodes[4].start()
        nodes.wait_ready()
        assert brokers(nodes) == [(n, f"r{n}", False) for n in (1, 2, 3, 4)]
        state = described_quorum(nodes)
        assert {one.replica_id for one in state.current_voters} == {1, 2, 3}
        assert [one.replica_id for one in state.observers] == [4]
        assert set(read_known_voters(nodes[4].directory)) == {1, 2, 3}

        producer = confluent_kafka.Producer({"bootstrap.servers": nodes.bootstrap, "acks": "all", "log_level": 0})
        failed: list[Any] = []
        written = 0

        def write(count: int) -> None:
            nonlocal written
            for _ in range(count):
                producer.produce(topic, b"%d" % written, on_delivery=lambda error, _: error and failed.append(error))
                written += 1
            producer.poll(0)

        write(200)
        move(nodes, topic, [4, 2, 3])
        write(200)
        at = add.Listener(name="INTERNAL", host="127.0.0.1", port=nodes[4].ports["internal"])
        adding = add.AddRaftVoterRequest(
            cluster_id=None, voter_id=4, voter_directory_id=identity.directory_id, listeners=[at], timeout_ms=15_000
        )
        answer = ask(any_node(nodes), ApiKey.ADD_RAFT_VOTER, adding)
        assert answer.error_code == 0, f"{answer.error_message}\n{nodes.logs()}"
        removing = RemoveRaftVoterRequest(
            cluster_id=None, voter_id=1, voter_directory_id=read_identity(nodes[1].directory).directory_id
        )

        def removed() -> bool:
            ask(any_node(nodes), ApiKey.REMOVE_RAFT_VOTER, removing)  # refused while the last change is under way
            return {one.replica_id for one in described_quorum(nodes).current_voters} == {2, 3, 4}

        until(removed, "the first node votes no more", nodes)
        write(200)
        nodes[1].stop()
        until(lambda: (1, "r1", True) in brokers(nodes), "the first node is fenced", nodes)
        answer = ask(any_node(nodes), ApiKey.UNREGISTER_BROKER, UnregisterBrokerRequest(broker_id=1))
        assert answer.error_code == 0, answer.error_message
        assert [one[0] for one in brokers(nodes)] == [2, 3, 4]
        write(200)
        assert producer.flush(WAIT_S) == 0, nodes.logs()
        assert not failed
        nodes[2].kill()  # of the new quorum of three
        write(100)
        assert producer.flush(WAIT_S) == 0, nodes.logs()
        nodes[2].start()
        nodes.wait_ready()
        until(lambda: all(len(p.isrs) == 3 for p in partitions(nodes, topic).values()), "all are in sync", nodes)

"""What the admin clients of others see of three nodes, and what consumers and producers see when some are gone."""

import signal
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import confluent_kafka
import kafka
import pytest
from confluent_kafka import ElectionType, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from ottla.core.error_codes import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages import metadata_request as metadata
from ottla.protocol.messages import produce_request as produce
from ottla.protocol.messages.describe_cluster_request import DescribeClusterRequest
from ottla.protocol.messages.unregister_broker_request import UnregisterBrokerRequest
from ottla.records.batch import encode_batch
from ottla.records.record import Record
from tests.integration.kafka_request import ask
from tests.integration.several_nodes import Nodes, several_nodes, until

WAIT_S = 40.0
RACK_AWARE = "org.apache.kafka.common.replica.RackAwareReplicaSelector"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    def settings(node: int) -> dict[str, object]:
        return {"rack": f"r{node}", "replica.selector.class": RACK_AWARE}

    with several_nodes(tmp_path_factory.mktemp("cluster"), settings=settings) as nodes:
        yield nodes


@pytest.fixture
def nodes(shared: Nodes) -> Iterator[Nodes]:
    """All three run, at the beginning and again afterwards."""
    yield shared
    for node in shared.running():
        node.signal(signal.SIGCONT)
    shared.start_all()
    until(lambda: not any(fenced for _, fenced in brokers(shared)), "nobody is fenced", shared)


@pytest.fixture
def confluent(nodes: Nodes) -> AdminClient:
    return AdminClient({"bootstrap.servers": nodes.bootstrap, "log_level": 0})


@pytest.fixture
def python(nodes: Nodes) -> Iterator[kafka.KafkaAdminClient]:
    with closing(kafka.KafkaAdminClient(bootstrap_servers=nodes.bootstrap)) as client:
        yield client


def brokers(nodes: Nodes) -> list[tuple[int, bool]]:
    request = DescribeClusterRequest(include_fenced_brokers=True)
    answer = ask(nodes.running()[0].address("kafka"), ApiKey.DESCRIBE_CLUSTER, request)
    return sorted((one.broker_id, one.is_fenced) for one in answer.brokers)


def create(nodes: Nodes, client: AdminClient, *assignment: list[int]) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    new = NewTopic(name, num_partitions=len(assignment), replica_assignment=list(assignment))
    client.create_topics([new])[name].result(WAIT_S)
    until(lambda: all(len(p.isrs) == 3 for p in partitions(client, name).values()), "all are in sync", nodes)
    return name


def partitions(client: AdminClient, topic: str) -> dict[int, Any]:
    return dict(client.list_topics(topic, timeout=WAIT_S).topics[topic].partitions)


def described(client: AdminClient, topic: str) -> Any:
    """By DescribeTopics of librdkafka."""
    return client.describe_topics(TopicCollection([topic]))[topic].result(WAIT_S)


def send(address: str, topic_id: bytes, *, version: int | None = None, name: str = "") -> Any:
    batch = encode_batch([Record(offset=0, timestamp=1_700_000_000_000, key=None, value=b"v", headers=())])
    partition = produce.PartitionProduceData(index=0, records=bytes(batch))
    topic = produce.TopicProduceData(topic_id=topic_id, name=name, partition_data=[partition])  # type: ignore[arg-type]
    request = produce.ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=[topic])
    return ask(address, ApiKey.PRODUCE, request, version)


def topic_id(nodes: Nodes, topic: str) -> bytes:
    request = metadata.MetadataRequest(topics=[metadata.MetadataRequestTopic(name=topic)])
    answer = ask(nodes.running()[0].address("kafka"), ApiKey.METADATA, request)
    return bytes(answer.topics[0].topic_id)


def test_the_cluster_with_racks(nodes: Nodes, confluent: AdminClient) -> None:
    found = confluent.describe_cluster().result(WAIT_S)
    assert sorted((node.id, node.rack) for node in found.nodes) == [(1, "r1"), (2, "r2"), (3, "r3")]
    assert found.controller.id in {1, 2, 3}


def test_reassignments_by_kafka_python(nodes: Nodes, confluent: AdminClient, python: kafka.KafkaAdminClient) -> None:
    topic = create(nodes, confluent, [1, 2, 3], [1, 2, 3])
    moved = kafka.TopicPartition(topic, 0)
    python.alter_partition_reassignments({moved: [3, 2]})
    until(lambda: not python.list_partition_reassignments(), "the move has ended", nodes)
    until(lambda: partitions(confluent, topic)[0].replicas == [3, 2], "the metadata show it", nodes)
    assert partitions(confluent, topic)[1].replicas == [1, 2, 3]


def test_elections_by_both(nodes: Nodes, confluent: AdminClient, python: kafka.KafkaAdminClient) -> None:
    topic = create(nodes, confluent, [1, 2, 3], [2, 3, 1])
    nodes[1].stop()
    until(lambda: partitions(confluent, topic)[0].leader in (2, 3), "another one leads", nodes)
    down = partitions(confluent, topic)[0]
    assert down.replicas == [1, 2, 3]
    nodes.start_all()
    until(lambda: len(partitions(confluent, topic)[0].isrs) == 3, "it is in sync again", nodes)
    wanted = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    outcome = confluent.elect_leaders(ElectionType.PREFERRED, wanted).result(WAIT_S)
    assert {one.partition: None if error is None else error.code() for one, error in outcome.items()} == {
        0: None,
        1: ErrorCode.ELECTION_NOT_NEEDED,
    }
    until(lambda: partitions(confluent, topic)[0].leader == 1, "the preferred one leads", nodes)
    assert "error_code=84" in repr(python.elect_leaders(0, {topic: [0]}, raise_errors=False))


def test_quorum_and_features_by_kafka_python(nodes: Nodes, python: kafka.KafkaAdminClient) -> None:
    found = str(python.describe_metadata_quorum())
    assert "leader_id" in found
    assert "metadata.version" in str(python.describe_features()), "finalised when the cluster was founded"
    python.update_features({"transaction.version": ("SAFE_DOWNGRADE", 1)})

    def level() -> int:
        return int(python.describe_features()["transaction.version"]["finalized"][1])

    until(lambda: level() == 1, "the feature is lowered", nodes)


def test_a_broker_that_is_gone_is_shown_as_fenced_and_its_replicas_as_offline(
    nodes: Nodes, confluent: AdminClient
) -> None:
    topic = create(nodes, confluent, [2, 1, 3])
    nodes[2].kill()
    until(lambda: (2, True) in brokers(nodes), "it is fenced", nodes)
    until(lambda: partitions(confluent, topic)[0].leader in (1, 3), "another one leads", nodes)
    (partition,) = described(confluent, topic).partitions
    assert sorted(node.id for node in partition.isr) == [1, 3]
    # librdkafka asks Metadata, which names it for a moment more.
    until(
        lambda: {n.id for n in confluent.describe_cluster().result(WAIT_S).nodes} == {1, 3},
        "it is named no more",
        nodes,
    )
    answer = ask(nodes[1].address("kafka"), ApiKey.UNREGISTER_BROKER, UnregisterBrokerRequest(broker_id=77))
    assert answer.error_code == ErrorCode.BROKER_ID_NOT_REGISTERED


def test_writes_wait_for_enough_replicas(nodes: Nodes, confluent: AdminClient) -> None:
    topic = create(nodes, confluent, [1, 2, 3])
    known = topic_id(nodes, topic)
    address = nodes[1].address("kafka")
    assert send(address, known).responses[0].partition_responses[0].error_code == 0
    nodes[3].stop()
    until(lambda: sorted(partitions(confluent, topic)[0].isrs) == [1, 2], "two are in sync", nodes)
    assert send(address, known).responses[0].partition_responses[0].error_code == 0
    entry = ConfigEntry("min.insync.replicas", "3", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    resource.add_incremental_config(entry)
    for future in confluent.incremental_alter_configs([resource]).values():
        future.result(WAIT_S)
    until(
        lambda: send(address, known).responses[0].partition_responses[0].error_code == ErrorCode.NOT_ENOUGH_REPLICAS,
        "writes are refused",
        nodes,
    )


def test_the_controller_that_clients_are_named_is_whom_they_ask(nodes: Nodes) -> None:
    """librdkafka's admin client asks the one that is named, and no other, however long that is away."""
    for leaves in (None, nodes[1].stop, nodes[2].kill):
        if leaves is not None:
            nodes.start_all()
            until(lambda: not any(fenced for _, fenced in brokers(nodes)), "nobody is fenced", nodes)
            leaves()
        for node in nodes.running():
            answer = ask(node.address("kafka"), ApiKey.METADATA, metadata.MetadataRequest(topics=[]))
            assert answer.controller_id == node.node_id


def test_whoever_asks_the_wrong_node_is_told_the_right_one(nodes: Nodes, confluent: AdminClient) -> None:
    topic = create(nodes, confluent, [2, 1, 3])
    until(lambda: partitions(confluent, topic)[0].leader == 2, "the leader", nodes)
    answer = send(nodes[1].address("kafka"), topic_id(nodes, topic))
    (partition,) = answer.responses[0].partition_responses
    assert partition.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert partition.current_leader.leader_id == 2
    (endpoint,) = answer.node_endpoints
    assert (endpoint.node_id, f"{endpoint.host}:{endpoint.port}", endpoint.rack) == (2, nodes[2].address("kafka"), "r2")


def test_a_consumer_reads_from_the_replica_in_its_rack(nodes: Nodes, confluent: AdminClient) -> None:
    topic = create(nodes, confluent, [1, 2, 3])
    producer = confluent_kafka.Producer({"bootstrap.servers": nodes.bootstrap})
    seen: list[bytes] = []
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": nodes.bootstrap,
            "group.id": uuid.uuid4().hex,
            "client.rack": "r3",
            "fetch.wait.max.ms": 500,
            "log_level": 0,
        }
    )

    def read(count: int) -> None:
        def poll() -> bool:
            message = consumer.poll(0.1)
            if message is not None and not message.error():
                seen.append(message.value())
            return len(seen) >= count

        until(poll, f"{count} records", nodes)

    def fetches(node: int) -> float:
        return requests_of(nodes, node, "Fetch")

    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        for n in range(20):
            producer.produce(topic, b"%d" % n)
        assert producer.flush(WAIT_S) == 0
        read(20)
        before = fetches(3), fetches(1)
        for n in range(20, 40):
            producer.produce(topic, b"%d" % n)
            producer.flush(WAIT_S)
            read(n + 1)
        assert seen == [b"%d" % n for n in range(40)]
        assert fetches(3) - before[0] >= 10
        assert fetches(1) - before[1] <= 5
    finally:
        consumer.close()


def requests_of(nodes: Nodes, node: int, api: str) -> float:
    """How many of that type a node got."""
    with urllib.request.urlopen(f"http://{nodes[node].address('http')}/metrics", timeout=WAIT_S) as answer:
        lines = answer.read().decode().splitlines()
    start = f'ottla_kafka_requests_total{{api="{api}"}} '.lower()
    return sum(float(line[len(start) :]) for line in lines if line.lower().startswith(start))

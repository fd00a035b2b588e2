"""The admin halves of the three clients: topics, partitions, configs, records, cluster, groups."""

import time
from collections.abc import Callable, Iterator

import kafka.admin
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin import NewPartitions as AioNewPartitions
from aiokafka.admin import NewTopic as AioNewTopic
from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)


@pytest.fixture
def admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap})


@pytest.fixture
def kafka_python(bootstrap: str) -> Iterator[kafka.admin.KafkaAdminClient]:
    client = kafka.admin.KafkaAdminClient(bootstrap_servers=bootstrap)
    yield client
    client.close()


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


class TestConfluent:
    """librdkafka's admin client."""

    def test_topic_life(self, admin: AdminClient, new_name: Callable[[str], str]) -> None:
        topic = new_name("life")
        admin.create_topics([NewTopic(topic, 3, 1, config={"retention.ms": "60000"})])[topic].result(30)
        assert len(admin.list_topics(topic).topics[topic].partitions) == 3
        admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
        eventually(lambda: len(admin.list_topics(topic).topics[topic].partitions) == 5, "five partitions")
        admin.delete_topics([topic])[topic].result(30)
        eventually(lambda: topic not in admin.list_topics().topics, "the topic is gone")

    @pytest.mark.parametrize(
        ("name", "partitions", "config", "code"),
        [
            ("bad/name", 1, {}, KafkaError.TOPIC_EXCEPTION),
            ("fine", 0, {}, KafkaError.INVALID_PARTITIONS),
            ("fine", 1, {"no.such.key": "1"}, KafkaError.INVALID_CONFIG),
            ("fine", 1, {"retention.ms": "soon"}, KafkaError.INVALID_CONFIG),
        ],
    )
    def test_bad_topics_are_refused(
        self, admin: AdminClient, name: str, partitions: int, config: dict[str, str], code: int
    ) -> None:
        with pytest.raises(KafkaException) as caught:
            admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(30)
        assert caught.value.args[0].code() == code
        assert name not in admin.list_topics().topics

    def test_a_topic_that_exists_is_refused(self, admin: AdminClient, new_name: Callable[[str], str]) -> None:
        topic = new_name("twice")
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
        with pytest.raises(KafkaException) as caught:
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
        assert caught.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS

    def test_configs_are_described_and_altered(self, admin: AdminClient, new_name: Callable[[str], str]) -> None:
        topic = new_name("configs")
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
        change = ConfigEntry("retention.ms", "12345", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
        admin.incremental_alter_configs([resource])[resource].result(30)
        asked = ConfigResource(ResourceType.TOPIC, topic)
        found = admin.describe_configs([asked])[asked].result(30)
        assert found["retention.ms"].value == "12345"
        assert not found["retention.ms"].is_default
        assert found["cleanup.policy"].value == "delete"
        back = ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[back])
        admin.incremental_alter_configs([resource])[resource].result(30)
        assert admin.describe_configs([asked])[asked].result(30)["retention.ms"].value == "604800000"

    def test_offsets_and_delete_records(
        self, admin: AdminClient, bootstrap: str, new_name: Callable[[str], str]
    ) -> None:
        topic = new_name("records")
        kept = {"retention.ms": "-1"}  # though the records are old
        admin.create_topics([NewTopic(topic, 1, 1, config=kept)])[topic].result(30)
        producer = Producer({"bootstrap.servers": bootstrap})
        for n in range(10):
            producer.produce(topic, b"%d" % n, timestamp=1_700_000_000_000 + n)
        assert producer.flush(30) == 0
        partition = ConfluentPartition(topic, 0)

        def offset(spec: OffsetSpec) -> int:
            asked = admin.list_offsets({partition: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED)
            return int(asked[partition].result(30).offset)

        assert offset(OffsetSpec.earliest()) == 0
        assert offset(OffsetSpec.latest()) == 10
        assert offset(OffsetSpec.max_timestamp()) == 9
        assert offset(OffsetSpec.for_timestamp(1_700_000_000_004)) == 4
        admin.delete_records([ConfluentPartition(topic, 0, 4)])
        eventually(lambda: offset(OffsetSpec.earliest()) == 4, "the first four records are gone")

    def test_cluster(self, admin: AdminClient) -> None:
        found = admin.describe_cluster().result(30)
        assert found.nodes
        assert found.controller
        assert found.cluster_id

    def test_groups(self, admin: AdminClient, bootstrap: str, new_name: Callable[[str], str]) -> None:
        topic, group = new_name("group-topic"), new_name("group")
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
        change = ConsumerGroupTopicPartitions(group, [ConfluentPartition(topic, 0, 7)])
        admin.alter_consumer_group_offsets([change])[group].result(30)
        asked = ConsumerGroupTopicPartitions(group)
        found = admin.list_consumer_group_offsets([asked])[group].result(30)
        assert [(p.topic, p.partition, p.offset) for p in found.topic_partitions] == [(topic, 0, 7)]
        assert group in [g.group_id for g in admin.list_consumer_groups().result(30).valid]
        admin.delete_consumer_groups([group])[group].result(30)
        assert group not in [g.group_id for g in admin.list_consumer_groups().result(30).valid]


class TestKafkaPython:
    """kafka-python's admin client."""

    def test_topics_configs_and_cluster(
        self, kafka_python: kafka.admin.KafkaAdminClient, new_name: Callable[[str], str]
    ) -> None:
        topic = new_name("kp")
        kafka_python.create_topics([kafka.admin.NewTopic(topic, 2, 1)])
        assert topic in kafka_python.list_topics()
        described = kafka_python.describe_topics([topic])
        assert len(described[0]["partitions"]) == 2
        kafka_python.create_partitions({topic: kafka.admin.NewPartitions(4)})
        assert len(kafka_python.describe_topics([topic])[0]["partitions"]) == 4
        kafka_python.describe_configs([kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, topic)])
        assert kafka_python.describe_cluster()["brokers"]
        kafka_python.describe_log_dirs()
        kafka_python.delete_topics([topic])
        eventually(lambda: topic not in kafka_python.list_topics(), "the topic is gone")


class TestAioKafka:
    """aiokafka's admin client."""

    async def test_topics_and_records(self, bootstrap: str, new_name: Callable[[str], str]) -> None:
        topic = new_name("aio")
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await client.start()
            try:
                created = await client.create_topics([AioNewTopic(topic, 1, 1)])
                assert [error[1] for error in created.topic_errors] == [0]
                for n in range(5):
                    await producer.send_and_wait(topic, b"%d" % n, partition=0)
                await client.create_partitions({topic: AioNewPartitions(3)})
                assert [t["topic"] for t in await client.describe_topics([topic])] == [topic]
                await client.describe_cluster()
                deleted = await client.delete_topics([topic])
                assert [code for _, code in deleted.topic_error_codes] == [0]
            finally:
                await client.close()

    def test_partition_type_is_shared(self) -> None:
        assert TopicPartition("t", 0) == TopicPartition(topic="t", partition=0)

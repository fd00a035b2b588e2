import asyncio
from typing import Any
from unittest.mock import Mock

import pytest

from ottla.broker.broker import Broker
from ottla.broker.metadata_answer import MetadataAnswer
from ottla.controller.image import TopicImage
from ottla.controller.producer_ids import first_producer_id
from ottla.core.error_codes import ErrorCode
from ottla.core.types import ZERO_UUID, Uuid, format_uuid
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages import alter_configs_request, incremental_alter_configs_request
from ottla.protocol.messages.create_partitions_request import CreatePartitionsRequest, CreatePartitionsTopic
from ottla.protocol.messages.create_topics_request import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from ottla.protocol.messages.delete_records_request import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.protocol.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from ottla.protocol.messages.describe_cluster_request import DescribeClusterRequest
from ottla.protocol.messages.describe_configs_request import DescribeConfigsRequest, DescribeConfigsResource
from ottla.protocol.messages.describe_log_dirs_request import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.protocol.messages.describe_topic_partitions_request import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.list_config_resources_request import ListConfigResourcesRequest
from ottla.protocol.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from ottla.records.batch import encode_batch
from ottla.records.record import Record
from ottla.testing.sim.files import SimFiles
from tests.unit.broker.one_broker import CLUSTER, context, start_broker

TOPIC, BROKER = 2, 4
NEWEST = 99  # handlers only look at whether a version is old


async def ask(broker: Broker, key: ApiKey, request: Any, version: int = NEWEST, listener: str = "PLAINTEXT") -> Any:
    return await broker.handle(key, request, context(version, listener))


async def create(broker: Broker, *names: str, partitions: int = 1, **configs: str) -> None:
    topics = [
        CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=-1,
            configs=[CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()],
        )
        for name in names
    ]
    response = await ask(broker, ApiKey.CREATE_TOPICS, CreateTopicsRequest(topics=topics))
    assert [topic.error_code for topic in response.topics] == [0] * len(names)


async def append(broker: Broker, topic: str, count: int, index: int = 0) -> None:
    partition = broker.partitions.get(topic, index)
    assert partition is not None
    written: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
    now_ms = broker.clock.time_ms()  # or retention would take them
    records = [Record(offset=n, timestamp=now_ms, key=None, value=b"x", headers=()) for n in range(count)]
    partition.append(memoryview(bytearray(encode_batch(records))), acks=-1, done=written.set_result)
    assert await written is ErrorCode.NONE


def named(*names: str) -> list[MetadataRequestTopic]:
    return [MetadataRequestTopic(name=name) for name in names]


async def metadata(
    broker: Broker, request: MetadataRequest, version: int = 13, listener: str = "PLAINTEXT"
) -> MetadataAnswer:
    answer = await ask(broker, ApiKey.METADATA, request, version, listener)
    assert isinstance(answer, MetadataAnswer)
    return answer


def outcome(answer: MetadataAnswer) -> list[tuple[str | None, int]]:
    return [(t.name, 0 if isinstance(t, TopicImage) else t.error_code) for t in answer.topics]


async def test_create_topics_answers_with_counts_id_and_every_config_with_its_source() -> None:
    broker = await start_broker(configs={"num.partitions": "3", "log.retention.hours": "1"})
    request = CreateTopicsRequest(
        topics=[
            CreatableTopic(
                name="a",
                num_partitions=-1,
                replication_factor=-1,
                configs=[CreatableTopicConfig(name="cleanup.policy", value="compact")],
            )
        ]
    )
    (topic,) = (await ask(broker, ApiKey.CREATE_TOPICS, request)).topics
    image = broker.image.topics["a"]
    assert (topic.topic_id, topic.num_partitions, topic.replication_factor) == (image.id, 3, 1)
    configs = {config.name: (config.value, config.config_source) for config in topic.configs}
    assert configs["cleanup.policy"] == ("compact", 1)
    assert configs["retention.ms"] == ("3600000", 4)
    assert configs["segment.bytes"] == ("1073741824", 5)
    partition = broker.partitions.get("a", 2)
    assert partition is not None
    assert (partition.topic_id, partition.is_leader, partition.config.cleanup_compact) == (image.id, True, True)
    assert partition.config.retention_ms == 3_600_000


async def test_create_topics_reports_each_topics_error_and_creates_nothing_when_only_validating() -> None:
    broker = await start_broker()
    topics = [
        CreatableTopic(name="good", num_partitions=1, replication_factor=1),
        CreatableTopic(name="bad name", num_partitions=1, replication_factor=1),
        CreatableTopic(name="many", num_partitions=1, replication_factor=5),
    ]
    response = await ask(broker, ApiKey.CREATE_TOPICS, CreateTopicsRequest(topics=topics, validate_only=True))
    assert [(t.name, t.error_code, t.topic_id == ZERO_UUID) for t in response.topics] == [
        ("good", 0, False),
        ("bad name", ErrorCode.INVALID_TOPIC_EXCEPTION, True),
        ("many", ErrorCode.INVALID_REPLICATION_FACTOR, True),
    ]
    assert not broker.image.topics


async def test_metadata_of_all_topics() -> None:
    broker = await start_broker()
    await create(broker, "a", "b")
    everything = [("a", 0), ("b", 0)]
    assert outcome(await metadata(broker, MetadataRequest(topics=None))) == everything
    assert outcome(await metadata(broker, MetadataRequest(topics=[]), version=0)) == everything
    assert outcome(await metadata(broker, MetadataRequest(topics=[]))) == []
    answer = await metadata(broker, MetadataRequest(topics=None))
    assert answer.topics[0] is broker.image.topics["a"]


async def test_metadata_names_brokers_as_the_clients_listener_is_reached() -> None:
    broker = await start_broker()
    for listener, host, port in (("PLAINTEXT", "client.example", 9092), ("INSIDE", "10.0.0.1", 9093)):
        answer = await metadata(broker, MetadataRequest(topics=[]), listener=listener)
        assert [(b.node_id, b.host, b.port, b.rack) for b in answer.response.brokers] == [(1, host, port, "r1")]
        assert (answer.response.cluster_id, answer.response.controller_id) == (format_uuid(CLUSTER), 1)
    assert answer.live_brokers == {1}


async def test_metadata_creates_missing_topics_only_when_client_and_broker_allow_it() -> None:
    broker = await start_broker()
    missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    refusing = MetadataRequest(topics=named("a"), allow_auto_topic_creation=False)
    assert outcome(await metadata(broker, refusing)) == [("a", missing)]
    allowing = MetadataRequest(topics=named("a", "b b", "__consumer_offsets"), allow_auto_topic_creation=True)
    assert outcome(await metadata(broker, allowing)) == [
        ("a", 0),
        ("b b", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("__consumer_offsets", missing),
    ]
    closed = await start_broker(configs={"auto.create.topics.enable": "false"})
    assert outcome(await metadata(closed, allowing))[0] == ("a", missing)


async def test_many_clients_that_ask_for_one_missing_topic_all_get_it() -> None:
    broker = await start_broker()
    request = MetadataRequest(topics=named("a"), allow_auto_topic_creation=True)
    answers = await asyncio.gather(*(metadata(broker, request) for _ in range(20)))
    assert {id(answer.topics[0]) for answer in answers} == {id(broker.image.topics["a"])}


async def test_metadata_by_id_since_version_12() -> None:
    broker = await start_broker()
    await create(broker, "a")
    known, unknown = broker.image.topics["a"].id, Uuid(b"x" * 16)
    request = MetadataRequest(
        topics=[MetadataRequestTopic(topic_id=known, name=None), MetadataRequestTopic(topic_id=unknown, name=None)]
    )
    assert outcome(await metadata(broker, request, version=12)) == [("a", 0), (None, ErrorCode.UNKNOWN_TOPIC_ID)]
    assert [code for _, code in outcome(await metadata(broker, request, version=11))] == [42, 42]


async def test_a_deleted_topic_is_gone_with_its_files_and_its_name_is_free() -> None:
    files = SimFiles()
    broker = await start_broker(files)
    await create(broker, "a")
    await append(broker, "a", 3)
    old_id = broker.image.topics["a"].id
    request = DeleteTopicsRequest(topics=[DeleteTopicState(name="a"), DeleteTopicState(name="b")])
    response = await ask(broker, ApiKey.DELETE_TOPICS, request)
    assert [(t.name, t.error_code) for t in response.responses] == [("a", 0), ("b", 3)]
    assert broker.partitions.get("a", 0) is None
    await create(broker, "a")
    async with asyncio.timeout(5):
        while (partition := broker.partitions.get("a", 0)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert partition.topic_id == broker.image.topics["a"].id != old_id
    await append(broker, "a", 1)
    assert partition.log_end_offset == 1


@pytest.mark.interpreted
async def test_files_of_a_topic_whose_deletion_was_cut_short_are_set_aside_at_the_next_start() -> None:
    files = SimFiles()
    broker = await start_broker(files)
    await create(broker, "a", "kept")
    await append(broker, "a", 3)
    await append(broker, "kept", 3)
    broker.partitions.remove = Mock()  # type: ignore[method-assign]  # killed before it
    await ask(broker, ApiKey.DELETE_TOPICS, DeleteTopicsRequest(topic_names=["a"]), version=5)
    again = await start_broker(files)
    names = files.list_directory("")
    assert "a-0" not in names
    assert next(name for name in names if name.startswith("a-0.")).endswith("-stray")
    kept = again.partitions.get("kept", 0)
    assert kept is not None
    assert kept.log_end_offset == 3


async def test_topics_configs_and_producer_ids_outlive_a_restart_and_leader_epochs_rise() -> None:
    files = SimFiles()
    broker = await start_broker(files)
    await create(broker, "a", partitions=2, flush_ms="7")
    first = await ask(broker, ApiKey.INIT_PRODUCER_ID, InitProducerIdRequest(transactional_id=None))
    again = await start_broker(files)
    topic = again.image.topics["a"]
    assert topic.id == broker.image.topics["a"].id
    assert [partition.leader_epoch for partition in topic.partitions] == [1, 1]
    partition = again.partitions.get("a", 1)
    assert partition is not None
    assert (partition.leader_epoch, partition.config.flush_ms) == (1, 7)
    second = await ask(again, ApiKey.INIT_PRODUCER_ID, InitProducerIdRequest(transactional_id=None))
    assert second.producer_id - first.producer_id == 1000


async def test_create_partitions_adds_them_to_the_node() -> None:
    broker = await start_broker()
    await create(broker, "a")
    request = CreatePartitionsRequest(
        topics=[
            CreatePartitionsTopic(name="a", count=3, assignments=None),
            CreatePartitionsTopic(name="b", count=3, assignments=None),
        ]
    )
    response = await ask(broker, ApiKey.CREATE_PARTITIONS, request)
    assert [(r.name, r.error_code) for r in response.results] == [("a", 0), ("b", 3)]
    assert len(broker.image.topics["a"].partitions) == 3
    assert broker.partitions.get("a", 2) is not None


async def describe(broker: Broker, kind: int, name: str, *keys: str) -> Any:
    request = DescribeConfigsRequest(
        resources=[DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=list(keys))],
        include_synonyms=True,
        include_documentation=True,
    )
    (result,) = (await ask(broker, ApiKey.DESCRIBE_CONFIGS, request)).results
    return result


async def test_describe_configs_of_a_topic() -> None:
    broker = await start_broker(configs={"log.retention.hours": "1"})
    await create(broker, "a", flush_ms="7")
    result = await describe(broker, TOPIC, "a", "flush.ms", "retention.ms")
    own, inherited = result.configs
    assert (own.name, own.value, own.config_source, own.config_type, own.read_only) == ("flush.ms", "7", 1, 5, False)
    assert own.documentation
    assert [(s.name, s.value, s.source) for s in inherited.synonyms] == [
        ("log.retention.hours", "1", 4),
        ("log.retention.hours", "168", 5),
    ]
    assert (inherited.value, inherited.config_source) == ("3600000", 4)
    assert len((await describe(broker, TOPIC, "a")).configs) == 37


async def test_describe_configs_of_this_broker_and_of_all() -> None:
    broker = await start_broker(configs={"num.partitions": "3"})
    await incremental(broker, BROKER, "", ("log.retention.ms", 0, "9"))
    configs = {one.name: one for one in (await describe(broker, BROKER, "1")).configs}
    assert (configs["node.id"].value, configs["node.id"].read_only) == ("1", True)
    assert configs["advertised.listeners"].value == "PLAINTEXT://client.example:9092,INSIDE://10.0.0.1:9093"
    assert (configs["num.partitions"].value, configs["num.partitions"].config_source) == ("3", 4)
    assert (configs["log.retention.ms"].value, configs["log.retention.ms"].config_source) == ("9", 3)
    assert not configs["log.retention.ms"].read_only
    everywhere = (await describe(broker, BROKER, "")).configs
    assert [(one.name, one.value, one.config_source) for one in everywhere] == [("log.retention.ms", "9", 3)]


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        (TOPIC, "missing", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "b b", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (BROKER, "2", ErrorCode.INVALID_REQUEST),
        (77, "x", ErrorCode.INVALID_REQUEST),
    ],
)
async def test_describe_configs_of_what_does_not_exist(kind: int, name: str, expected: ErrorCode) -> None:
    result = await describe(await start_broker(), kind, name)
    assert (result.error_code, result.configs) == (expected, [])


async def incremental(broker: Broker, kind: int, name: str, *changes: tuple[str, int, str | None]) -> Any:
    request = incremental_alter_configs_request.IncrementalAlterConfigsRequest(
        resources=[
            incremental_alter_configs_request.AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[
                    incremental_alter_configs_request.AlterableConfig(name=key, config_operation=op, value=value)
                    for key, op, value in changes
                ],
            )
        ]
    )
    (response,) = (await ask(broker, ApiKey.INCREMENTAL_ALTER_CONFIGS, request)).responses
    return response


async def test_changed_configs_reach_live_partitions() -> None:
    broker = await start_broker()
    await create(broker, "a", "b")
    a, b = broker.partitions.get("a", 0), broker.partitions.get("b", 0)
    assert a is not None
    assert b is not None
    assert (await incremental(broker, TOPIC, "a", ("retention.ms", 0, "5"))).error_code == 0
    assert (a.config.retention_ms, b.config.retention_ms) == (5, 604_800_000)
    assert (await incremental(broker, BROKER, "", ("log.retention.ms", 0, "9"))).error_code == 0
    assert (a.config.retention_ms, b.config.retention_ms) == (5, 9)
    assert (await incremental(broker, TOPIC, "a", ("retention.ms", 1, None))).error_code == 0
    assert (a.config.retention_ms, b.config.retention_ms) == (9, 9)


async def test_alter_configs_replaces_them_all() -> None:
    broker = await start_broker()
    await create(broker, "a", flush_ms="7")
    request = alter_configs_request.AlterConfigsRequest(
        resources=[
            alter_configs_request.AlterConfigsResource(
                resource_type=TOPIC,
                resource_name="a",
                configs=[alter_configs_request.AlterableConfig(name="retention.ms", value="5")],
            )
        ]
    )
    (response,) = (await ask(broker, ApiKey.ALTER_CONFIGS, request)).responses
    assert response.error_code == 0
    assert broker.image.configs(TOPIC, "a") == {"retention.ms": "5"}  # type: ignore[arg-type]


async def test_wrong_configs_are_refused_with_what_is_allowed() -> None:
    broker = await start_broker()
    await create(broker, "a")
    unknown = await incremental(broker, TOPIC, "a", ("retention.msec", 0, "5"))
    assert (unknown.error_code, unknown.error_message) == (40, "Unknown topic config name: retention.msec")
    wrong = await incremental(broker, TOPIC, "a", ("cleanup.policy", 0, "shred"))
    assert wrong.error_code == 40
    assert "any of compact, delete" in wrong.error_message
    assert (await incremental(broker, TOPIC, "a", ("retention.ms", 9, "5"))).error_code == 42
    read_only = await incremental(broker, BROKER, "1", ("offsets.topic.num.partitions", 0, "5"))
    assert (read_only.error_code, "restart" in read_only.error_message) == (42, True)


async def test_list_config_resources() -> None:
    broker = await start_broker()
    await create(broker, "a")
    everything = await ask(broker, ApiKey.LIST_CONFIG_RESOURCES, ListConfigResourcesRequest(resource_types=[]))
    assert [(r.resource_type, r.resource_name) for r in everything.config_resources] == [(TOPIC, "a"), (BROKER, "1")]
    brokers = await ask(broker, ApiKey.LIST_CONFIG_RESOURCES, ListConfigResourcesRequest(resource_types=[BROKER]))
    assert [(r.resource_type, r.resource_name) for r in brokers.config_resources] == [(BROKER, "1")]
    unknown = await ask(broker, ApiKey.LIST_CONFIG_RESOURCES, ListConfigResourcesRequest(resource_types=[3]))
    assert unknown.error_code == ErrorCode.UNSUPPORTED_VERSION


async def test_describe_cluster() -> None:
    broker = await start_broker()
    response = await ask(broker, ApiKey.DESCRIBE_CLUSTER, DescribeClusterRequest(endpoint_type=1), listener="INSIDE")
    assert (response.cluster_id, response.controller_id, response.error_code) == (format_uuid(CLUSTER), 1, 0)
    assert [(b.broker_id, b.host, b.port, b.rack) for b in response.brokers] == [(1, "10.0.0.1", 9093, "r1")]
    controllers = await ask(broker, ApiKey.DESCRIBE_CLUSTER, DescribeClusterRequest(endpoint_type=2))
    assert controllers.error_code == ErrorCode.MISMATCHED_ENDPOINT_TYPE


async def test_describe_log_dirs() -> None:
    broker = await start_broker()
    await create(broker, "a", "b", partitions=2)
    await append(broker, "a", 5, index=1)
    (everything,) = (await ask(broker, ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(topics=None))).results
    sizes = {(t.name, p.partition_index): p.partition_size for t in everything.topics for p in t.partitions}
    assert everything.log_dir == "/data"
    assert sizes.keys() == {("a", 0), ("a", 1), ("b", 0), ("b", 1)}
    assert sizes["a", 0] == 0 < sizes["a", 1]
    asked = DescribeLogDirsRequest(topics=[DescribableLogDirTopic(topic="a", partitions=[1, 7])])
    (some,) = (await ask(broker, ApiKey.DESCRIBE_LOG_DIRS, asked)).results
    assert [(t.name, [p.partition_index for p in t.partitions]) for t in some.topics] == [("a", [1])]


async def pages(broker: Broker, limit: int, *names: str) -> list[list[tuple[str, list[int]]]]:
    result = []
    cursor: Cursor | None = None
    while True:
        request = DescribeTopicPartitionsRequest(
            topics=[TopicRequest(name=name) for name in names], response_partition_limit=limit, cursor=cursor
        )
        response = await ask(broker, ApiKey.DESCRIBE_TOPIC_PARTITIONS, request)
        result.append([(t.name, [p.partition_index for p in t.partitions]) for t in response.topics])
        if response.next_cursor is None:
            return result
        cursor = Cursor(
            topic_name=response.next_cursor.topic_name, partition_index=response.next_cursor.partition_index
        )


async def test_describe_topic_partitions_page_by_page() -> None:
    broker = await start_broker()
    await create(broker, "a", "b", partitions=3)
    assert await pages(broker, 2000) == [[("a", [0, 1, 2]), ("b", [0, 1, 2])]]
    assert await pages(broker, 2) == [[("a", [0, 1])], [("a", [2]), ("b", [0])], [("b", [1, 2])]]
    assert await pages(broker, 3) == [[("a", [0, 1, 2])], [("b", [0, 1, 2])]]
    assert await pages(broker, 2000, "b", "x") == [[("b", [0, 1, 2]), ("x", [])]]


async def test_delete_records_moves_the_log_start() -> None:
    broker = await start_broker()
    await create(broker, "a", "compacted")
    await incremental(broker, TOPIC, "compacted", ("cleanup.policy", 0, "compact"))
    await append(broker, "a", 10)

    def partition(index: int, offset: int) -> DeleteRecordsPartition:
        return DeleteRecordsPartition(partition_index=index, offset=offset)

    request = DeleteRecordsRequest(
        topics=[
            DeleteRecordsTopic(name="a", partitions=[partition(0, 4), partition(5, 1)]),
            DeleteRecordsTopic(name="compacted", partitions=[partition(0, 0)]),
            DeleteRecordsTopic(name="missing", partitions=[partition(0, 0)]),
        ],
        timeout_ms=5000,
    )
    response = await ask(broker, ApiKey.DELETE_RECORDS, request)
    assert [
        (t.name, p.partition_index, p.low_watermark, p.error_code) for t in response.topics for p in t.partitions
    ] == [
        ("a", 0, 4, 0),
        ("a", 5, -1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("compacted", 0, -1, ErrorCode.POLICY_VIOLATION),
        ("missing", 0, -1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    beyond = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name="a", partitions=[partition(0, 11)])], timeout_ms=5000)
    (topic,) = (await ask(broker, ApiKey.DELETE_RECORDS, beyond)).topics
    assert topic.partitions[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE


async def test_every_producer_gets_an_id_of_its_own() -> None:
    broker = await start_broker()
    request = InitProducerIdRequest(transactional_id=None)
    responses = await asyncio.gather(*(ask(broker, ApiKey.INIT_PRODUCER_ID, request) for _ in range(2500)))
    first = first_producer_id(broker.settings.cluster_id)
    assert {response.producer_id for response in responses} == set(range(first, first + 2500))
    assert {(response.error_code, response.producer_epoch) for response in responses} == {(0, 0)}
    assert broker.image.next_producer_id == first + 3000

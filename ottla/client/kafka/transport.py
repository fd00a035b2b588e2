"""The client's transport over the Kafka protocol.

Fetch and Produce name topics by id where the request gives ids and the node takes them: then a topic that was deleted
and created again is refused (UNKNOWN_TOPIC_ID) instead of taken for the one before.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from ottla.client.config import ConnectionConfig
from ottla.client.errors import ClientError
from ottla.client.kafka.connection import Connection
from ottla.client.kafka.convert import by_topic, description_of, entry_of, error_of, new_topic, raise_error
from ottla.client.kafka.groups import KafkaGroups
from ottla.client.kafka.links import Lane, Links
from ottla.client.kafka.operations import KafkaMirrors, KafkaOperations
from ottla.client.kafka.transactions import KafkaTransactions
from ottla.client.transport import ConfigChange, FetchRequest, FetchResult, ProduceRequest, ProduceResult
from ottla.client.types import (
    ClusterDescription,
    ConfigEntry,
    ConfigResource,
    CreatedTopic,
    NewTopic,
    Node,
    OffsetAndTimestamp,
    ResourceType,
    TopicDescription,
    TopicListing,
    TopicPartition,
)
from ottla.core.types import ZERO_UUID, Uuid, format_uuid, parse_uuid
from ottla.protocol.message import Message
from ottla.protocol.messages import (
    create_partitions_request,
    create_partitions_response,
    create_topics_request,
    create_topics_response,
    delete_records_request,
    delete_records_response,
    delete_topics_request,
    delete_topics_response,
    describe_configs_request,
    describe_configs_response,
    fetch_request,
    fetch_response,
    incremental_alter_configs_request,
    incremental_alter_configs_response,
    init_producer_id_request,
    init_producer_id_response,
    list_offsets_request,
    list_offsets_response,
    metadata_request,
    metadata_response,
    produce_request,
    produce_response,
)

M = TypeVar("M", bound=Message)
Produced = dict[TopicPartition, ProduceResult]

# The broker answers a Produce within the request's own time-out; past it and this, the connection counts as lost.
_PRODUCE_GRACE_S: Final = 5.0
_FETCH_BY_NAME: Final = 12  # the last versions that name topics
_PRODUCE_BY_NAME: Final = 12
_DELETE_BY_NAME: Final = 5
_SET, _DELETE = 0, 1  # operations of IncrementalAlterConfigs


class KafkaTransport:
    """Implements `transport.Transport`."""

    def __init__(self, config: ConnectionConfig) -> None:
        self.config = config
        self.timeout_s = config.request_timeout_ms / 1000
        self.links = Links(config)
        self._names: dict[Uuid, str] = {}  # of the topics that were described
        self.operations = KafkaOperations()
        self.groups = KafkaGroups(self)
        self.transactions = KafkaTransactions(self)
        self.mirrors = KafkaMirrors()

    async def open(self) -> None:
        """Ask the bootstrap servers in turn; raises the last one's error when none answers."""
        await self.describe_cluster()

    async def close(self) -> None:
        """Close every connection."""
        self.links.close()

    def ask_elsewhere(self) -> None:
        """The next one in turn."""
        self.links.ask_elsewhere()

    async def describe_cluster(self) -> ClusterDescription:
        """Remembers the nodes' addresses."""
        answer = await self._metadata(metadata_request.MetadataRequest(topics=[], allow_auto_topic_creation=False))
        return ClusterDescription(
            cluster_id=answer.cluster_id or "",
            controller_id=answer.controller_id,
            nodes=tuple(
                Node(node_id=one.node_id, host=one.host, port=one.port, rack=one.rack) for one in answer.brokers
            ),
        )

    async def list_topics(self, *, include_internal: bool) -> list[TopicListing]:
        """One request to any node."""
        answer = await self._metadata(metadata_request.MetadataRequest(topics=None, allow_auto_topic_creation=False))
        return [
            TopicListing(
                name=one.name or "",
                topic_id=format_uuid(one.topic_id),
                internal=one.is_internal,
                num_partitions=len(one.partitions),
            )
            for one in answer.topics
            if include_internal or not one.is_internal
        ]

    async def describe_topics(
        self, names: Sequence[str] | None, *, allow_auto_create: bool
    ) -> tuple[list[TopicDescription], dict[str, ClientError]]:
        """One request to any node."""
        if names is not None and not names:
            return [], {}
        topics = None if names is None else [metadata_request.MetadataRequestTopic(name=name) for name in names]
        answer = await self._metadata(
            metadata_request.MetadataRequest(topics=topics, allow_auto_topic_creation=allow_auto_create)
        )
        descriptions: list[TopicDescription] = []
        errors: dict[str, ClientError] = {}
        for one in answer.topics:
            name = one.name or ""
            error = error_of(one.error_code, None, name)
            if error is None:
                descriptions.append(description_of(one))
            else:
                errors[name] = error
        return descriptions, errors

    async def topic_names(self, ids: Sequence[Uuid]) -> dict[Uuid, str]:
        """The names of topics by their ids; ids that no topic has are left out."""
        unknown = [one for one in ids if one not in self._names]
        if unknown:
            topics = [metadata_request.MetadataRequestTopic(topic_id=one, name=None) for one in unknown]
            await self._metadata(metadata_request.MetadataRequest(topics=topics, allow_auto_topic_creation=False))
        return {one: self._names[one] for one in ids if one in self._names}

    async def _metadata(self, request: metadata_request.MetadataRequest) -> metadata_response.MetadataResponse:
        answer = await self.links.ask_any(
            lambda link: link.send(request, metadata_response.MetadataResponse, self.timeout_s)
        )
        raise_error(answer.error_code)
        if answer.brokers:
            self.links.describe({one.node_id: f"{one.host}:{one.port}" for one in answer.brokers})
        for one in answer.topics:
            if one.name and one.topic_id != ZERO_UUID and not one.error_code:
                self._names[one.topic_id] = one.name
        return answer

    async def init_producer_id(self) -> tuple[int, int]:
        """One request to any node."""
        request = init_producer_id_request.InitProducerIdRequest(
            transactional_id=None, transaction_timeout_ms=2_147_483_647
        )
        answer = await self.links.ask_any(
            lambda link: link.send(request, init_producer_id_response.InitProducerIdResponse, self.timeout_s, newest=5)
        )
        raise_error(answer.error_code)
        return answer.producer_id, answer.producer_epoch

    # -- records

    def produce(self, node_id: int, request: ProduceRequest) -> "asyncio.Future[Produced]":
        """On the node's one connection for this."""
        result: asyncio.Future[Produced] = asyncio.get_running_loop().create_future()
        ids = _ids(request.topic_ids)
        message = produce_request.ProduceRequest(
            transactional_id=request.transactional_id,
            acks=request.acks,
            timeout_ms=request.timeout_ms,
            topic_data=[
                produce_request.TopicProduceData(
                    name=topic,
                    topic_id=ids.get(topic, ZERO_UUID),
                    partition_data=[
                        produce_request.PartitionProduceData(index=index, records=batch) for index, batch in batches
                    ],
                )
                for topic, batches in by_topic(request.batches).items()
            ],
        )
        names = {topic_id: name for name, topic_id in ids.items()}
        try:
            sent = self.links.to(node_id, Lane.PRODUCE).send(
                message,
                produce_response.ProduceResponse,
                request.timeout_ms / 1000 + _PRODUCE_GRACE_S,
                newest=None if ids else _PRODUCE_BY_NAME,
                is_answered=request.acks != 0,
            )
        except ClientError as error:
            result.set_exception(error)
            return result

        def on_answer(answer: "asyncio.Future[produce_response.ProduceResponse]") -> None:
            if result.done():
                answer.exception()  # seen
                return
            error = answer.exception()
            if error is not None:
                result.set_exception(error)
            elif request.acks == 0:
                result.set_result({partition: ProduceResult(None, -1, -1) for partition, _ in request.batches})
            else:
                result.set_result(_produced(answer.result(), names))

        sent.add_done_callback(on_answer)
        return result

    async def fetch(self, node_id: int, request: FetchRequest) -> list[FetchResult]:
        """On a connection that no other fetch waits on."""
        ids = _ids(request.topic_ids)
        message = fetch_request.FetchRequest(
            max_wait_ms=request.max_wait_ms,
            min_bytes=request.min_bytes,
            max_bytes=request.max_bytes,
            isolation_level=int(request.read_committed),
            topics=[
                fetch_request.FetchTopic(
                    topic=topic,
                    topic_id=ids.get(topic, ZERO_UUID),
                    partitions=[
                        fetch_request.FetchPartition(
                            partition=index,
                            current_leader_epoch=one.leader_epoch,
                            fetch_offset=one.fetch_offset,
                            partition_max_bytes=one.max_bytes,
                        )
                        for index, one in partitions
                    ],
                )
                for topic, partitions in by_topic((one.topic_partition, one) for one in request.partitions).items()
            ],
        )
        link = self.links.to(node_id, Lane.FETCH)
        answer = await link.send(
            message,
            fetch_response.FetchResponse,
            self.timeout_s + request.max_wait_ms / 1000,
            newest=None if ids else _FETCH_BY_NAME,
        )
        raise_error(answer.error_code)
        names = {topic_id: name for name, topic_id in ids.items()}
        return [
            FetchResult(
                TopicPartition(topic.topic or names.get(topic.topic_id, ""), one.partition_index),
                error_of(one.error_code, None, topic.topic or names.get(topic.topic_id, ""), one.partition_index),
                one.records or b"",
                one.high_watermark,
                one.last_stable_offset,
                one.log_start_offset,
                [(aborted.producer_id, aborted.first_offset) for aborted in one.aborted_transactions or ()],
            )
            for topic in answer.responses
            for one in topic.partitions
        ]

    async def list_offsets(
        self, node_id: int, timestamps: Mapping[TopicPartition, int], *, read_committed: bool
    ) -> dict[TopicPartition, OffsetAndTimestamp | ClientError]:
        """One request."""
        request = list_offsets_request.ListOffsetsRequest(
            isolation_level=int(read_committed),
            topics=[
                list_offsets_request.ListOffsetsTopic(
                    name=topic,
                    partitions=[
                        list_offsets_request.ListOffsetsPartition(partition_index=index, timestamp=timestamp)
                        for index, timestamp in partitions
                    ],
                )
                for topic, partitions in by_topic(timestamps.items()).items()
            ],
        )
        answer = await self.ask(node_id).send(request, list_offsets_response.ListOffsetsResponse, self.timeout_s)
        return {
            TopicPartition(topic.name, one.partition_index): error_of(
                one.error_code, None, topic.name, one.partition_index
            )
            or OffsetAndTimestamp(one.offset, one.timestamp)
            for topic in answer.topics
            for one in topic.partitions
        }

    # -- topics and configs

    async def create_topics(
        self, topics: Sequence[NewTopic], *, timeout_ms: int, validate_only: bool
    ) -> dict[str, CreatedTopic | ClientError]:
        """One request to any node."""
        request = create_topics_request.CreateTopicsRequest(
            topics=[new_topic(topic) for topic in topics], timeout_ms=timeout_ms, validate_only=validate_only
        )
        timeout_s = self.timeout_s + timeout_ms / 1000
        answer = await self.links.ask_any(
            lambda link: link.send(request, create_topics_response.CreateTopicsResponse, timeout_s)
        )
        return {
            one.name: error_of(one.error_code, one.error_message, one.name)
            or CreatedTopic(
                name=one.name,
                topic_id=format_uuid(one.topic_id),
                num_partitions=one.num_partitions,
                replication_factor=one.replication_factor,
            )
            for one in answer.topics
        }

    async def delete_topics(self, names: Sequence[str], *, timeout_ms: int) -> dict[str, ClientError | None]:
        """One request to any node."""
        request = delete_topics_request.DeleteTopicsRequest(topic_names=list(names), timeout_ms=timeout_ms)
        timeout_s = self.timeout_s + timeout_ms / 1000
        answer = await self.links.ask_any(
            lambda link: link.send(
                request, delete_topics_response.DeleteTopicsResponse, timeout_s, newest=_DELETE_BY_NAME
            )
        )
        return {one.name or "": error_of(one.error_code, one.error_message, one.name) for one in answer.responses}

    async def create_partitions(
        self, total_counts: Mapping[str, int], *, timeout_ms: int, validate_only: bool
    ) -> dict[str, ClientError | None]:
        """One request to any node."""
        request = create_partitions_request.CreatePartitionsRequest(
            topics=[
                create_partitions_request.CreatePartitionsTopic(name=name, count=count, assignments=None)
                for name, count in total_counts.items()
            ],
            timeout_ms=timeout_ms,
            validate_only=validate_only,
        )
        timeout_s = self.timeout_s + timeout_ms / 1000
        answer = await self.links.ask_any(
            lambda link: link.send(request, create_partitions_response.CreatePartitionsResponse, timeout_s)
        )
        return {one.name: error_of(one.error_code, one.error_message, one.name) for one in answer.results}

    async def delete_records(
        self, node_id: int, before_offsets: Mapping[TopicPartition, int], *, timeout_ms: int
    ) -> dict[TopicPartition, int | ClientError]:
        """One request."""
        request = delete_records_request.DeleteRecordsRequest(
            topics=[
                delete_records_request.DeleteRecordsTopic(
                    name=topic,
                    partitions=[
                        delete_records_request.DeleteRecordsPartition(partition_index=index, offset=offset)
                        for index, offset in partitions
                    ],
                )
                for topic, partitions in by_topic(before_offsets.items()).items()
            ],
            timeout_ms=timeout_ms,
        )
        timeout_s = self.timeout_s + timeout_ms / 1000
        answer = await self.ask(node_id).send(request, delete_records_response.DeleteRecordsResponse, timeout_s)
        return {
            TopicPartition(topic.name, one.partition_index): error_of(
                one.error_code, None, topic.name, one.partition_index
            )
            or one.low_watermark
            for topic in answer.topics
            for one in topic.partitions
        }

    async def describe_configs(
        self, resources: Sequence[ConfigResource], *, include_documentation: bool
    ) -> dict[ConfigResource, dict[str, ConfigEntry] | ClientError]:
        """One request to any node, and one to each broker whose own configs are asked for."""
        found: dict[ConfigResource, dict[str, ConfigEntry] | ClientError] = {}
        for node_id, group in _by_broker(resources).items():
            request = describe_configs_request.DescribeConfigsRequest(
                resources=[
                    describe_configs_request.DescribeConfigsResource(
                        resource_type=_TYPES[one.type], resource_name=one.name, configuration_keys=None
                    )
                    for one in group
                ],
                include_documentation=include_documentation,
            )
            answer = await self._any_or(node_id, request, describe_configs_response.DescribeConfigsResponse)
            for one in answer.results:
                resource = ConfigResource(_OF_TYPES[one.resource_type], one.resource_name)
                found[resource] = error_of(one.error_code, one.error_message) or {
                    entry.name: entry_of(entry) for entry in one.configs
                }
        return found

    async def alter_configs(
        self, changes: Mapping[ConfigResource, Sequence[ConfigChange]], *, validate_only: bool
    ) -> dict[ConfigResource, ClientError | None]:
        """One request to any node, and one to each broker whose own configs are changed."""
        outcomes: dict[ConfigResource, ClientError | None] = {}
        for node_id, group in _by_broker(list(changes)).items():
            request = incremental_alter_configs_request.IncrementalAlterConfigsRequest(
                resources=[
                    incremental_alter_configs_request.AlterConfigsResource(
                        resource_type=_TYPES[one.type],
                        resource_name=one.name,
                        configs=[
                            incremental_alter_configs_request.AlterableConfig(
                                name=key, config_operation=_DELETE if value is None else _SET, value=value
                            )
                            for key, value in changes[one]
                        ],
                    )
                    for one in group
                ],
                validate_only=validate_only,
            )
            kind = incremental_alter_configs_response.IncrementalAlterConfigsResponse
            answer = await self._any_or(node_id, request, kind)
            for one in answer.responses:
                resource = ConfigResource(_OF_TYPES[one.resource_type], one.resource_name)
                outcomes[resource] = error_of(one.error_code, one.error_message)
        return outcomes

    # -- what calls are made of

    def ask(self, node_id: int) -> Connection:
        """A connection to a node for short questions. Raises ClientError."""
        return self.links.to(node_id, Lane.ASK)

    async def _any_or(self, node_id: int | None, request: Message, answer: type[M]) -> M:
        if node_id is None:
            return await self.links.ask_any(lambda link: link.send(request, answer, self.timeout_s))
        return await self.ask(node_id).send(request, answer, self.timeout_s)


# The protocol's numbers of what a config belongs to; the client's are those of `ottla.v1`.
_TYPES: Final = {
    ResourceType.TOPIC: 2,
    ResourceType.BROKER: 4,
    ResourceType.BROKER_LOGGER: 8,
    ResourceType.GROUP: 32,
}
_OF_TYPES: Final = {number: kind for kind, number in _TYPES.items()}


def _by_broker(resources: Sequence[ConfigResource]) -> dict[int | None, list[ConfigResource]]:
    """By the node that must be asked; None: any."""
    groups: dict[int | None, list[ConfigResource]] = {}
    for one in resources:
        own = one.type in (ResourceType.BROKER, ResourceType.BROKER_LOGGER) and one.name.isdigit()
        groups.setdefault(int(one.name) if own else None, []).append(one)
    return groups


def _ids(topic_ids: Mapping[str, str] | None) -> dict[str, Uuid]:
    return {name: parse_uuid(topic_id) for name, topic_id in (topic_ids or {}).items()}


def _produced(answer: produce_response.ProduceResponse, names: Mapping[Uuid, str]) -> Produced:
    results: Produced = {}
    for topic in answer.responses:
        name = topic.name or names.get(topic.topic_id, "")
        for one in topic.partition_responses:
            error = error_of(one.error_code, one.error_message, name, one.index)
            results[TopicPartition(name, one.index)] = ProduceResult(error, one.base_offset, one.log_append_time_ms)
    return results

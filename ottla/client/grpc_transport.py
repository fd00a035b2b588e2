"""The client's transport over gRPC: the services of `ottla.v1`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc.aio

from ottla.client.config import ConnectionConfig
from ottla.client.errors import ClientClosed, ClientError, ErrorCode
from ottla.client.grpc_batches import append_method, fetch_method
from ottla.client.grpc_channel import error_of_status, open_channel
from ottla.client.grpc_convert import (
    description_of,
    entry_of,
    error_of,
    errors_by,
    new_topic,
    resource_message,
    resource_of,
    topic_id,
)
from ottla.client.grpc_coordination import GrpcGroups
from ottla.client.grpc_mirrors import GrpcMirrors
from ottla.client.grpc_operations import GrpcOperations
from ottla.client.grpc_produce import Answer, ProduceLink
from ottla.client.grpc_transactions import GrpcTransactions
from ottla.client.transport import ConfigChange, FetchRequest, FetchResult, ProduceRequest
from ottla.client.types import (
    ClusterDescription,
    ConfigEntry,
    ConfigResource,
    CreatedTopic,
    NewTopic,
    Node,
    OffsetAndTimestamp,
    TopicDescription,
    TopicListing,
    TopicPartition,
)
from ottla.core.types import parse_uuid
from ottla.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    configs_pb2,
    configs_pb2_grpc,
    fetch_pb2,
    fetch_pb2_grpc,
    produce_pb2,
    produce_pb2_grpc,
    topics_pb2,
    topics_pb2_grpc,
)

if TYPE_CHECKING:
    from ottla.v1.cluster_pb2_grpc import ClusterAsyncStub
    from ottla.v1.configs_pb2_grpc import ConfigsAsyncStub
    from ottla.v1.fetch_pb2_grpc import FetchAsyncStub
    from ottla.v1.produce_pb2_grpc import ProduceAsyncStub
    from ottla.v1.topics_pb2_grpc import TopicsAsyncStub

T = TypeVar("T")

_ISOLATION = (fetch_pb2.ISOLATION_LEVEL_READ_UNCOMMITTED, fetch_pb2.ISOLATION_LEVEL_READ_COMMITTED)


class Connection:
    """One node's channel and the stubs on it."""

    def __init__(self, address: str, config: ConnectionConfig) -> None:
        self.address = address
        self.channel = channel = open_channel(address, config)
        # One class is generated for both kinds of channel; its annotations know the other one only.
        self.cluster = cast("ClusterAsyncStub", cluster_pb2_grpc.ClusterStub(channel))
        self.topics = cast("TopicsAsyncStub", topics_pb2_grpc.TopicsStub(channel))
        self.configs = cast("ConfigsAsyncStub", configs_pb2_grpc.ConfigsStub(channel))
        self.fetch = cast("FetchAsyncStub", fetch_pb2_grpc.FetchStub(channel))
        self.fetch_batches = fetch_method(channel)
        self.append_mirrored = append_method(channel)
        self.produce = cast("ProduceAsyncStub", produce_pb2_grpc.ProduceStub(channel))
        self.link: ProduceLink | None = None


class GrpcTransport:
    """Implements `transport.Transport`."""

    def __init__(self, config: ConnectionConfig) -> None:
        self._config = config
        self._timeout = config.request_timeout_ms / 1000
        self._bootstrap = config.addresses()
        self._nodes: dict[int, str] = {}
        self._connections: dict[str, Connection] = {}
        self._any = self._bootstrap[0]  # where calls go that any node answers
        self._metadata = (("ottla-client-id", config.client_id),)
        self._closed = False
        self.operations = GrpcOperations(self)
        self.groups = GrpcGroups(self)
        self.transactions = GrpcTransactions(self)
        self.mirrors = GrpcMirrors(self)

    async def open(self) -> None:
        """Ask the bootstrap servers in turn; raises the last one's error when none answers."""
        await self.describe_cluster()

    async def close(self) -> None:
        """Close every channel."""
        self._closed = True
        connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            if connection.link is not None:
                await connection.link.close()
            await connection.channel.close()

    async def describe_cluster(self) -> ClusterDescription:
        """Remembers the nodes' addresses."""
        answer = await self.ask_any(
            lambda node: node.cluster.DescribeCluster(
                cluster_pb2.DescribeClusterRequest(), timeout=self._timeout, metadata=self._metadata
            )
        )
        self._nodes = {node.node_id: f"{node.host}:{node.port}" for node in answer.nodes}
        return ClusterDescription(
            cluster_id=answer.cluster_id,
            controller_id=answer.controller_id,
            nodes=tuple(
                Node(
                    node_id=node.node_id,
                    host=node.host,
                    port=node.port,
                    rack=node.rack if node.HasField("rack") else None,
                    fenced=node.fenced,
                    stopping=node.in_controlled_shutdown,
                    replication=node.replication,
                )
                for node in answer.nodes
            ),
        )

    async def list_topics(self, *, include_internal: bool) -> list[TopicListing]:
        """One call to any node."""
        request = topics_pb2.ListTopicsRequest(include_internal=include_internal)
        answer = await self.ask_any(lambda node: node.topics.ListTopics(request, **self.options()))
        return [
            TopicListing(
                name=topic.name,
                topic_id=topic_id(topic.topic_id),
                internal=topic.internal,
                num_partitions=topic.num_partitions,
            )
            for topic in answer.topics
        ]

    async def describe_topics(
        self, names: Sequence[str] | None, *, allow_auto_create: bool
    ) -> tuple[list[TopicDescription], dict[str, ClientError]]:
        """One call to any node."""
        if names is not None and not names:
            return [], {}  # to the service, no names mean all topics
        request = topics_pb2.DescribeTopicsRequest(names=names or (), allow_auto_create=allow_auto_create)
        answer = await self.ask_any(lambda node: node.topics.DescribeTopics(request, **self.options()))
        descriptions: list[TopicDescription] = []
        errors: dict[str, ClientError] = {}
        for topic in answer.topics:
            error = error_of(topic)
            if error is None:
                descriptions.append(description_of(topic))
            else:
                errors[topic.name] = error
        return descriptions, errors

    async def init_producer_id(self) -> tuple[int, int]:
        """One call to any node."""
        request = produce_pb2.InitProducerIdRequest()
        answer = await self.ask_any(lambda node: node.produce.InitProducerId(request, **self.options()))
        return answer.producer_id, answer.producer_epoch

    def produce(self, node_id: int, request: ProduceRequest) -> Answer:
        """On the node's one stream."""
        try:
            node = self.node(node_id)
        except ClientError as error:
            answer: Answer = asyncio.get_running_loop().create_future()
            answer.set_exception(error)
            return answer
        link = node.link
        if link is None or link.broken is not None:
            link = node.link = ProduceLink(node.address, lambda: node.produce.ProduceStream(metadata=self._metadata))
        return link.send(request)

    async def fetch(self, node_id: int, request: FetchRequest) -> list[FetchResult]:
        """One call."""
        ids = request.topic_ids or {}
        message = fetch_pb2.FetchRequest(
            max_wait_ms=request.max_wait_ms,
            min_bytes=request.min_bytes,
            max_bytes=request.max_bytes,
            isolation_level=_ISOLATION[request.read_committed],
            format=fetch_pb2.RECORD_FORMAT_BATCHES,
            partitions=[
                fetch_pb2.FetchPartition(
                    topic=topic,
                    partition=partition,
                    fetch_offset=fetch_offset,
                    partition_max_bytes=max_bytes,
                    current_leader_epoch=leader_epoch if leader_epoch >= 0 else None,
                    topic_id=parse_uuid(ids[topic]) if ids.get(topic) else b"",
                )
                for (topic, partition), fetch_offset, max_bytes, leader_epoch in request.partitions
            ],
        )
        node = self.node(node_id)
        timeout = self._timeout + request.max_wait_ms / 1000
        answer = await self.ask(node, node.fetch_batches(message, timeout=timeout, metadata=self._metadata))
        return [
            FetchResult(
                TopicPartition(result.topic, result.partition),
                error_of(result),
                batches,
                result.high_watermark,
                result.last_stable_offset,
                result.log_start_offset,
                [(aborted.producer_id, aborted.first_offset) for aborted in result.aborted_transactions],
            )
            for result, batches in answer
        ]

    async def list_offsets(
        self, node_id: int, timestamps: Mapping[TopicPartition, int], *, read_committed: bool
    ) -> dict[TopicPartition, OffsetAndTimestamp | ClientError]:
        """One call."""
        request = fetch_pb2.ListOffsetsRequest(
            isolation_level=_ISOLATION[read_committed],
            partitions=[
                fetch_pb2.ListOffsetsPartition(topic=topic, partition=partition, timestamp_ms=timestamp)
                for (topic, partition), timestamp in timestamps.items()
            ],
        )
        node = self.node(node_id)
        answer = await self.ask(node, node.fetch.ListOffsets(request, **self.options()))
        return {
            TopicPartition(result.topic, result.partition): error_of(result)
            or OffsetAndTimestamp(result.offset, result.timestamp_ms)
            for result in answer.partitions
        }

    async def create_topics(
        self, topics: Sequence[NewTopic], *, timeout_ms: int, validate_only: bool
    ) -> dict[str, CreatedTopic | ClientError]:
        """One call to any node."""
        request = topics_pb2.CreateTopicsRequest(
            topics=[new_topic(topic) for topic in topics], timeout_ms=timeout_ms, validate_only=validate_only
        )
        answer = await self.ask_any(lambda node: node.topics.CreateTopics(request, **self.options(timeout_ms)))
        return {
            result.name: error_of(result)
            or CreatedTopic(
                name=result.name,
                topic_id=topic_id(result.topic_id),
                num_partitions=result.num_partitions,
                replication_factor=result.replication_factor,
            )
            for result in answer.topics
        }

    async def delete_topics(self, names: Sequence[str], *, timeout_ms: int) -> dict[str, ClientError | None]:
        """One call to any node."""
        request = topics_pb2.DeleteTopicsRequest(names=names, timeout_ms=timeout_ms)
        answer = await self.ask_any(lambda node: node.topics.DeleteTopics(request, **self.options(timeout_ms)))
        return errors_by((result.name, result) for result in answer.topics)

    async def create_partitions(
        self, total_counts: Mapping[str, int], *, timeout_ms: int, validate_only: bool
    ) -> dict[str, ClientError | None]:
        """One call to any node."""
        request = topics_pb2.CreatePartitionsRequest(
            topics=[topics_pb2.NewPartitions(topic=topic, total_count=n) for topic, n in total_counts.items()],
            timeout_ms=timeout_ms,
            validate_only=validate_only,
        )
        answer = await self.ask_any(lambda node: node.topics.CreatePartitions(request, **self.options(timeout_ms)))
        return errors_by((result.topic, result) for result in answer.topics)

    async def delete_records(
        self, node_id: int, before_offsets: Mapping[TopicPartition, int], *, timeout_ms: int
    ) -> dict[TopicPartition, int | ClientError]:
        """One call."""
        request = topics_pb2.DeleteRecordsRequest(
            partitions=[
                topics_pb2.DeleteRecordsPartition(topic=topic, partition=partition, before_offset=offset)
                for (topic, partition), offset in before_offsets.items()
            ],
            timeout_ms=timeout_ms,
        )
        node = self.node(node_id)
        answer = await self.ask(node, node.topics.DeleteRecords(request, **self.options(timeout_ms)))
        return {
            TopicPartition(result.topic, result.partition): error_of(result) or result.low_watermark
            for result in answer.partitions
        }

    async def describe_configs(
        self, resources: Sequence[ConfigResource], *, include_documentation: bool
    ) -> dict[ConfigResource, dict[str, ConfigEntry] | ClientError]:
        """One call to any node."""
        request = configs_pb2.DescribeConfigsRequest(
            resources=[configs_pb2.DescribeConfigsResource(resource=resource_message(it)) for it in resources],
            include_documentation=include_documentation,
        )
        answer = await self.ask_any(lambda node: node.configs.DescribeConfigs(request, **self.options()))
        return {
            resource_of(result.resource): error_of(result) or {entry.key: entry_of(entry) for entry in result.entries}
            for result in answer.resources
        }

    async def alter_configs(
        self, changes: Mapping[ConfigResource, Sequence[ConfigChange]], *, validate_only: bool
    ) -> dict[ConfigResource, ClientError | None]:
        """One call to any node."""
        request = configs_pb2.IncrementalAlterConfigsRequest(
            resources=[
                configs_pb2.AlterConfigsResource(
                    resource=resource_message(resource),
                    configs=[
                        configs_pb2.AlterConfig(
                            key=change.key,
                            operation=configs_pb2.ALTER_CONFIG_OPERATION_DELETE
                            if change.value is None
                            else configs_pb2.ALTER_CONFIG_OPERATION_SET,
                            value=change.value,
                        )
                        for change in changes_of_resource
                    ],
                )
                for resource, changes_of_resource in changes.items()
            ],
            validate_only=validate_only,
        )
        answer = await self.ask_any(lambda node: node.configs.IncrementalAlterConfigs(request, **self.options()))
        return {resource_of(result.resource): error_of(result) for result in answer.resources}

    # -- what calls are made of

    def options(self, timeout_ms: int = 0) -> dict[str, Any]:
        """Of a call that the cluster may take `timeout_ms` for."""
        return {"timeout": self._timeout + timeout_ms / 1000, "metadata": self._metadata}

    def _connection(self, address: str) -> Connection:
        if self._closed:
            raise ClientClosed()
        connection = self._connections.get(address)
        if connection is None:
            connection = self._connections[address] = Connection(address, self._config)
        return connection

    def learn(self, node_id: int, host: str, port: int) -> None:
        """Where a node is, told otherwise than by a description of the cluster."""
        self._nodes[node_id] = f"{host}:{port}"

    def node(self, node_id: int) -> Connection:
        """The connection to a node that the cluster described."""
        address = self._nodes.get(node_id)
        if address is None:
            raise ClientError(ErrorCode.BROKER_NOT_AVAILABLE, f"no address of node {node_id} is known", retriable=True)
        return self._connection(address)

    async def ask(self, node: Connection, call: Awaitable[T]) -> T:
        """The answer of a call to `node`. Raises ClientError."""
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise error_of_status(error, node.address) from None
        except asyncio.CancelledError:
            if self._closed and not _being_cancelled():
                raise ClientClosed() from None  # gRPC cancels the calls of a channel that is closed
            raise

    def ask_elsewhere(self) -> None:
        """The next one in turn."""
        addresses = list(dict.fromkeys((*self._nodes.values(), *self._bootstrap)))
        at = addresses.index(self._any) if self._any in addresses else -1
        self._any = addresses[(at + 1) % len(addresses)]

    async def ask_any(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        """The first node that can be reached answers; the one that answered last is asked first."""
        addresses = list(dict.fromkeys((self._any, *self._nodes.values(), *self._bootstrap)))
        last: ClientError | None = None
        for address in addresses:
            node = self._connection(address)
            try:
                answer = await self.ask(node, call(node))
            except ClientError as error:
                if error.code is not ErrorCode.NETWORK_EXCEPTION or isinstance(error, ClientClosed):
                    raise
                last = error
            else:
                self._any = address
                return answer
        assert last is not None
        raise last


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

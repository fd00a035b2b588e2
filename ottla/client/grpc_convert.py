"""Between the client's types and the messages of `ottla.v1`."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from ottla.client.errors import ClientError
from ottla.client.grpc_channel import error_of_detail
from ottla.client.types import (
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    PartitionDescription,
    ResourceType,
    TopicDescription,
    TopicPartition,
)
from ottla.core.errors import ErrorCode
from ottla.core.types import Uuid, format_uuid
from ottla.v1 import configs_pb2, errors_pb2, replicas_pb2, topics_pb2

_CODES = {int(code): code for code in ErrorCode}


class Result(Protocol):
    """Every result message: it has an `error` where something went wrong."""

    @property
    def error(self) -> errors_pb2.ErrorDetail: ...


R = TypeVar("R", bound=Result)


def error_of(result: Result) -> ClientError | None:
    """The error of a result; None where all is well."""
    return error_of_detail(result.error) if result.error.code else None


def errors_by(results: Iterable[tuple[str, Result]]) -> dict[str, ClientError | None]:
    """The outcome of each item."""
    return {name: error_of(result) for name, result in results}


def topic_id(data: bytes) -> str:
    """Kafka's text form."""
    return format_uuid(Uuid(data))


def partition_of(partition: replicas_pb2.TopicPartition) -> TopicPartition:
    """A partition as the client names it."""
    return TopicPartition(partition.topic, partition.partition)


def partition_message(partition: TopicPartition) -> replicas_pb2.TopicPartition:
    """The reverse of `partition_of`."""
    return replicas_pb2.TopicPartition(topic=partition.topic, partition=partition.partition)


def description_of(topic: topics_pb2.TopicDescription) -> TopicDescription:
    """A topic as the client shows it."""
    return TopicDescription(
        name=topic.name,
        topic_id=topic_id(topic.topic_id),
        internal=topic.internal,
        partitions=tuple(
            PartitionDescription(
                partition=partition.partition,
                leader_id=partition.leader_id,
                leader_epoch=partition.leader_epoch,
                replica_ids=tuple(partition.replica_ids),
                in_sync_replica_ids=tuple(partition.in_sync_replica_ids),
                offline_replica_ids=tuple(partition.offline_replica_ids),
                eligible_leader_replica_ids=tuple(partition.eligible_leader_replica_ids),
                error=_CODES.get(partition.error.code, ErrorCode.UNKNOWN_SERVER_ERROR),
            )
            for partition in topic.partitions
        ),
    )


def new_topic(topic: NewTopic) -> topics_pb2.NewTopic:
    """A topic to create."""
    return topics_pb2.NewTopic(
        name=topic.name,
        num_partitions=topic.num_partitions or 0,
        replication_factor=topic.replication_factor or 0,
        replica_assignments=[
            topics_pb2.NewPartitionReplicas(broker_ids=broker_ids) for broker_ids in topic.replica_assignments or ()
        ],
        configs=dict(topic.configs),
    )


def resource_message(resource: ConfigResource) -> configs_pb2.ConfigResource:
    """What a config belongs to."""
    return configs_pb2.ConfigResource(type=configs_pb2.ResourceType.ValueType(resource.type), name=resource.name)


def resource_of(message: configs_pb2.ConfigResource) -> ConfigResource:
    """The reverse of `resource_message`."""
    return ConfigResource(ResourceType(message.type), message.name)


def entry_of(entry: configs_pb2.ConfigEntry) -> ConfigEntry:
    """A config as the client shows it."""
    return ConfigEntry(
        key=entry.key,
        value=entry.value if entry.HasField("value") else None,
        source=_SOURCES.get(int(entry.source), ConfigSource.UNKNOWN),
        read_only=entry.read_only,
        sensitive=entry.sensitive,
        documentation=entry.documentation if entry.HasField("documentation") else None,
    )


_SOURCES = {int(source): source for source in ConfigSource}

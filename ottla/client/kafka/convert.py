"""Between the client's types and the messages of the Kafka protocol."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from ottla.client.coordination import Outcomes
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import (
    ConfigEntry,
    ConfigSource,
    NewTopic,
    PartitionDescription,
    TopicDescription,
    TopicPartition,
)
from ottla.core.types import format_uuid
from ottla.protocol.messages.create_topics_request import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
)
from ottla.protocol.messages.describe_configs_response import DescribeConfigsResourceResult
from ottla.protocol.messages.metadata_response import MetadataResponseTopic

_CODES = {int(code): code for code in ErrorCode}
_SOURCES = {int(source): source for source in ConfigSource}

T = TypeVar("T")


class _Answered(Protocol):
    """A partition in an answer."""

    partition_index: int
    error_code: int


def code_of(number: int) -> ErrorCode:
    """An error code; those of a later Kafka are UNKNOWN_SERVER_ERROR."""
    return _CODES.get(number, ErrorCode.UNKNOWN_SERVER_ERROR)


def error_of(
    number: int, message: str | None = None, topic: str | None = None, partition: int | None = None
) -> ClientError | None:
    """The error that an answer tells; None where all is well."""
    if number == 0:
        return None
    code = code_of(number)
    if not message and code is ErrorCode.UNKNOWN_SERVER_ERROR and number != code:
        message = f"error {number}"
    return ClientError(code, message or "", topic=topic, partition=partition)


def raise_error(number: int, message: str | None = None) -> None:
    """Raises ClientError unless all is well."""
    error = error_of(number, message)
    if error is not None:
        raise error


def outcomes(answered: Iterable[tuple[str, Iterable[_Answered]]]) -> Outcomes:
    """What became of each partition, by an answer's topics and their partitions."""
    return {
        TopicPartition(topic, one.partition_index): error_of(one.error_code, None, topic, one.partition_index)
        for topic, partitions in answered
        for one in partitions
    }


def by_topic(items: Iterable[tuple[TopicPartition, T]]) -> dict[str, list[tuple[int, T]]]:
    """What belongs to partitions, by topic: as the protocol's messages nest it."""
    topics: dict[str, list[tuple[int, T]]] = {}
    for (topic, partition), item in items:
        topics.setdefault(topic, []).append((partition, item))
    return topics


def description_of(topic: MetadataResponseTopic) -> TopicDescription:
    """A topic as the client shows it."""
    return TopicDescription(
        name=topic.name or "",
        topic_id=format_uuid(topic.topic_id),
        internal=topic.is_internal,
        partitions=tuple(
            PartitionDescription(
                partition=one.partition_index,
                leader_id=one.leader_id,
                leader_epoch=one.leader_epoch,
                replica_ids=tuple(one.replica_nodes),
                in_sync_replica_ids=tuple(one.isr_nodes),
                offline_replica_ids=tuple(one.offline_replicas),
                error=code_of(one.error_code),
            )
            for one in sorted(topic.partitions, key=lambda one: one.partition_index)
        ),
    )


def new_topic(topic: NewTopic) -> CreatableTopic:
    """A topic to create."""
    assigned = topic.replica_assignments
    return CreatableTopic(
        name=topic.name,
        num_partitions=-1 if assigned is not None else topic.num_partitions or -1,
        replication_factor=-1 if assigned is not None else topic.replication_factor or -1,
        assignments=[
            CreatableReplicaAssignment(partition_index=index, broker_ids=list(node_ids))
            for index, node_ids in enumerate(assigned or ())
        ],
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in topic.configs.items()],
    )


def entry_of(entry: DescribeConfigsResourceResult) -> ConfigEntry:
    """A config as the client shows it."""
    return ConfigEntry(
        key=entry.name,
        value=entry.value,
        source=_SOURCES.get(entry.config_source, ConfigSource.UNKNOWN),
        read_only=entry.read_only,
        sensitive=entry.is_sensitive,
        documentation=entry.documentation,
    )

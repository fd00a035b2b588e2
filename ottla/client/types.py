"""What the client's calls take and give: partitions, records and descriptions of the cluster."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

from ottla.core.errors import ErrorCode

K = TypeVar("K")
V = TypeVar("V")

Headers = Sequence[tuple[str, bytes | None]]


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


def several(partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
    """These partitions. Raises TypeError where a list is given for one of them, or one in place of a list."""
    wanted = list(partitions)
    for one in wanted:
        if not isinstance(one, tuple):
            raise TypeError(
                f"{one!r} is no TopicPartition: pause, resume, seek_to_beginning and seek_to_end take partitions one "
                "by one (*partitions), other calls take a list of them"
            )
    return wanted


class RecordMetadata(NamedTuple):
    """Where an acknowledged record is. `offset` is -1 with `acks=0`."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds: the record's own, or the broker's with message.timestamp.type=LogAppendTime


class TimestampType(IntEnum):
    """Who set a record's timestamp."""

    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


class ConsumerRecord(NamedTuple, Generic[K, V]):
    """A record as it was read. A named tuple, because consumers make a great many."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds since 1970
    timestamp_type: TimestampType
    key: K
    value: V
    headers: Headers


class OffsetAndTimestamp(NamedTuple):
    """A record found by its time."""

    offset: int
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the cluster and where its doors of the client's transport are."""

    node_id: int
    host: str
    port: int
    rack: str | None = None
    fenced: bool = False
    """The controller takes it for gone: it leads nothing."""
    stopping: bool = False
    """It hands over what it leads, to stop."""
    replication: str = ""
    """Where other nodes fetch its partitions, `host:port`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDescription:
    """The cluster's id, its active controller (-1: unknown) and its nodes."""

    cluster_id: str
    controller_id: int
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionDescription:
    """A partition's leader (-1: none) and replicas, by node id."""

    partition: int
    leader_id: int
    leader_epoch: int
    replica_ids: tuple[int, ...]
    in_sync_replica_ids: tuple[int, ...]
    offline_replica_ids: tuple[int, ...] = ()
    eligible_leader_replica_ids: tuple[int, ...] = ()
    error: ErrorCode = ErrorCode.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDescription:
    """A topic and its partitions. `topic_id` is in Kafka's text form."""

    name: str
    topic_id: str
    internal: bool
    partitions: tuple[PartitionDescription, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicListing:
    """A topic's name, id and size."""

    name: str
    topic_id: str
    internal: bool
    num_partitions: int


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create. Numbers left out are the cluster's defaults."""

    name: str
    num_partitions: int | None = None
    replication_factor: int | None = None
    configs: Mapping[str, str] = field(default_factory=dict)
    replica_assignments: Sequence[Sequence[int]] | None = None  # node ids by partition, instead of the two numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedTopic:
    """A topic as it was created."""

    name: str
    topic_id: str
    num_partitions: int
    replication_factor: int


class ResourceType(IntEnum):
    """What a config belongs to; the numbers of `ottla.v1.ResourceType`."""

    TOPIC = 1
    BROKER = 2
    BROKER_LOGGER = 3
    GROUP = 4


class ConfigResource(NamedTuple):
    """A topic by name, or a broker by its id in digits ("" is the default of all brokers)."""

    type: ResourceType
    name: str

    @classmethod
    def topic(cls, name: str) -> "ConfigResource":
        """The configs of a topic."""
        return cls(ResourceType.TOPIC, name)

    @classmethod
    def broker(cls, node_id: int | None = None) -> "ConfigResource":
        """The configs of one broker, or the default of all."""
        return cls(ResourceType.BROKER, "" if node_id is None else str(node_id))


class ConfigSource(IntEnum):
    """Where a config's value comes from; the numbers of the protocol."""

    UNKNOWN = 0
    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    DYNAMIC_BROKER_LOGGER = 6
    CLIENT_METRICS = 7
    GROUP = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEntry:
    """One config. `value` is None when it is null or sensitive."""

    key: str
    value: str | None
    source: ConfigSource
    read_only: bool
    sensitive: bool
    documentation: str | None = None

    @property
    def is_default(self) -> bool:
        """Whether nobody set it."""
        return self.source is ConfigSource.DEFAULT

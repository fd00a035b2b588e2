"""The metadata of a cluster as one immutable value.

Every committed batch of records makes a new image that shares all it did not touch with the one before: a topic that
did not change is the identical object, so whatever is derived from a topic can be kept under its identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from ottla.core.types import NodeId, Uuid

NO_LEADER: Final = NodeId(-1)
ALL_BROKERS: Final = ""  # the resource name of cluster-wide broker configs
EMPTY: Final[Mapping[str, str]] = MappingProxyType({})

INTERNAL_TOPICS: Final = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})


class ResourceType(IntEnum):
    """Kafka's numbers of what configs belong to."""

    UNKNOWN = 0
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


@dataclass(frozen=True, slots=True)
class PartitionImage:
    """One partition: who has it, who leads it."""

    index: int
    leader: NodeId  # NO_LEADER: none
    leader_epoch: int
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    partition_epoch: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TopicImage:
    """One topic. Compared by identity: another object means that something changed."""

    name: str
    id: Uuid
    partitions: tuple[PartitionImage, ...] = ()
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where clients reach a broker through one of its listeners."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class BrokerImage:
    """One registered broker."""

    id: NodeId
    epoch: int
    incarnation_id: Uuid
    listeners: Mapping[str, Endpoint]  # by listener name: what clients are told
    rack: str | None = None
    grpc: Endpoint | None = None
    fenced: bool = False


ResourceKey = tuple[ResourceType, str]


@dataclass(frozen=True, slots=True, eq=False)
class MetadataImage:
    """The state after the log's entry `offset`."""

    offset: int = 0
    epoch: int = 0
    topics: Mapping[str, TopicImage] = field(default_factory=dict)
    topics_by_id: Mapping[Uuid, TopicImage] = field(default_factory=dict)
    brokers: Mapping[NodeId, BrokerImage] = field(default_factory=dict)
    resource_configs: Mapping[ResourceKey, Mapping[str, str]] = field(default_factory=dict)
    features: Mapping[str, int] = field(default_factory=dict)
    next_producer_id: int = 0

    def partition(self, topic: str, index: int) -> PartitionImage | None:
        """The partition, or None when there is no such topic or index."""
        image = self.topics.get(topic)
        if image is None or not 0 <= index < len(image.partitions):
            return None
        return image.partitions[index]

    def configs(self, resource_type: ResourceType, name: str) -> Mapping[str, str]:
        """What was set for this very resource; neither defaults nor what it inherits."""
        return self.resource_configs.get((resource_type, name), EMPTY)

    @property
    def partition_count(self) -> int:
        """All partitions of all topics."""
        return sum(len(topic.partitions) for topic in self.topics.values())


@dataclass(frozen=True, slots=True)
class MetadataDelta:
    """What one committed batch (or a snapshot) changed, by name: before and after are in the two images.

    `topics` maps the name of each created, changed or deleted topic to (before, after); a topic that was deleted and
    created again between two images appears with both, under different ids.
    """

    topics: Mapping[str, tuple[TopicImage | None, TopicImage | None]] = field(default_factory=dict)
    brokers: frozenset[NodeId] = frozenset()
    configs: frozenset[ResourceKey] = frozenset()
    features: bool = False

    @property
    def created(self) -> list[TopicImage]:
        """Topics that are new (also under an id that replaces another)."""
        return [new for old, new in self.topics.values() if new is not None and (old is None or old.id != new.id)]

    @property
    def deleted(self) -> list[TopicImage]:
        """Topics that are gone."""
        return [old for old, new in self.topics.values() if old is not None and (new is None or old.id != new.id)]

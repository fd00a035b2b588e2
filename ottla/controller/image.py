"""The metadata of a cluster as one immutable value.

Every committed batch of records makes a new image that shares all it did not touch with the one before: a topic that
did not change is the identical object, so whatever is derived from a topic can be kept under its identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Final, TypeVar, dataclass_transform

from ottla.core.types import ZERO_UUID, NodeId, Uuid

T = TypeVar("T")

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


class LeaderRecovery(IntEnum):
    """Kafka's numbers of what a leader is in: after an unclean election it first has to recover (KIP-704)."""

    RECOVERED = 0
    RECOVERING = 1


@dataclass_transform(frozen_default=True)
def _immutable(cls: type[T]) -> type[T]:
    """A frozen dataclass for the type checker. Freezing at run time would make its instances six times as slow to make,
    and a fence makes ten thousand.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


@dataclass_transform(frozen_default=True, eq_default=False)
def _immutable_identity(cls: type[T]) -> type[T]:
    """Likewise, compared by identity."""
    return dataclass(slots=True, eq=False)(cls)


@_immutable
class PartitionImage:
    """One partition: who has it, who leads it.

    `elr` holds the eligible leader replicas (KIP-966): out of sync, but with every committed record, because nothing is
    committed while the ISR is below `min.insync.replicas`. `last_known_elr` were eligible and then lost records.
    `replicas` are, while a reassignment is under way (KIP-455), its target and after that what is `removing`.
    """

    index: int
    leader: NodeId  # NO_LEADER: none
    leader_epoch: int
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    partition_epoch: int = 0
    elr: tuple[NodeId, ...] = ()
    last_known_elr: tuple[NodeId, ...] = ()
    adding: tuple[NodeId, ...] = ()
    removing: tuple[NodeId, ...] = ()
    recovery: LeaderRecovery = LeaderRecovery.RECOVERED

    @property
    def is_reassigning(self) -> bool:
        """Whether a reassignment is under way."""
        return bool(self.adding or self.removing)

    @property
    def replication_factor(self) -> int:
        """How many replicas there are to be; while they are reassigned, the smaller number of before and after.

        `min.insync.replicas` never asks for more: or else a partition with one replica that moves to another broker
        would take no writes until its copy is complete.
        """
        return len(self.replicas) - max(len(self.adding), len(self.removing))

    @property
    def target_replicas(self) -> tuple[NodeId, ...]:
        """The replicas when the reassignment that is under way, if any, has ended."""
        return tuple(r for r in self.replicas if r not in self.removing) if self.removing else self.replicas


@_immutable_identity
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
    in_controlled_shutdown: bool = False
    directory_id: Uuid = ZERO_UUID  # of its data; ZERO_UUID: not told
    replication: Endpoint | None = None  # where other brokers fetch its partitions
    boot_id: str = ""  # of its operating system; another one means that the page cache is gone
    features: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # what it supports: lowest and highest level
    internal: Endpoint | None = None  # where other nodes reach its part in the quorum

    @property
    def is_active(self) -> bool:
        """Whether it may lead and join ISRs."""
        return not self.fenced and not self.in_controlled_shutdown


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
    last_broker_epoch: int = 0  # the newest that was given out
    default_configs: Mapping[str, str] = field(
        default_factory=dict
    )  # of brokers, where nobody sets them: written when it was founded

    @property
    def active_brokers(self) -> frozenset[NodeId]:
        """Those that may lead and join ISRs."""
        return frozenset(one.id for one in self.brokers.values() if one.is_active)

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
    default_configs: bool = False

    @property
    def created(self) -> list[TopicImage]:
        """Topics that are new (also under an id that replaces another)."""
        return [new for old, new in self.topics.values() if new is not None and (old is None or old.id != new.id)]

    @property
    def deleted(self) -> list[TopicImage]:
        """Topics that are gone."""
        return [old for old, new in self.topics.values() if old is not None and (new is None or old.id != new.id)]

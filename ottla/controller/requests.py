"""What the controller is asked for, and what it answers item by item."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from ottla.controller.image import NO_LEADER, Endpoint, LeaderRecovery, ResourceType
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import ZERO_UUID, NodeId, Uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopic:
    """A topic to create. `-1` partitions or replicas: the cluster's default."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    assignments: Sequence[tuple[int, Sequence[int]]] = ()  # (partition, its replicas); then both counts are -1
    configs: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedTopic:
    """What became of one `NewTopic`."""

    name: str
    error: ApiError | None = None
    id: Uuid = ZERO_UUID
    partitions: int = -1
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)  # as set, without defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRef:
    """A topic by name or by id, whichever is not None."""

    name: str | None = None
    id: Uuid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedTopic:
    """What became of one topic to delete; whichever of name and id is known."""

    name: str | None
    id: Uuid
    error: ApiError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MorePartitions:
    """The number of partitions that a topic is to have."""

    topic: str
    count: int
    assignments: Sequence[Sequence[int]] | None = None  # replicas of each new partition


class ConfigOperation(IntEnum):
    """Kafka's numbers of incremental changes."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """One key of one resource."""

    name: str
    operation: ConfigOperation
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterResource:
    """Changes of the configs of one resource. `replace_all`: what is not named is deleted (the old AlterConfigs)."""

    type: ResourceType
    name: str
    changes: Sequence[ConfigChange]
    replace_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerRegistration:
    """A broker that has started and says where it is reached (KIP-631)."""

    broker_id: NodeId
    incarnation_id: Uuid
    listeners: Mapping[str, Endpoint]
    rack: str | None = None
    grpc: Endpoint | None = None
    replication: Endpoint | None = None
    internal: Endpoint | None = None
    directory_id: Uuid = ZERO_UUID
    boot_id: str = ""
    features: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    previous_broker_epoch: int = 0  # under which this directory was last stopped in order; 0: it was not (KIP-966)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerHeartbeat:
    """What a broker says of itself. `ready`: its partitions are open, it may lead."""

    broker_id: NodeId
    broker_epoch: int
    metadata_offset: int  # up to which its image goes
    ready: bool = True
    truncated: Sequence[tuple[Uuid, int]] = ()  # with `ready`: partitions that lost a part of their log's end
    stop: bool = False  # it wants to stop, and its leaderships to be elsewhere before


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAnswer:
    """`leads` and `offset` are told in a controlled shutdown: how many partitions the broker leads, and the offset at
    which it gave them up, which others must know before it may stop.
    """

    fenced: bool
    in_controlled_shutdown: bool = False
    leads: int = 0
    offset: int = 0

    @property
    def may_stop(self) -> bool:
        """Whether it has nothing to hand over any more (once others have seen `offset`)."""
        return self.in_controlled_shutdown and self.leads == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrChange:
    """A leader's wish for one partition (AlterPartition, KIP-497, KIP-903)."""

    topic_id: Uuid
    partition: int
    leader_epoch: int
    partition_epoch: int
    isr: Sequence[tuple[NodeId, int]]  # (broker, its epoch as the leader knows it; -1: not known)
    recovery: LeaderRecovery = LeaderRecovery.RECOVERED


@dataclass(frozen=True, slots=True, kw_only=True)
class AlteredPartition:
    """What became of one `IsrChange`: an error, or the partition as it is now."""

    topic_id: Uuid
    partition: int
    error: ErrorCode = ErrorCode.NONE
    leader: NodeId = NO_LEADER
    leader_epoch: int = -1
    partition_epoch: int = -1
    isr: Sequence[NodeId] = ()
    recovery: LeaderRecovery = LeaderRecovery.RECOVERED


@dataclass(frozen=True, slots=True, kw_only=True)
class Reassignment:
    """The replicas that one partition is to have; None cancels what is under way (KIP-455)."""

    topic: str
    partition: int
    replicas: Sequence[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OngoingReassignment:
    """One partition that is being moved."""

    topic: str
    partition: int
    replicas: Sequence[NodeId]
    adding: Sequence[NodeId]
    removing: Sequence[NodeId]


class ElectionType(IntEnum):
    """Kafka's numbers of what kind of leader is asked for (KIP-460)."""

    PREFERRED = 0
    UNCLEAN = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionError:
    """What became of one partition of a request; `error` is None when it was done."""

    topic: str
    partition: int
    error: ApiError | None = None


class UpgradeType(IntEnum):
    """Kafka's numbers of how a feature's level may change (KIP-584, KIP-778)."""

    UNKNOWN = 0
    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureUpdate:
    """The level that a feature is to have; 0 removes it."""

    name: str
    level: int
    upgrade_type: UpgradeType = UpgradeType.UPGRADE

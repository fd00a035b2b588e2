"""What the controller is asked for, and what it answers item by item."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from ottla.controller.image import Endpoint, ResourceType
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
    """A broker that has started and says where it is reached."""

    broker_id: NodeId
    incarnation_id: Uuid
    listeners: Mapping[str, Endpoint]
    rack: str | None = None
    grpc: Endpoint | None = None

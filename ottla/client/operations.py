"""What operators ask of a cluster: the types, and the port that a transport implements beside `transport.Transport`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ottla.client.errors import ClientError
from ottla.client.types import TopicPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumMember:
    """A node of the metadata quorum, or one that follows it. `log_end_index` is -1 when it is not known."""

    node_id: int
    directory_id: str  # Kafka's text form
    log_end_index: int
    endpoint: str = ""  # where other nodes reach it


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumDescription:
    """Who votes on the cluster's metadata, and up to where it is committed."""

    leader_id: int
    term: int
    commit_index: int
    voters: tuple[QuorumMember, ...]
    observers: tuple[QuorumMember, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reassignment:
    """A partition whose replicas are being moved."""

    replica_ids: tuple[int, ...]
    adding_replica_ids: tuple[int, ...]
    removing_replica_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaProgress:
    """How far the replicas of a partition are: records that each follower lacks."""

    high_watermark: int
    log_end_offset: int
    lags: Mapping[int, int]  # by node id


class Operations(Protocol):
    """Calls raise `ClientError`."""

    async def describe_quorum(self) -> QuorumDescription: ...
    async def add_voter(self, node_id: int, *, timeout_ms: int) -> None: ...
    async def remove_voter(self, node_id: int) -> None: ...
    async def transfer_leadership(self, leader_id: int, node_id: int) -> None:
        """Asked of the node that leads the quorum now."""

    async def unregister_node(self, node_id: int) -> None: ...
    async def replace_node(self, leader_id: int, node_id: int, *, accept_loss: bool) -> list[TopicPartition]:
        """Asked of the node that leads the quorum now; the partitions whose records are lost."""

    async def alter_reassignments(
        self, replicas: Mapping[TopicPartition, Sequence[int] | None], *, keep_replication_factor: bool
    ) -> dict[TopicPartition, ClientError | None]: ...
    async def list_reassignments(self) -> dict[TopicPartition, Reassignment]: ...
    async def elect_leaders(
        self, partitions: Sequence[TopicPartition] | None, *, unclean: bool
    ) -> dict[TopicPartition, ClientError | None]: ...
    async def describe_replicas(self, node_id: int, topics: Sequence[str]) -> dict[TopicPartition, ReplicaProgress]:
        """Of the partitions that the node leads."""

"""What the cluster's metadata say of replicas, and what replicas ask of the controller: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ottla.core.error_codes import ErrorCode
from ottla.core.types import NodeId, Uuid

NO_LEADER: Final = NodeId(-1)
UNKNOWN_OFFSET: Final = -1

PartitionId = tuple[Uuid, int]
"""Topic id and index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One partition of which this node has a replica, as the metadata image has it."""

    topic: str
    topic_id: Uuid
    index: int
    leader: NodeId  # NO_LEADER: none
    leader_epoch: int
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    partition_epoch: int
    replication_factor: int | None = None  # less than there are replicas while they are reassigned; None: as many
    unclean: bool = False  # elected outside of the ISR: acknowledged records may be gone

    @property
    def id(self) -> PartitionId:
        return self.topic_id, self.index


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A registered broker of the same image."""

    node: NodeId
    broker_epoch: int  # of its registration: another one means that the process was started anew
    host: str = ""  # where it listens for followers
    port: int = 0
    fenced: bool = False


Peers = Mapping[NodeId, Peer]


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrChange:
    """What a leader wants the ISR to be. Applied only if the leader epoch and the partition epoch are still these."""

    leader_epoch: int
    partition_epoch: int
    isr: tuple[tuple[NodeId, int], ...]  # (node, broker epoch under which it caught up; -1: not known) (KIP-903)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterPartition:
    """One entry of an AlterPartition request (KIP-497): `change` of the partition."""

    topic_id: Uuid
    index: int
    change: IsrChange


class Verdict(Enum):
    """What an answer to AlterPartition means for the proposal."""

    REFUSED = "refused"  # it will never be applied
    OUTDATED = "outdated"  # the controller knows something newer, which the metadata will bring
    UNKNOWN = "unknown"  # nobody can say whether it was applied: the same is asked again


_REFUSALS: Final = frozenset(
    {
        ErrorCode.INELIGIBLE_REPLICA,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.OPERATION_NOT_ATTEMPTED,
        ErrorCode.INVALID_REPLICA_ASSIGNMENT,
    }
)
_OUTDATED: Final = frozenset(
    {
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.NEW_LEADER_ELECTED,
    }
)


def verdict(code: ErrorCode) -> Verdict:
    """Of an error that the controller answered."""
    if code in _REFUSALS:
        return Verdict.REFUSED
    return Verdict.OUTDATED if code in _OUTDATED else Verdict.UNKNOWN

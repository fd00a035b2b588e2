"""A member of a consumer group: what it said, and how far it is on its way to its target.

STABLE                 has all that the target of its epoch gives it
UNREVOKED_PARTITIONS   has to give up partitions, and has not said yet that it did
UNRELEASED_PARTITIONS  waits for partitions that others have to give up
UNKNOWN                written by a newer version: it must give up everything and join again
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ottla.coordinators.groups.consumer.assignment import OwnedPartitions
from ottla.core.types import Uuid

JOINING_EPOCH: Final = 0
LEAVING_EPOCH: Final = -1
LEAVING_FOR_A_WHILE_EPOCH: Final = -2  # of a static member, whose partitions wait for it

NOTHING: Final[Mapping[Uuid, Mapping[int, int]]] = {}


class MemberState(IntEnum):
    """The values are those of the records."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2
    UNKNOWN = 127


@dataclass(frozen=True, slots=True)
class ClassicMember:
    """What only a member that speaks the classic protocol has."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerMember:
    """One member, as its records have it. The records of metadata and of assignment may come in any order."""

    member_id: str
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = -1
    subscribed_topics: frozenset[str] = frozenset()
    subscribed_regex: str = ""  # empty: none
    server_assignor: str | None = None
    classic: ClassicMember | None = None

    epoch: int = JOINING_EPOCH
    previous_epoch: int = JOINING_EPOCH
    state: MemberState = MemberState.STABLE
    assigned: OwnedPartitions = field(default_factory=dict)
    pending_revocation: OwnedPartitions = field(default_factory=dict)

    def is_reconciled_to(self, target_epoch: int) -> bool:
        return self.state is MemberState.STABLE and self.epoch == target_epoch

    def assignment_epoch(self, topic_id: Uuid, partition: int) -> int | None:
        """The epoch in which the member got a partition that it still reads; None when it does not."""
        for owned in (self.assigned, self.pending_revocation):
            epoch = owned.get(topic_id, {}).get(partition)
            if epoch is not None:
                return epoch
        return None

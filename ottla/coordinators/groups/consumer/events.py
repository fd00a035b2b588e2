"""What the timers of consumer groups tell their shard."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class ConsumerSessionExpired:
    """No sign of life from a member."""

    group_id: str
    member_id: str


@dataclass(slots=True, frozen=True)
class RevocationOverdue:
    """A member was asked to give partitions up in this epoch, and did not in its rebalance timeout."""

    group_id: str
    member_id: str
    epoch: int


@dataclass(slots=True, frozen=True)
class RefreshExpressions:
    """Topics came or went: look which of them the group's regular expressions match now."""

    group_id: str


@dataclass(slots=True, frozen=True)
class ClassicJoinOverdue:
    """A member with the classic protocol was told to join again, and did not in its rebalance timeout."""

    group_id: str
    member_id: str


@dataclass(slots=True, frozen=True)
class ClassicSyncOverdue:
    """A member with the classic protocol joined, and did not ask for its assignment in its rebalance timeout."""

    group_id: str
    member_id: str


@dataclass(slots=True, frozen=True)
class OnlyClassicLeft:
    """Perhaps all members use the classic protocol: then the group becomes a classic one."""

    group_id: str


@dataclass(slots=True, frozen=True)
class Downgraded:
    """The group has become a classic one, and no member has led its generation."""

    group_id: str


ConsumerGroupEvent = (
    ConsumerSessionExpired
    | RevocationOverdue
    | RefreshExpressions
    | ClassicJoinOverdue
    | ClassicSyncOverdue
    | OnlyClassicLeft
)

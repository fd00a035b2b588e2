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


ConsumerGroupEvent = ConsumerSessionExpired | RevocationOverdue | RefreshExpressions

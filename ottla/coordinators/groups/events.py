"""What the timers of the group coordinator tell its shard."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class SessionExpired:
    """No sign of life from a member, or a member that was given an id did not come back with it."""

    group_id: str
    member_id: str


@dataclass(slots=True, frozen=True)
class Disconnected:
    """A member's connection closed, and it was not heard for so long since (see `presence`)."""

    group_id: str
    member_id: str
    waited_ms: int


@dataclass(slots=True, frozen=True)
class InitialDelayOver:
    """`group.initial.rebalance.delay.ms` is over; `remaining_ms` of the rebalance timeout are left."""

    group_id: str
    delay_ms: int
    remaining_ms: int


@dataclass(slots=True, frozen=True)
class JoinPhaseOver:
    """The rebalance timeout: whoever did not rejoin is out."""

    group_id: str


@dataclass(slots=True, frozen=True)
class SyncPhaseOver:
    """The rebalance timeout after the join phase: whoever did not ask for its assignment is out."""

    group_id: str
    generation_id: int


@dataclass(slots=True, frozen=True)
class RetentionCheck:
    """Look for offsets that have expired."""

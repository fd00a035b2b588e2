"""What an operator may set about groups; the names and defaults are Kafka's unless a reason is given."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfig:
    """Limits and delays of the group coordinator."""

    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_initial_rebalance_delay_ms: int = 100
    """How long a new group waits for more members, and once more while they come. Kafka's default is 3000. Members that
    start together are mostly 100 ms apart, and whoever is too late waits for the others' next heartbeats, 3 s."""
    group_max_size: int = 2_147_483_647
    disconnect_timeout_ms: int = 3_000
    """How long a member whose connection closed may be silent, unless a third of its session is longer; -1: for its
    whole session, as in Kafka. See `presence`."""
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_minutes: int = 10_080
    """Offsets live this long after the group became empty (or, of a simple consumer, after their commit)."""
    offsets_retention_check_interval_ms: int = 600_000

    consumer_session_timeout_ms: int = 45_000
    """Of members that use the consumer group protocol (KIP-848)."""
    consumer_heartbeat_interval_ms: int = 1_000
    """Kafka's default is 5000. A partition changes hands in two heartbeats, that of its owner and that of its heir."""
    consumer_max_size: int = 2_147_483_647
    consumer_assignors: tuple[str, ...] = ("uniform", "range")
    """The first is for groups whose members ask for none."""
    consumer_migration_policy: str = "bidirectional"
    """Whether groups change their protocol with their members: upgrade, downgrade, bidirectional, disabled."""

    @property
    def offsets_retention_ms(self) -> int:
        return self.offsets_retention_minutes * 60_000

"""What may be set of one node's part in a quorum."""

from dataclasses import dataclass

from ottla.raft.core import Config, Member


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftSettings:
    """What may be set of one node's part. The core's own settings are described in `core.raft.Config`."""

    directory: str
    member: Member
    tick_ms: float = 50.0
    """A leader's heartbeat goes out every 4 ticks, an election begins after 10 to 20 of silence: 0.5 to 1 s. A leader
    whose process died is noticed by its connections, within 3 ticks."""
    election_ticks: int = 10
    heartbeat_ticks: int = 4
    """Heartbeats are most of what a group at rest costs: every 4 ticks 0.9 % of a core on the leader and 0.8 % on a
    follower, every 2 ticks 1.5 % and 1.2 % (`python -m bench.raft idle`, on a busy machine)."""
    max_append_bytes: int = 1 << 20
    max_in_flight_bytes: int = 4 << 20
    max_uncommitted_bytes: int = 64 << 20
    chunk_bytes: int = 256 << 10
    kept_entries: int = 1000
    snapshot_after_bytes: int = 4 << 20
    """Entries in the journal before the state is saved and they go; at least twice the size of the last snapshot."""
    segment_bytes: int = 4 << 20
    stalled_after_ms: float = 500.0
    """A leader whose oldest write is older hands over: it could not answer anybody."""

    def core_config(self) -> Config:
        """Raises ValueError for ticks that do not fit together."""
        return Config(
            member=self.member,
            election_ticks=self.election_ticks,
            heartbeat_ticks=self.heartbeat_ticks,
            max_append_bytes=self.max_append_bytes,
            max_in_flight_bytes=self.max_in_flight_bytes,
            max_uncommitted_bytes=self.max_uncommitted_bytes,
            chunk_bytes=self.chunk_bytes,
            kept_entries=self.kept_entries,
        )

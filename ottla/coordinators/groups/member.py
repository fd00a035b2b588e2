"""A member of a classic group."""

from ottla.coordinators.groups.events import SessionExpired
from ottla.coordinators.runtime import Call, TimerKey

Protocols = list[tuple[str, bytes]]


class Member:
    """What a member said when it joined, and the calls that it waits for."""

    __slots__ = (
        "assignment",
        "awaiting_join",
        "awaiting_sync",
        "client_host",
        "client_id",
        "group_id",
        "group_instance_id",
        "is_new",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_event",
        "session_key",
        "session_timeout_ms",
    )

    def __init__(
        self,
        group_id: str,
        member_id: str,
        *,
        group_instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: Protocols,
        assignment: bytes = b"",
    ) -> None:
        self.group_id, self.member_id = group_id, member_id
        self.group_instance_id = group_instance_id
        self.client_id, self.client_host = client_id, client_host
        self.rebalance_timeout_ms, self.session_timeout_ms = rebalance_timeout_ms, session_timeout_ms
        self.protocols = protocols
        """(name, metadata), the preferred one first."""
        self.assignment = assignment
        self.awaiting_join: Call | None = None
        self.awaiting_sync: Call | None = None
        self.is_new = False
        """It never had the answer to a JoinGroup, so it cannot send heartbeats."""
        self.session_key: TimerKey = session_key(group_id, member_id)
        self.session_event = SessionExpired(group_id, member_id)

    def metadata(self, protocol_name: str | None) -> bytes:
        """Its subscription, in the terms of this protocol."""
        return next((metadata for name, metadata in self.protocols if name == protocol_name), b"")

    @property
    def proves_life(self) -> bool:
        """It waits for an answer of the coordinator, and needs no heartbeat meanwhile."""
        return not self.is_new and (self.awaiting_join is not None or self.awaiting_sync is not None)


def session_key(group_id: str, member_id: str) -> TimerKey:
    """The timer that a heartbeat moves."""
    return ("session", group_id, member_id)

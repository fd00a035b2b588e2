"""Which connection each member of a shard was last heard on, and who has been silent since that closed.

A process that dies closes its connections at once: its kernel does it. Kafka's coordinator does not look, so that the
partitions of a killed consumer rest for the whole session. Here a member whose connection closed is given less time:

    classic protocol    a third of its session timeout
    consumer protocol   three heartbeats

or `ottla.group.disconnect.timeout.ms` where that is longer; never more than was left of the session.

One that lives connects again and is heard with its next heartbeat, on whatever connection; then its session is as long
as ever. A third is what a client's `heartbeat.interval.ms` may come to by Kafka's documentation (3 s of 45 by default).
To members of the consumer group protocol the broker says when to speak. There librdkafka may go without a goodbye: it
has none when it is closed before its first heartbeat is answered, and loses it when the last one takes longer than the
interval, upon which it ends the connection.

Why that is safe. To be put out early is no other event than a session that ends: what such a member commits later is
refused, for it is UNKNOWN_MEMBER_ID, upon which every client joins anew. So a wrong guess costs a rebalance, never a
record. Nothing is guessed where it could be wrong more often:

- Static members are left alone; that they may be away for a session is what they are for (KIP-345).
- Who waits for the answer to a JoinGroup or SyncGroup sends no heartbeats, so the rebalance timeout governs, as in
  Kafka. If nobody came back for the answer when it is given, the shorter time begins with it.
- A stopped process keeps its connections, and a cut cable closes none: these are noticed by the session.
- Calls by gRPC say nothing of connections. They count as a sign of life, and the session is whole.
- All this is in no record: the next coordinator begins with whole sessions.
"""

from typing import Final

MemberKey = tuple[str, str]
"""Group id, member id."""

PARTS_OF_A_SESSION: Final = 3
"""How many heartbeats a session has room for, by Kafka's documentation."""

MISSED_HEARTBEATS: Final = 3
"""Of a member that was told when the next one is due."""


class Presence:
    """Of the dynamic members of one shard. With a negative `disconnect_timeout_ms` it takes no notice of anything."""

    def __init__(self, disconnect_timeout_ms: int) -> None:
        self._disconnect_timeout_ms = disconnect_timeout_ms
        self._connections: dict[MemberKey, int] = {}
        self._members: dict[int, set[MemberKey]] = {}
        self._away: set[MemberKey] = set()

    def heard(self, group_id: str, member_id: str, connection: int) -> bool:
        """The member spoke, on this connection (0: none that could be seen to close); whether it had been away."""
        if self._disconnect_timeout_ms < 0:
            return False
        key = group_id, member_id
        if self._connections.get(key, 0) == connection != 0:
            return False
        was_away = key in self._away
        self.forget(group_id, member_id)
        if connection:
            self._connections[key] = connection
            self._members.setdefault(connection, set()).add(key)
        return was_away

    def closed(self, connection: int) -> list[MemberKey]:
        """The members that spoke on it last; they are away from now on."""
        members = sorted(self._members.pop(connection, ()))
        for key in members:
            del self._connections[key]
        self._away.update(members)
        return members

    def forget(self, group_id: str, member_id: str) -> None:
        """The member is gone."""
        key = group_id, member_id
        self._away.discard(key)
        connection = self._connections.pop(key, None)
        if connection is not None:
            members = self._members[connection]
            members.discard(key)
            if not members:
                del self._members[connection]

    def patience_ms(
        self, group_id: str, member_id: str, session_timeout_ms: int, heartbeat_interval_ms: int | None = None
    ) -> int | None:
        """How long to wait for a member that is away; None for one that is not: its session timeout.

        `heartbeat_interval_ms`: what the member was told. None: the session has to tell, as with the classic protocol.
        """
        if (group_id, member_id) not in self._away:
            return None
        if heartbeat_interval_ms is None:
            silence_ms = session_timeout_ms // PARTS_OF_A_SESSION
        else:
            silence_ms = heartbeat_interval_ms * MISSED_HEARTBEATS
        return min(session_timeout_ms, max(silence_ms, self._disconnect_timeout_ms))

"""The timers of members: of their sessions, and of revocations that they owe."""

from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer.events import (
    ClassicJoinOverdue,
    ClassicSyncOverdue,
    ConsumerSessionExpired,
    RevocationOverdue,
)
from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.consumer.member import ConsumerMember, MemberState
from ottla.coordinators.groups.events import Disconnected
from ottla.coordinators.groups.presence import Presence
from ottla.coordinators.runtime import Effects


class MemberTimers:
    """Sets and forgets them. A timer that fires for somebody who is gone, or further, does nothing."""

    def __init__(self, config: GroupConfig, presence: Presence) -> None:
        self._config, self._presence = config, presence
        self._told_to_join: set[tuple[str, str]] = set()

    def heard(self, group_id: str, member: ConsumerMember, connection: int, effects: Effects) -> None:
        """A sign of life, on this connection."""
        if member.instance_id is None:
            self._presence.heard(group_id, member.member_id, connection)
        self.extend_session(group_id, member, effects)

    def extend_session(self, group_id: str, member: ConsumerMember, effects: Effects) -> None:
        """Wait for the next sign of life: a session long, unless its connection has closed."""
        member_id = member.member_id
        patience_ms = self._patience_ms(group_id, member)
        if patience_ms is None:
            event: ConsumerSessionExpired | Disconnected = ConsumerSessionExpired(group_id, member_id)
            effects.set_timer(_session(group_id, member_id), self._session_timeout_ms(member), event)
        else:
            event = Disconnected(group_id, member_id, patience_ms)
            effects.set_timer(_session(group_id, member_id), patience_ms, event)

    def connection_closed(self, group_id: str, member: ConsumerMember, effects: Effects) -> None:
        """The one on which it was last heard."""
        patience_ms = self._patience_ms(group_id, member)
        if patience_ms is not None:
            event = Disconnected(group_id, member.member_id, patience_ms)
            effects.hasten_timer(_session(group_id, member.member_id), patience_ms, event)

    def _patience_ms(self, group_id: str, member: ConsumerMember) -> int | None:
        told_ms = self._config.consumer_heartbeat_interval_ms if member.classic is None else None
        return self._presence.patience_ms(group_id, member.member_id, self._session_timeout_ms(member), told_ms)

    def _session_timeout_ms(self, member: ConsumerMember) -> int:
        if member.classic is not None:
            return member.classic.session_timeout_ms
        return self._config.consumer_session_timeout_ms

    def await_revocation(self, group_id: str, member: ConsumerMember, effects: Effects) -> None:
        """The member has its rebalance timeout to give up what it was asked for."""
        event = RevocationOverdue(group_id, member.member_id, member.epoch)
        effects.set_timer(_revocation(group_id, member.member_id), member.rebalance_timeout_ms, event)

    def revoked(self, group_id: str, member_id: str, effects: Effects) -> None:
        """The member owes nothing."""
        effects.cancel_timer(_revocation(group_id, member_id))

    def await_join(self, group_id: str, member: ConsumerMember, effects: Effects) -> None:
        """A member with the classic protocol is told to join again; telling it again gives it no more time."""
        key = group_id, member.member_id
        if key not in self._told_to_join:
            self._told_to_join.add(key)
            effects.set_timer(_join(*key), member.rebalance_timeout_ms, ClassicJoinOverdue(*key))

    def joined(self, group_id: str, member: ConsumerMember, connection: int, effects: Effects) -> None:
        """It joined, and has to ask for its assignment."""
        key = group_id, member.member_id
        self._told_to_join.discard(key)
        effects.cancel_timer(_join(*key))
        self.heard(group_id, member, connection, effects)
        effects.set_timer(_sync(*key), member.rebalance_timeout_ms, ClassicSyncOverdue(*key))

    def synced(self, group_id: str, member: ConsumerMember, connection: int, effects: Effects) -> None:
        """It asked for its assignment."""
        effects.cancel_timer(_sync(group_id, member.member_id))
        self.heard(group_id, member, connection, effects)

    def cancel(self, group_id: str, member_id: str, effects: Effects) -> None:
        """The member is gone."""
        self._told_to_join.discard((group_id, member_id))
        self._presence.forget(group_id, member_id)
        for key in (_session, _revocation, _join, _sync):
            effects.cancel_timer(key(group_id, member_id))

    def start(self, group: ConsumerGroup, effects: Effects) -> None:
        """All timers of a group anew, as nothing is known of how long they ran: after loading."""
        for member in group.members.values():
            self.extend_session(group.group_id, member, effects)
            if member.classic is None and member.state is MemberState.UNREVOKED_PARTITIONS:
                self.await_revocation(group.group_id, member, effects)
            else:
                self.revoked(group.group_id, member.member_id, effects)


def _session(group_id: str, member_id: str) -> tuple[str, str, str]:
    return "consumer session", group_id, member_id


def _join(group_id: str, member_id: str) -> tuple[str, str, str]:
    return "classic join", group_id, member_id


def _sync(group_id: str, member_id: str) -> tuple[str, str, str]:
    return "classic sync", group_id, member_id


def _revocation(group_id: str, member_id: str) -> tuple[str, str, str]:
    return "revocation", group_id, member_id

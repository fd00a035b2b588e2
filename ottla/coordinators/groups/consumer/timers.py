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
from ottla.coordinators.runtime import Effects


class MemberTimers:
    """Sets and forgets them. A timer that fires for somebody who is gone, or further, does nothing."""

    def __init__(self, config: GroupConfig) -> None:
        self._config = config
        self._told_to_join: set[tuple[str, str]] = set()

    def extend_session(self, group_id: str, member: ConsumerMember, effects: Effects) -> None:
        """A sign of life."""
        timeout_ms = self._config.consumer_session_timeout_ms
        if member.classic is not None:
            timeout_ms = member.classic.session_timeout_ms
        member_id = member.member_id
        effects.set_timer(_session(group_id, member_id), timeout_ms, ConsumerSessionExpired(group_id, member_id))

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

    def joined(self, group_id: str, member: ConsumerMember, effects: Effects) -> None:
        """It joined, and has to ask for its assignment."""
        key = group_id, member.member_id
        self._told_to_join.discard(key)
        effects.cancel_timer(_join(*key))
        self.extend_session(group_id, member, effects)
        effects.set_timer(_sync(*key), member.rebalance_timeout_ms, ClassicSyncOverdue(*key))

    def synced(self, group_id: str, member: ConsumerMember, effects: Effects) -> None:
        """It asked for its assignment."""
        effects.cancel_timer(_sync(group_id, member.member_id))
        self.extend_session(group_id, member, effects)

    def cancel(self, group_id: str, member_id: str, effects: Effects) -> None:
        """The member is gone."""
        self._told_to_join.discard((group_id, member_id))
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

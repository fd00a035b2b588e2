"""The timers of members: of their sessions, and of revocations that they owe."""

from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer.events import ConsumerSessionExpired, RevocationOverdue
from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.consumer.member import ConsumerMember, MemberState
from ottla.coordinators.runtime import Effects


class MemberTimers:
    """Sets and forgets them. A timer that fires for somebody who is gone, or further, does nothing."""

    def __init__(self, config: GroupConfig) -> None:
        self._config = config

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

    def cancel(self, group_id: str, member_id: str, effects: Effects) -> None:
        """The member is gone."""
        effects.cancel_timer(_session(group_id, member_id))
        effects.cancel_timer(_revocation(group_id, member_id))

    def start(self, group: ConsumerGroup, effects: Effects) -> None:
        """All timers of a group anew, as nothing is known of how long they ran: after loading."""
        for member in group.members.values():
            self.extend_session(group.group_id, member, effects)
            if member.state is MemberState.UNREVOKED_PARTITIONS:
                self.await_revocation(group.group_id, member, effects)
            else:
                self.revoked(group.group_id, member.member_id, effects)


def _session(group_id: str, member_id: str) -> tuple[str, str, str]:
    return "consumer session", group_id, member_id


def _revocation(group_id: str, member_id: str) -> tuple[str, str, str]:
    return "revocation", group_id, member_id

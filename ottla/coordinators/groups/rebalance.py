"""The two phases of a rebalance: all members join, then the leader's assignment is spread.

Each function takes a group and the effects of the running operation. Waiting calls are answered through the effects,
and the group's timers are set there.
"""

from ottla.coordinators.groups import answers, records
from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.events import Disconnected, InitialDelayOver, JoinPhaseOver, SyncPhaseOver
from ottla.coordinators.groups.member import Member, session_key
from ottla.coordinators.groups.presence import Presence
from ottla.coordinators.groups.state import GroupState
from ottla.coordinators.runtime import Effects
from ottla.core.error_codes import ErrorCode

NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60_000
"""A new member cannot send heartbeats yet, and while it waits its closed connection counts for nothing; so it may not
wait for ever."""


class Rebalance:
    """The steps of a rebalance, of any group."""

    def __init__(self, config: GroupConfig, presence: Presence) -> None:
        self._config, self._presence = config, presence

    # --- join phase

    def prepare_or_complete(self, group: ClassicGroup, effects: Effects) -> None:
        """Membership changed: begin a rebalance, or go on with the one that is under way."""
        if group.can_rebalance:
            self.prepare(group, effects)
        else:
            self.maybe_complete_join(group, effects)

    def prepare(self, group: ClassicGroup, effects: Effects) -> None:
        """Have all members join again."""
        if group.is_in(GroupState.COMPLETING_REBALANCE):
            self.cancel_sync(group, effects)
        effects.cancel_timer(_sync_key(group))
        initial = group.is_in(GroupState.EMPTY)
        group.transition_to(GroupState.PREPARING_REBALANCE)
        if initial:
            delay_ms = self._config.group_initial_rebalance_delay_ms
            if delay_ms > 0:
                remaining_ms = max(group.rebalance_timeout_ms - delay_ms, 0)
                event = InitialDelayOver(group.group_id, delay_ms, remaining_ms)
                effects.set_timer(_join_key(group), delay_ms, event)
            else:
                self.complete_join(group, effects)
        elif group.all_members_joined:
            self.complete_join(group, effects)
        else:
            self._await_joins(group, effects)

    def initial_delay_over(self, group: ClassicGroup, event: InitialDelayOver, effects: Effects) -> None:
        """Wait once more when somebody came meanwhile, up to the rebalance timeout."""
        if not group.is_in(GroupState.PREPARING_REBALANCE):
            return
        if group.new_member_added and event.remaining_ms > 0:
            group.new_member_added = False
            delay_ms = min(self._config.group_initial_rebalance_delay_ms, event.remaining_ms)
            remaining_ms = max(event.remaining_ms - event.delay_ms, 0)
            effects.set_timer(_join_key(group), delay_ms, InitialDelayOver(group.group_id, delay_ms, remaining_ms))
        else:
            self.complete_join(group, effects)

    def maybe_complete_join(self, group: ClassicGroup, effects: Effects) -> None:
        """Somebody joined or left: that may have been the last one to wait for."""
        initial = group.previous_state is GroupState.EMPTY and self._config.group_initial_rebalance_delay_ms > 0
        if group.is_in(GroupState.PREPARING_REBALANCE) and group.all_members_joined and not initial:
            self.complete_join(group, effects)

    def complete_join(self, group: ClassicGroup, effects: Effects) -> None:
        """Whoever has not joined is out, apart from static members; the others get the next generation."""
        if not group.is_in(GroupState.PREPARING_REBALANCE):
            return
        effects.cancel_timer(_join_key(group))
        for member in list(group.members.values()):
            if member.awaiting_join is None and member.group_instance_id is None:
                self.forget(member, effects)
                group.remove(member.member_id)
        if not group.members:
            effects.append(records.empty_group(group, group.generation_id + 1, effects.now_ms))
            return
        if not group.elect_joined_leader():
            # Only static members are left, and none of them is here. Their sessions decide how long to wait.
            self._await_joins(group, effects)
            return
        group.start_generation()
        event = SyncPhaseOver(group.group_id, group.generation_id)
        effects.set_timer(_sync_key(group), group.rebalance_timeout_ms, event)
        for member in group.members.values():
            response = answers.joined(group, member, with_members=group.is_leader(member.member_id))
            call, member.awaiting_join = member.awaiting_join, None
            if call is not None:
                effects.reply(call, response)
            member.is_new = False
            group.pending_sync.add(member.member_id)
            self.extend_session(member, effects)

    def _await_joins(self, group: ClassicGroup, effects: Effects) -> None:
        effects.set_timer(_join_key(group), group.rebalance_timeout_ms, JoinPhaseOver(group.group_id))

    # --- sync phase

    def spread_assignment(self, group: ClassicGroup, assignments: dict[str, bytes], effects: Effects) -> None:
        """The leader has decided: write it, and answer all who wait for it."""
        effects.append(records.stable_group(group, assignments, effects.now_ms))
        for member in group.members.values():
            call, member.awaiting_sync = member.awaiting_sync, None
            if call is not None:
                effects.reply(call, answers.synced(group, assignments.get(member.member_id, b"")))
                self.extend_session(member, effects)

    def cancel_sync(self, group: ClassicGroup, effects: Effects) -> None:
        """There will be no assignment for this generation."""
        for member in group.members.values():
            call, member.awaiting_sync = member.awaiting_sync, None
            member.assignment = b""
            if call is not None:
                effects.reply(call, answers.sync_refused(ErrorCode.REBALANCE_IN_PROGRESS))
                self.extend_session(member, effects)

    def member_synced(self, group: ClassicGroup, member: Member, effects: Effects) -> None:
        """A member has asked for its assignment."""
        group.pending_sync.discard(member.member_id)
        if not group.pending_sync:
            effects.cancel_timer(_sync_key(group))

    def sync_phase_over(self, group: ClassicGroup, event: SyncPhaseOver, effects: Effects) -> None:
        """Members that joined and never asked for their assignment are out."""
        in_time = group.generation_id != event.generation_id or not group.pending_sync
        if in_time or not group.is_in(GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            return
        for member_id in list(group.pending_sync):
            self.forget(group.members[member_id], effects)
            group.remove(member_id)
        self.prepare(group, effects)

    # --- members

    def heard(self, member: Member, connection: int, effects: Effects) -> None:
        """It spoke on this connection. What it said decides what that means for its session, unless it had been away:
        then that is whole again.
        """
        if member.group_instance_id is None:
            was_away = self._presence.heard(member.group_id, member.member_id, connection)
            if was_away and not member.is_new:
                self.extend_session(member, effects)

    def extend_session(self, member: Member, effects: Effects) -> None:
        """It showed that it lives, or is to show it from now on: sooner where its connection has closed."""
        patience_ms = self._patience_ms(member)
        if patience_ms is None:
            effects.set_timer(member.session_key, member.session_timeout_ms, member.session_event)
        else:
            event = Disconnected(member.group_id, member.member_id, patience_ms)
            effects.set_timer(member.session_key, patience_ms, event)

    def connection_closed(self, member: Member, effects: Effects) -> None:
        """The one on which it was last heard. While it waits for an answer its time does not begin."""
        patience_ms = self._patience_ms(member)
        if patience_ms is not None and member.awaiting_join is None and member.awaiting_sync is None:
            event = Disconnected(member.group_id, member.member_id, patience_ms)
            effects.hasten_timer(member.session_key, patience_ms, event)

    def _patience_ms(self, member: Member) -> int | None:
        return self._presence.patience_ms(member.group_id, member.member_id, member.session_timeout_ms)

    def remove_member(self, group: ClassicGroup, member: Member, effects: Effects) -> None:
        """Without a rebalance, so that several can be removed at once; see `prepare_or_complete`."""
        self.forget(member, effects)
        # A new member may run out of time with its JoinGroup pending. It will come back under a new id.
        if member.awaiting_join is not None:
            effects.reply(member.awaiting_join, answers.join_refused(ErrorCode.UNKNOWN_MEMBER_ID, ""))
            member.awaiting_join = None
        if member.awaiting_sync is not None:
            effects.reply(member.awaiting_sync, answers.sync_refused(ErrorCode.UNKNOWN_MEMBER_ID))
            member.awaiting_sync = None
        group.remove(member.member_id)

    def forget(self, member: Member, effects: Effects) -> None:
        """It is no member any more, so nobody waits for a sign of its life."""
        effects.cancel_timer(member.session_key)
        self._presence.forget(member.group_id, member.member_id)

    def cancel_timers(self, group: ClassicGroup, effects: Effects) -> None:
        """The group goes, or starts over."""
        effects.cancel_timer(_join_key(group))
        effects.cancel_timer(_sync_key(group))
        for member in group.members.values():
            effects.cancel_timer(member.session_key)
        for member_id in group.pending_join:
            effects.cancel_timer(session_key(group.group_id, member_id))


def _join_key(group: ClassicGroup) -> tuple[str, str]:
    return "join", group.group_id


def _sync_key(group: ClassicGroup) -> tuple[str, str]:
    return "sync", group.group_id

"""The two phases of a rebalance: all members join, then the leader's assignment is spread.

Each function takes a group and the effects of the running operation. Waiting calls are answered through the effects,
and the group's timers are set there.
"""

from ottla.coordinators.groups import answers, records
from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.events import InitialDelayOver, JoinPhaseOver, SyncPhaseOver
from ottla.coordinators.groups.member import Member, session_key
from ottla.coordinators.groups.state import GroupState
from ottla.coordinators.runtime import Effects
from ottla.core.error_codes import ErrorCode

NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60_000
"""A new member cannot send heartbeats yet, and its closed connection goes unnoticed; so it may not wait for ever."""


class Rebalance:
    """The steps of a rebalance, of any group."""

    def __init__(self, config: GroupConfig) -> None:
        self._config = config

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
                effects.cancel_timer(member.session_key)
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
            effects.cancel_timer(session_key(group.group_id, member_id))
            group.remove(member_id)
        self.prepare(group, effects)

    # --- members

    def extend_session(self, member: Member, effects: Effects) -> None:
        """A sign of life."""
        effects.set_timer(member.session_key, member.session_timeout_ms, member.session_event)

    def remove_member(self, group: ClassicGroup, member: Member, effects: Effects) -> None:
        """Without a rebalance, so that several can be removed at once; see `prepare_or_complete`."""
        effects.cancel_timer(member.session_key)
        # A new member may run out of time with its JoinGroup pending. It will come back under a new id.
        if member.awaiting_join is not None:
            effects.reply(member.awaiting_join, answers.join_refused(ErrorCode.UNKNOWN_MEMBER_ID, ""))
            member.awaiting_join = None
        if member.awaiting_sync is not None:
            effects.reply(member.awaiting_sync, answers.sync_refused(ErrorCode.UNKNOWN_MEMBER_ID))
            member.awaiting_sync = None
        group.remove(member.member_id)

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

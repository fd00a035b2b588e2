"""JoinGroup: new, pending, known and static members (KIP-394, KIP-345, KIP-814)."""

from dataclasses import dataclass

from ottla.coordinators.groups import answers, records
from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.events import SessionExpired
from ottla.coordinators.groups.member import Member, session_key
from ottla.coordinators.groups.rebalance import NEW_MEMBER_JOIN_TIMEOUT_MS, Rebalance
from ottla.coordinators.groups.state import GroupState
from ottla.coordinators.runtime import Call, Effects
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Random
from ottla.protocol.messages.join_group_request import JoinGroupRequest

MEMBER_ID_REQUIRED_SINCE = 4
SKIP_ASSIGNMENT_SINCE = 9
CLIENT_ID_IN_MEMBER_ID_CHARACTERS = 249
"""Member ids must fit into the group's record, whatever a client calls itself."""


@dataclass(slots=True, frozen=True)
class Caller:
    """Who asks, as far as a group keeps it."""

    client_id: str
    client_host: str
    api_version: int
    connection: int = 0
    """Which of the node's connections this is; 0: none that could be seen to close."""


class Joining:
    """Takes JoinGroup requests. Answers through the effects, now or when the rebalance has come that far."""

    def __init__(self, config: GroupConfig, random: Random, rebalance: Rebalance) -> None:
        self._config, self._random, self._rebalance = config, random, rebalance

    def join(
        self, group: ClassicGroup, request: JoinGroupRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        """Raises ApiError when the caller may not join."""
        if not self._has_room(group, request.member_id):
            group.remove(request.member_id)
            effects.reply(call, answers.join_refused(ErrorCode.GROUP_MAX_SIZE_REACHED, ""))
            return
        if not group.supports(request.protocol_type, [protocol.name for protocol in request.protocols]):
            raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if request.member_id:
            self._join_known(group, request, caller, call, effects)
        elif request.group_instance_id is not None:
            self._join_static(group, request, caller, call, effects)
        else:
            self._join_dynamic(group, request, caller, call, effects)

    def _has_room(self, group: ClassicGroup, member_id: str) -> bool:
        limit = self._config.group_max_size
        if group.is_in(GroupState.EMPTY):
            return True
        member = group.members.get(member_id)
        if group.is_in(GroupState.PREPARING_REBALANCE):
            # Members that do not come back make room, so only those count who are here.
            return (member is not None and member.awaiting_join is not None) or group.awaiting_join_count < limit
        return member is not None or len(group.members) < limit

    # --- new members

    def _join_dynamic(
        self, group: ClassicGroup, request: JoinGroupRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        member_id = self._new_member_id(caller.client_id)
        if caller.api_version < MEMBER_ID_REQUIRED_SINCE:
            self._add(group, member_id, request, caller, call, effects)
            return
        # The member comes back under this id at once. So a client that retries does not leave a member at each try.
        group.pending_join.add(member_id)
        effects.set_timer(
            session_key(group.group_id, member_id),
            request.session_timeout_ms,
            SessionExpired(group.group_id, member_id),
        )
        effects.reply(call, answers.join_refused(ErrorCode.MEMBER_ID_REQUIRED, member_id))

    def _join_static(
        self, group: ClassicGroup, request: JoinGroupRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        assert request.group_instance_id is not None
        member_id = self._new_member_id(request.group_instance_id)
        if request.group_instance_id in group.static_members:
            self._replace_static(group, member_id, request, caller, call, effects)
        else:
            self._add(group, member_id, request, caller, call, effects)

    def _add(
        self,
        group: ClassicGroup,
        member_id: str,
        request: JoinGroupRequest,
        caller: Caller,
        call: Call,
        effects: Effects,
    ) -> None:
        member = new_member(group, member_id, request, caller)
        member.is_new = True
        member.awaiting_join = call
        if group.is_in(GroupState.PREPARING_REBALANCE) and group.previous_state is GroupState.EMPTY:
            group.new_member_added = True
        group.add(member, request.protocol_type)
        self._rebalance.heard(member, caller.connection, effects)
        effects.set_timer(member.session_key, NEW_MEMBER_JOIN_TIMEOUT_MS, member.session_event)
        self._rebalance.prepare_or_complete(group, effects)

    def _new_member_id(self, prefix: str) -> str:
        digits = self._random.randbytes(16).hex()
        unique = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        return f"{prefix[:CLIENT_ID_IN_MEMBER_ID_CHARACTERS]}-{unique}"

    # --- members that have an id

    def _join_known(
        self, group: ClassicGroup, request: JoinGroupRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        member_id = request.member_id
        if member_id in group.pending_join and request.group_instance_id is None:
            group.pending_join.discard(member_id)
            self._add(group, member_id, request, caller, call, effects)
            return
        member = group.validate_member(member_id, request.group_instance_id)
        self._rebalance.heard(member, caller.connection, effects)
        unchanged = member.protocols == protocols_of(request)
        if group.is_in(GroupState.COMPLETING_REBALANCE) and unchanged:
            # It may have missed the answer to its JoinGroup.
            effects.reply(call, answers.joined(group, member, with_members=group.is_leader(member_id)))
        elif group.is_in(GroupState.STABLE) and unchanged and not group.is_leader(member_id):
            effects.reply(call, answers.joined(group, member, with_members=False))
        elif group.is_in(GroupState.EMPTY):
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
        else:
            # Also when a leader rejoins a stable group: it has seen a change, such as new partitions of a topic.
            update_member(member, request, call, effects)
            self._rebalance.prepare_or_complete(group, effects)

    def _replace_static(
        self,
        group: ClassicGroup,
        member_id: str,
        request: JoinGroupRequest,
        caller: Caller,
        call: Call,
        effects: Effects,
    ) -> None:
        """A static member came back without its member id: it takes its own place; whoever still has it is fenced."""
        assert request.group_instance_id is not None
        old = group.members[group.static_members[request.group_instance_id]]
        old_leader_id = group.leader_id
        fence(old, effects)
        effects.cancel_timer(old.session_key)
        member = new_member(group, member_id, request, caller)
        group.replace_static_member(member)
        self._rebalance.extend_session(member, effects)
        if group.is_in(GroupState.STABLE):
            if group.select_protocol() == group.protocol_name:
                self._take_place(group, member, old_leader_id, caller, call, effects)
                return
            member.awaiting_join = call
            self._rebalance.prepare_or_complete(group, effects)
        elif group.is_in(GroupState.COMPLETING_REBALANCE):
            # The leader may be assigning to the old member id.
            member.awaiting_join = call
            self._rebalance.prepare(group, effects)
        else:
            member.awaiting_join = call
            self._rebalance.maybe_complete_join(group, effects)

    def _take_place(
        self,
        group: ClassicGroup,
        member: Member,
        old_leader_id: str | None,
        caller: Caller,
        call: Call,
        effects: Effects,
    ) -> None:
        """Nothing changes for the others: no rebalance, only the new member id is written."""
        assignments = {other.member_id: other.assignment for other in group.members.values()}
        effects.append(records.stable_group(group, assignments, effects.now_ms))
        if caller.api_version >= SKIP_ASSIGNMENT_SINCE:
            is_leader = group.is_leader(member.member_id)
            response = answers.joined(group, member, with_members=is_leader)
            response.skip_assignment = is_leader
        else:
            # An old client that hears that it leads would assign again; its former id keeps it a follower.
            response = answers.joined(group, member, with_members=False)
            response.leader = old_leader_id or ""
        effects.reply(call, response)


def protocols_of(request: JoinGroupRequest) -> list[tuple[str, bytes]]:
    return [(protocol.name, protocol.metadata) for protocol in request.protocols]


def rebalance_timeout_of(request: JoinGroupRequest) -> int:
    """Before version 1 there was only the session timeout."""
    return request.rebalance_timeout_ms if request.rebalance_timeout_ms >= 0 else request.session_timeout_ms


def new_member(group: ClassicGroup, member_id: str, request: JoinGroupRequest, caller: Caller) -> Member:
    return Member(
        group.group_id,
        member_id,
        group_instance_id=request.group_instance_id,
        client_id=caller.client_id,
        client_host=caller.client_host,
        rebalance_timeout_ms=rebalance_timeout_of(request),
        session_timeout_ms=request.session_timeout_ms,
        protocols=protocols_of(request),
    )


def update_member(member: Member, request: JoinGroupRequest, call: Call, effects: Effects) -> None:
    """A member joins again, perhaps with other protocols and timeouts."""
    member.protocols = protocols_of(request)
    member.rebalance_timeout_ms = rebalance_timeout_of(request)
    member.session_timeout_ms = request.session_timeout_ms
    if member.awaiting_join is not None:
        # A retry: only the last call gets the answer, the older one was given up by its client.
        effects.reply(member.awaiting_join, answers.join_refused(ErrorCode.REBALANCE_IN_PROGRESS, member.member_id))
    member.awaiting_join = call


def fence(member: Member, effects: Effects) -> None:
    """Send the calls of a member away whose place is taken."""
    if member.awaiting_join is not None:
        effects.reply(member.awaiting_join, answers.join_refused(ErrorCode.FENCED_INSTANCE_ID, member.member_id))
        member.awaiting_join = None
    if member.awaiting_sync is not None:
        effects.reply(member.awaiting_sync, answers.sync_refused(ErrorCode.FENCED_INSTANCE_ID))
        member.awaiting_sync = None

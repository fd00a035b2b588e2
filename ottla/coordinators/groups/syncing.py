"""SyncGroup, Heartbeat and LeaveGroup: the calls of members of a generation."""

from ottla.coordinators.groups import answers
from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.member import Member, session_key
from ottla.coordinators.groups.rebalance import Rebalance
from ottla.coordinators.groups.state import GroupState
from ottla.coordinators.runtime import Call, Effects
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.leave_group_response import LeaveGroupResponse, MemberResponse
from ottla.protocol.messages.sync_group_request import SyncGroupRequest


class Syncing:
    """Takes these requests. Each method raises ApiError when the caller is not what it says."""

    def __init__(self, rebalance: Rebalance) -> None:
        self._rebalance = rebalance

    def sync(
        self, group: ClassicGroup, request: SyncGroupRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        """A follower's call waits for the leader's; the leader's brings the assignment for all."""
        member = _member_of_generation(group, request.member_id, request.group_instance_id, request.generation_id)
        self._rebalance.heard(member, caller.connection, effects)
        for asked, actual in (
            (request.protocol_type, group.protocol_type),
            (request.protocol_name, group.protocol_name),
        ):
            if asked is not None and asked != actual:
                raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        match group.state:
            case GroupState.PREPARING_REBALANCE:
                raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)
            case GroupState.COMPLETING_REBALANCE:
                if member.awaiting_sync is not None:  # a retry; the client gave the older call up
                    effects.reply(member.awaiting_sync, answers.sync_refused(ErrorCode.REBALANCE_IN_PROGRESS))
                member.awaiting_sync = call
                self._rebalance.member_synced(group, member, effects)
                if group.is_leader(member.member_id):
                    assignments = {given.member_id: given.assignment for given in request.assignments}
                    self._rebalance.spread_assignment(group, assignments, effects)
            case GroupState.STABLE:
                self._rebalance.member_synced(group, member, effects)
                self._rebalance.extend_session(member, effects)
                effects.reply(call, answers.synced(group, member.assignment))
            case GroupState.EMPTY | GroupState.DEAD:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)

    def heartbeat(
        self, group: ClassicGroup, request: HeartbeatRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        """Keeps the session alive; tells of a rebalance."""
        member = _member_of_generation(group, request.member_id, request.group_instance_id, request.generation_id)
        self._rebalance.heard(member, caller.connection, effects)
        self._rebalance.extend_session(member, effects)
        preparing = group.is_in(GroupState.PREPARING_REBALANCE)
        effects.reply(call, answers.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS if preparing else ErrorCode.NONE))

    def leave(self, group: ClassicGroup, request: LeaveGroupRequest, call: Call, effects: Effects) -> None:
        """One rebalance for all who leave together."""
        generation_changes = False
        responses = []
        for identity in request.members or [MemberIdentity(member_id=request.member_id)]:
            try:
                generation_changes |= self._leave_one(group, identity, effects)
                code = ErrorCode.NONE
            except ApiError as error:
                code = error.code
            responses.append(
                MemberResponse(
                    member_id=identity.member_id, group_instance_id=identity.group_instance_id, error_code=code
                )
            )
        if generation_changes:
            self._rebalance.prepare_or_complete(group, effects)
        else:
            self._rebalance.maybe_complete_join(group, effects)
        effects.reply(call, LeaveGroupResponse(members=responses))

    def _leave_one(self, group: ClassicGroup, identity: MemberIdentity, effects: Effects) -> bool:
        """False when it was no more than the promise of a member."""
        member_id, instance_id = identity.member_id, identity.group_instance_id
        if not member_id and instance_id is not None:
            # An administrator removes a static member, whose member id nobody knows.
            member_id = group.static_members.get(instance_id, "")
        if member_id in group.pending_join:
            group.pending_join.discard(member_id)
            effects.cancel_timer(session_key(group.group_id, member_id))
            return False
        member = group.validate_member(member_id, instance_id)
        self._rebalance.remove_member(group, member, effects)
        return True


def _member_of_generation(
    group: ClassicGroup, member_id: str, group_instance_id: str | None, generation_id: int
) -> Member:
    member = group.validate_member(member_id, group_instance_id)
    if generation_id != group.generation_id:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)
    return member

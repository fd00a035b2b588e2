"""Responses of the membership calls, good and bad."""

from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.member import Member
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.heartbeat_response import HeartbeatResponse
from ottla.protocol.messages.join_group_response import JoinGroupResponse, JoinGroupResponseMember
from ottla.protocol.messages.sync_group_response import SyncGroupResponse


def joined(group: ClassicGroup, member: Member, *, with_members: bool) -> JoinGroupResponse:
    """The group's generation, as a member sees it; the leader sees all members."""
    return JoinGroupResponse(
        error_code=ErrorCode.NONE,
        generation_id=group.generation_id,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name or "",
        leader=group.leader_id or "",
        member_id=member.member_id,
        members=group_members(group) if with_members else [],
    )


def group_members(group: ClassicGroup) -> list[JoinGroupResponseMember]:
    """What the leader has to know to assign partitions."""
    return [
        JoinGroupResponseMember(
            member_id=member.member_id,
            group_instance_id=member.group_instance_id,
            metadata=member.metadata(group.protocol_name),
        )
        for member in group.members.values()
    ]


def join_refused(code: ErrorCode, member_id: str) -> JoinGroupResponse:
    """No generation for this caller."""
    return JoinGroupResponse(error_code=code, generation_id=-1, protocol_name="", leader="", member_id=member_id)


def synced(group: ClassicGroup, assignment: bytes) -> SyncGroupResponse:
    """A member's part of the assignment."""
    return SyncGroupResponse(
        error_code=ErrorCode.NONE,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        assignment=assignment,
    )


def sync_refused(code: ErrorCode) -> SyncGroupResponse:
    return SyncGroupResponse(error_code=code)


def heartbeat(code: ErrorCode) -> HeartbeatResponse:
    return HeartbeatResponse(error_code=code)

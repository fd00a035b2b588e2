"""What administrators ask about groups: list, describe."""

from collections.abc import Iterable

from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.state import GroupState
from ottla.core.error_codes import ErrorCode
from ottla.protocol.messages.describe_groups_response import DescribedGroup, DescribedGroupMember
from ottla.protocol.messages.list_groups_response import ListedGroup

CLASSIC_TYPE = "classic"
GROUP_ID_NOT_FOUND_SINCE = 6  # DescribeGroups; before, an unknown group is a dead one
OPERATIONS_NOT_ASKED = -(1 << 31)


def list_groups(groups: Iterable[ClassicGroup], states: list[str], types: list[str]) -> list[ListedGroup]:
    """The groups in one of these states and of one of these types; an empty filter lets all pass."""
    wanted_states = {state.casefold() for state in states}
    if types and CLASSIC_TYPE not in {name.casefold() for name in types}:
        return []
    return [
        ListedGroup(
            group_id=group.group_id,
            protocol_type=group.protocol_type or "",
            group_state=group.state.value,
            group_type="Classic",
        )
        for group in groups
        if not wanted_states or group.state.value.casefold() in wanted_states
    ]


def describe_group(group: ClassicGroup) -> DescribedGroup:
    """Members show their metadata and assignment only in a stable group."""
    stable = group.is_in(GroupState.STABLE)
    return DescribedGroup(
        error_code=ErrorCode.NONE,
        group_id=group.group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol_data=(group.protocol_name or "") if stable else "",
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata(group.protocol_name) if stable else b"",
                member_assignment=member.assignment if stable else b"",
            )
            for member in group.members.values()
        ],
        authorized_operations=OPERATIONS_NOT_ASKED,
    )


def describe_missing(group_id: str, api_version: int) -> DescribedGroup:
    """A group that does not exist."""
    described = describe_refused(group_id, ErrorCode.NONE)
    described.group_state = GroupState.DEAD.value
    if api_version >= GROUP_ID_NOT_FOUND_SINCE:
        described.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        described.error_message = f"Group {group_id} not found."
    return described


def describe_refused(group_id: str, code: ErrorCode) -> DescribedGroup:
    """A group about which nothing can be said here."""
    return DescribedGroup(error_code=code, group_id=group_id, authorized_operations=OPERATIONS_NOT_ASKED)

"""ConsumerGroupDescribe, and what lists show of consumer groups."""

from collections.abc import Iterable, Mapping
from typing import Final

from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.consumer.member import ConsumerMember
from ottla.coordinators.groups.consumer.targets import preferred_assignor
from ottla.coordinators.groups.topics import Topics
from ottla.core.error_codes import ErrorCode
from ottla.core.types import Uuid
from ottla.protocol.messages.consumer_group_describe_response import (
    Assignment,
    DescribedGroup,
    Member,
    TopicPartitions,
)
from ottla.protocol.messages.list_groups_response import ListedGroup

PROTOCOL_TYPE: Final = "consumer"
CLASSIC_MEMBER: Final = 0
CONSUMER_MEMBER: Final = 1


def describe(group: ConsumerGroup, config: GroupConfig, topics: Topics) -> DescribedGroup:
    """All of a group: also in a group that moves, members have an assignment and a target."""
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=preferred_assignor(group.members, config),
        members=[_member(group, member, topics) for member in group.members.values()],
    )


def describe_refused(group_id: str, code: ErrorCode, message: str | None = None) -> DescribedGroup:
    """A group about which nothing can be said here."""
    return DescribedGroup(error_code=code, error_message=message, group_id=group_id)


def listed(groups: Iterable[ConsumerGroup], states: list[str], types: list[str]) -> list[ListedGroup]:
    """The groups in one of these states and of one of these types; an empty filter lets all pass."""
    if types and PROTOCOL_TYPE not in {name.casefold() for name in types}:
        return []
    wanted = {state.casefold() for state in states}
    return [
        ListedGroup(
            group_id=group.group_id, protocol_type=PROTOCOL_TYPE, group_state=group.state, group_type="Consumer"
        )
        for group in groups
        if not wanted or group.state.casefold() in wanted
    ]


def _member(group: ConsumerGroup, member: ConsumerMember, topics: Topics) -> Member:
    return Member(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=sorted(member.subscribed_topics),
        subscribed_topic_regex=member.subscribed_regex or None,
        assignment=_assignment(member.assigned, topics),
        target_assignment=_assignment(group.target(member.member_id), topics),
        member_type=CONSUMER_MEMBER if member.classic is None else CLASSIC_MEMBER,
    )


def _assignment(partitions: Mapping[Uuid, Iterable[int]], topics: Topics) -> Assignment:
    """Without topics that were deleted meanwhile: they have no name."""
    named = ((topic_id, topics.topic_name(topic_id), indices) for topic_id, indices in partitions.items())
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic_id, topic_name=name, partitions=sorted(indices))
            for topic_id, name, indices in named
            if name is not None
        ]
    )

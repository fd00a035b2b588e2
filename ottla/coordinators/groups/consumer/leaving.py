"""How members go: they leave, leave for a while, or are fenced; and how a whole group goes."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from ottla.coordinators.groups.consumer import records
from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.consumer.heartbeat import check_instance, unknown_member
from ottla.coordinators.groups.consumer.member import (
    LEAVING_FOR_A_WHILE_EPOCH,
    NOTHING,
    MemberState,
)
from ottla.coordinators.groups.consumer.targets import NextGroup
from ottla.coordinators.groups.consumer.timers import MemberTimers
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.runtime import CoordinatorRecord, Effects
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from ottla.protocol.messages.consumer_group_heartbeat_response import ConsumerGroupHeartbeatResponse


class Leaving:
    """Takes heartbeats that say goodbye, and removes members."""

    def __init__(self, topics: Topics, timers: MemberTimers) -> None:
        self._topics, self._timers = topics, timers

    def leave(
        self, group: ConsumerGroup, request: ConsumerGroupHeartbeatRequest, effects: Effects
    ) -> ConsumerGroupHeartbeatResponse:
        """Raises ApiError when the caller is not what it says."""
        member = group.members.get(request.member_id)
        if request.instance_id is not None:
            member = group.static_member(request.instance_id)
            if member is None:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {request.instance_id} is unknown.")
            check_instance(member, request.member_id)
        if member is None:
            raise unknown_member(group.group_id, request.member_id)
        if request.member_epoch == LEAVING_FOR_A_WHILE_EPOCH:
            # Its partitions wait for it as long as its session lasts. It reads none of them, so it owes no revocation.
            away = replace(
                member, epoch=LEAVING_FOR_A_WHILE_EPOCH, state=MemberState.STABLE, pending_revocation=NOTHING
            )
            effects.append(records.current_assignment(group.group_id, away))
            self._timers.revoked(group.group_id, member.member_id, effects)
        else:
            self.remove(group, {member.member_id}, effects)
        return ConsumerGroupHeartbeatResponse(member_id=member.member_id, member_epoch=request.member_epoch)

    def remove(self, group: ConsumerGroup, member_ids: Collection[str], effects: Effects) -> None:
        """Members that are gone, or count as gone; the next heartbeat of anybody computes the assignment without them.

        The group's epoch is raised at once, so that nobody takes the present target for the last word.
        """
        group_id = group.group_id
        for member_id in member_ids:
            for tombstone in records.member_tombstones(group_id, member_id):
                effects.append(tombstone)
            self._timers.cancel(group_id, member_id, effects)
        left = {one.member_id: one for one in group.members.values() if one.member_id not in member_ids}
        used = {member.subscribed_regex for member in left.values()}
        for regex in group.expressions:
            if regex not in used:
                effects.append(records.expression_tombstone(group_id, regex))
        NextGroup(group, left, group.expressions, {}).raise_epoch(True, self._topics, effects)


def group_tombstones(group: ConsumerGroup) -> Iterator[CoordinatorRecord]:
    """The end of a group and of all that belongs to it, which is what a compacted log needs to forget it."""
    group_id = group.group_id
    for member_id in {**group.members, **group.targets}:
        yield from records.member_tombstones(group_id, member_id)
    for regex in group.expressions:
        yield records.expression_tombstone(group_id, regex)
    yield records.target_epoch_tombstone(group_id)
    yield records.partition_metadata_tombstone(group_id)
    yield records.group_tombstone(group_id)

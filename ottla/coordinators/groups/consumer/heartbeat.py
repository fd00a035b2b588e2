"""ConsumerGroupHeartbeat of a member that joins or stays: the one call in which everything happens (KIP-848).

1. The member is found or made, and takes over what the request says of it.
2. The group's epoch is raised when that, or the topics, ask for another assignment.
3. The target assignment is computed for a new epoch.
4. The member goes one step towards its target.

Each part writes only what changed. A heartbeat in a settled group writes nothing.
"""

from dataclasses import dataclass, replace
from typing import Final

from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer import records
from ottla.coordinators.groups.consumer.assignment import Assignment, OwnedPartitions, is_subset
from ottla.coordinators.groups.consumer.expressions import Expressions
from ottla.coordinators.groups.consumer.group import ConsumerGroup, ResolvedExpression
from ottla.coordinators.groups.consumer.member import (
    JOINING_EPOCH,
    LEAVING_FOR_A_WHILE_EPOCH,
    NOTHING,
    ConsumerMember,
    MemberState,
)
from ottla.coordinators.groups.consumer.reconciliation import reconcile
from ottla.coordinators.groups.consumer.targets import NextGroup
from ottla.coordinators.groups.consumer.timers import MemberTimers
from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.runtime import Effects
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Random
from ottla.core.types import Uuid, format_uuid
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest, TopicPartitions
from ottla.protocol.messages.consumer_group_heartbeat_response import (
    Assignment as AnsweredAssignment,
)
from ottla.protocol.messages.consumer_group_heartbeat_response import (
    ConsumerGroupHeartbeatResponse,
)
from ottla.protocol.messages.consumer_group_heartbeat_response import (
    TopicPartitions as AnsweredPartitions,
)

HASTE: Final = 4
HASTE_INTERVALS: Final = 2
"""After a change, heartbeats come four times as often as usual, for as long as two of the usual ones take: with the
first, everybody hears of it."""
HASTE_MEMBER_MS: Final = 5
"""But no more than 200 a second of one group: a heartbeat costs the coordinator about 0.24 ms."""


@dataclass(frozen=True, slots=True)
class Found:
    """Who sent a heartbeat."""

    member: ConsumerMember
    """As it is now."""
    is_new: bool = False
    """Its records are still to be written."""
    replaces: ConsumerMember | None = None
    """The static member whose place it takes."""


class Heartbeats:
    """Takes these requests. Raises ApiError before anything has changed."""

    def __init__(
        self, config: GroupConfig, random: Random, topics: Topics, expressions: Expressions, timers: MemberTimers
    ) -> None:
        self._config, self._random, self._topics = config, random, topics
        self._expressions, self._timers = expressions, timers

    def heartbeat(
        self, group: ConsumerGroup, request: ConsumerGroupHeartbeatRequest, caller: Caller, effects: Effects
    ) -> ConsumerGroupHeartbeatResponse:
        """The answer; the group may be one that begins with this request."""
        if request.subscribed_topic_regex:
            self._expressions.check(request.subscribed_topic_regex)
        found = find_member(group, request, self.new_member_id())
        if found.is_new and found.replaces is None and len(group.members) >= self._config.consumer_max_size:
            raise ApiError(
                ErrorCode.GROUP_MAX_SIZE_REACHED,
                f"The consumer group has reached its maximum capacity of {self._config.consumer_max_size} members.",
            )
        told = as_told(found.member, request, caller)
        epoch, target = self.take(group, found, told, effects)
        stepped = self.step(group, told, epoch, target, request.topic_partitions, effects)
        self._timers.heard(group.group_id, stepped, caller.connection, effects)
        full = request.member_epoch == JOINING_EPOCH or (
            request.rebalance_timeout_ms >= 0
            and request.topic_partitions is not None
            and (request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None)
        )
        changed = _partitions(stepped.assigned) != _partitions(found.member.assigned)
        return ConsumerGroupHeartbeatResponse(
            member_id=stepped.member_id,
            member_epoch=stepped.epoch,
            heartbeat_interval_ms=heartbeat_interval_ms(group, self._config, effects.now_ms),
            assignment=answered(stepped.assigned) if full or changed else None,
        )

    def new_member_id(self) -> str:
        return format_uuid(Uuid(self._random.randbytes(16)))

    def _replace(self, group: ConsumerGroup, old: ConsumerMember, new: ConsumerMember, effects: Effects) -> None:
        """A static member came back: it has the target and the partitions of its former self."""
        if old.member_id != new.member_id:
            for tombstone in records.member_tombstones(group.group_id, old.member_id):
                effects.append(tombstone)
            self._timers.cancel(group.group_id, old.member_id, effects)
            effects.append(records.target(group.group_id, new.member_id, group.target(old.member_id)))
        effects.append(records.current_assignment(group.group_id, new))

    # --- the group

    def take(
        self, group: ConsumerGroup, found: Found, told: ConsumerMember, effects: Effects
    ) -> tuple[int, Assignment]:
        """Write what the member said of itself, and what follows for the group; the target's epoch, and its target."""
        before = found.member
        if found.replaces is not None:
            self._replace(group, found.replaces, before, effects)
        resolved = self._resolve(group, before, told, effects)
        if found.is_new or told != before:
            effects.append(records.member(group.group_id, told))
        joins = found.is_new and found.replaces is None
        asks = joins or bool(resolved) or _wishes(told) != _wishes(before)
        old_id = told.member_id if found.replaces is None else found.replaces.member_id
        target = group.target(old_id)
        if not asks and group.metadata_checked and group.epoch <= group.target_epoch:
            return group.target_epoch, target
        members = {one.member_id: one for one in group.members.values() if one.member_id != old_id}
        members[told.member_id] = told
        targets = {member_id: one for member_id, one in group.targets.items() if member_id in members}
        if old_id in group.targets:
            targets[told.member_id] = target
        following = NextGroup(group, members, {**group.expressions, **resolved}, targets)
        if asks or not group.metadata_checked:
            following.raise_epoch(asks, self._topics, effects)
        if following.epoch <= group.target_epoch:
            return group.target_epoch, target
        return following.epoch, following.assign(self._config, self._topics, effects)[told.member_id]

    def _resolve(
        self, group: ConsumerGroup, before: ConsumerMember, told: ConsumerMember, effects: Effects
    ) -> dict[str, ResolvedExpression]:
        """The topics of an expression that is new to the group; one that nobody uses any more is forgotten."""
        group_id, old, new = group.group_id, before.subscribed_regex, told.subscribed_regex
        if old != new and old in group.expressions and not _is_used(group, old, before.member_id):
            effects.append(records.expression_tombstone(group_id, old))
        if not new or new in group.expressions:
            return {}
        names = self._expressions.resolve(new, self._topics.names())
        effects.append(records.expression(group_id, new, names, effects.now_ms))
        return {new: ResolvedExpression(names, effects.now_ms)}

    # --- the member

    def step(
        self,
        group: ConsumerGroup,
        member: ConsumerMember,
        target_epoch: int,
        target: Assignment,
        claimed: list[TopicPartitions] | None,
        effects: Effects,
    ) -> ConsumerMember:
        """One step of reconciliation, written if it changes the member."""
        stepped = reconcile(
            member,
            target_epoch=target_epoch,
            target=target,
            is_free=lambda topic_id, partition: group.is_free(topic_id, partition, member.member_id),
            claimed=claimed,
        )
        if stepped != member:
            effects.append(records.current_assignment(group.group_id, stepped))
            if stepped.classic is None and stepped.state is MemberState.UNREVOKED_PARTITIONS:
                self._timers.await_revocation(group.group_id, stepped, effects)
            else:
                self._timers.revoked(group.group_id, stepped.member_id, effects)
        return stepped


def heartbeat_interval_ms(group: ConsumerGroup, config: GroupConfig, now_ms: int) -> int:
    """When the next heartbeat is due.

    It is sooner for a while after a change of the group: partitions change hands in two heartbeats, of who gives and of
    who gets, and changes seldom come alone. A large group would be too much to hear at that rate.
    """
    usual_ms = config.consumer_heartbeat_interval_ms
    if group.changed_ms is None or not 0 <= now_ms - group.changed_ms < HASTE_INTERVALS * usual_ms:
        return usual_ms
    return min(usual_ms, max(usual_ms // HASTE, len(group.members) * HASTE_MEMBER_MS))


def find_member(group: ConsumerGroup, request: ConsumerGroupHeartbeatRequest, new_member_id: str) -> Found:
    """The member that sends this heartbeat; raises ApiError when it is not what it says."""
    member_id = request.member_id or new_member_id
    joins = request.member_epoch == JOINING_EPOCH
    if request.instance_id is not None:
        return _find_static(group, request, member_id, joins)
    member = group.members.get(member_id)
    if member is None:
        if joins:
            return Found(ConsumerMember(member_id=member_id), is_new=True)
        raise unknown_member(group.group_id, member_id)
    check_epoch(member, request.member_epoch, request.topic_partitions)
    return Found(member)


def _find_static(group: ConsumerGroup, request: ConsumerGroupHeartbeatRequest, member_id: str, joins: bool) -> Found:
    instance_id = request.instance_id
    assert instance_id is not None
    member = group.static_member(instance_id)
    if not joins:
        if member is None:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
        check_instance(member, member_id)
        check_epoch(member, request.member_epoch, request.topic_partitions)
        return Found(member)
    if member is None:
        return Found(ConsumerMember(member_id=member_id), is_new=True)
    away = member.epoch == LEAVING_FOR_A_WHILE_EPOCH
    if not away and member.member_id == member_id:
        return Found(member)  # it joins again, as a dynamic member may
    if not away and member.classic is None:
        raise ApiError(
            ErrorCode.UNRELEASED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} cannot join the group, because the instance id "
            f"is owned by member {member.member_id}.",
        )
    back = replace(
        member,
        member_id=member_id,
        epoch=JOINING_EPOCH,
        previous_epoch=JOINING_EPOCH,
        state=MemberState.STABLE,
        pending_revocation=NOTHING,
    )
    return Found(back, is_new=True, replaces=member)


def check_instance(member: ConsumerMember, member_id: str) -> None:
    """Raises ApiError FENCED_INSTANCE_ID when another member has the place of this static member."""
    if member.member_id != member_id:
        raise ApiError(
            ErrorCode.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {member.instance_id} was fenced by member {member.member_id}.",
        )


def check_epoch(member: ConsumerMember, received: int, claimed: list[TopicPartitions] | None) -> None:
    """Raises ApiError FENCED_MEMBER_EPOCH.

    Its previous epoch is accepted from a member that owns no more than it should: it missed the last answer. Epoch 0 is
    accepted from everybody, and means that the member has given up everything.
    """
    if received == JOINING_EPOCH:
        return
    if member.state is MemberState.UNKNOWN:
        raise ApiError(
            ErrorCode.FENCED_MEMBER_EPOCH,
            "The member is in a state that this version does not know. It must abandon all its partitions and rejoin.",
        )
    if received == member.epoch:
        return
    missed_answer = received == member.previous_epoch and received < member.epoch
    if not missed_answer or not is_subset(claimed, member.assigned):
        relation = "greater" if received > member.epoch else "smaller"
        raise ApiError(
            ErrorCode.FENCED_MEMBER_EPOCH,
            f"The consumer group member has a {relation} member epoch ({received}) than the one known by the group "
            f"coordinator ({member.epoch}). The member must abandon all its partitions and rejoin.",
        )


def unknown_member(group_id: str, member_id: str) -> ApiError:
    return ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group_id}.")


def as_told(member: ConsumerMember, request: ConsumerGroupHeartbeatRequest, caller: Caller) -> ConsumerMember:
    """The member with what it says of itself; what it leaves out is as before."""
    names, regex = request.subscribed_topic_names, request.subscribed_topic_regex
    return replace(
        member,
        instance_id=member.instance_id if request.instance_id is None else request.instance_id,
        rack_id=member.rack_id if request.rack_id is None else request.rack_id,
        rebalance_timeout_ms=(
            member.rebalance_timeout_ms if request.rebalance_timeout_ms < 0 else request.rebalance_timeout_ms
        ),
        server_assignor=member.server_assignor if request.server_assignor is None else request.server_assignor,
        subscribed_topics=member.subscribed_topics if names is None else frozenset(names),
        subscribed_regex=member.subscribed_regex if regex is None else regex,
        client_id=caller.client_id,
        client_host=caller.client_host,
        classic=None,
    )


def answered(assigned: OwnedPartitions) -> AnsweredAssignment:
    """An assignment as the response has it."""
    return AnsweredAssignment(
        topic_partitions=[
            AnsweredPartitions(topic_id=topic_id, partitions=sorted(partitions))
            for topic_id, partitions in assigned.items()
        ]
    )


def _wishes(member: ConsumerMember) -> tuple[frozenset[str], str, str | None]:
    """What the assignment depends on."""
    return member.subscribed_topics, member.subscribed_regex, member.server_assignor


def _is_used(group: ConsumerGroup, regex: str, apart_from: str) -> bool:
    return any(one.subscribed_regex == regex for one in group.members.values() if one.member_id != apart_from)


def _partitions(owned: OwnedPartitions) -> dict[Uuid, frozenset[int]]:
    return {topic_id: frozenset(partitions) for topic_id, partitions in owned.items()}

"""The classic protocol, served from a consumer group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup (KIP-848).

A client that knows only the classic protocol is a member like any other, and its generation is its member epoch. Each
round of JoinGroup and SyncGroup is one step of its reconciliation: it joins with what it still owns, and syncs to learn
what it has now. Heartbeats tell it to come again while there is more to do. The coordinator assigns, so that nobody of
these clients is told to lead.
"""

from dataclasses import replace
from typing import Final

from ottla.coordinators.groups import answers
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer.embedded import Subscription, decode_subscription, encode_assignment
from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.consumer.heartbeat import Found, Heartbeats, check_instance, unknown_member
from ottla.coordinators.groups.consumer.leaving import Leaving
from ottla.coordinators.groups.consumer.member import (
    JOINING_EPOCH,
    NOTHING,
    ClassicMember,
    ConsumerMember,
    MemberState,
)
from ottla.coordinators.groups.consumer.timers import MemberTimers
from ottla.coordinators.groups.joining import (
    MEMBER_ID_REQUIRED_SINCE,
    Caller,
    protocols_of,
    rebalance_timeout_of,
)
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.runtime import Call, Effects
from ottla.core.errors import ApiError, DecodeError, ErrorCode
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.join_group_request import JoinGroupRequest
from ottla.protocol.messages.join_group_response import JoinGroupResponse
from ottla.protocol.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.leave_group_response import LeaveGroupResponse, MemberResponse
from ottla.protocol.messages.sync_group_request import SyncGroupRequest
from ottla.protocol.messages.sync_group_response import SyncGroupResponse

CONSUMER_PROTOCOL_TYPE: Final = "consumer"


class ClassicCalls:
    """Takes these requests. Raises ApiError before anything has changed."""

    def __init__(
        self, config: GroupConfig, topics: Topics, heartbeats: Heartbeats, leaving: Leaving, timers: MemberTimers
    ) -> None:
        self._config, self._topics = config, topics
        self._heartbeats, self._leaving, self._timers = heartbeats, leaving, timers

    # --- JoinGroup

    def join(
        self, group: ConsumerGroup, request: JoinGroupRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        """Answered at once: who joins waits for nobody."""
        protocols = tuple(protocols_of(request))
        if request.protocol_type != CONSUMER_PROTOCOL_TYPE or not _is_supported(group, request.member_id, protocols):
            raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        try:
            subscription = decode_subscription(protocols[0][1], self._topics)
        except DecodeError as error:
            raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, str(error)) from None
        static = request.group_instance_id is not None
        if not request.member_id and not static and caller.api_version >= MEMBER_ID_REQUIRED_SINCE:
            member_id = self._heartbeats.new_member_id()
            effects.reply(call, answers.join_refused(ErrorCode.MEMBER_ID_REQUIRED, member_id))
            return
        found = self._find(group, request)
        if found.is_new and found.replaces is None and len(group.members) >= self._config.consumer_max_size:
            raise ApiError(ErrorCode.GROUP_MAX_SIZE_REACHED)
        told = self._as_told(found.member, request, caller, subscription)
        epoch, target = self._heartbeats.take(group, found, told, effects)
        stepped = self._heartbeats.step(group, told, epoch, target, subscription.owned, effects)
        self._timers.joined(group.group_id, stepped, caller.connection, effects)
        response = JoinGroupResponse(
            generation_id=stepped.epoch,
            protocol_type=CONSUMER_PROTOCOL_TYPE,
            protocol_name=protocols[0][0],
            leader="",
            member_id=stepped.member_id,
        )
        effects.reply(call, response)

    def _find(self, group: ConsumerGroup, request: JoinGroupRequest) -> Found:
        member_id = request.member_id or self._heartbeats.new_member_id()
        if request.group_instance_id is None:
            member = group.members.get(member_id)
            # A member id that is not known was given out a moment ago: nothing is kept of that.
            return Found(member) if member is not None else Found(ConsumerMember(member_id=member_id), is_new=True)
        member = group.static_member(request.group_instance_id)
        if request.member_id:
            if member is None:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
            check_instance(member, request.member_id)
            return Found(member)
        if member is None:
            return Found(ConsumerMember(member_id=member_id), is_new=True)
        # In the classic protocol who comes without a member id takes its place back without asking.
        back = replace(
            member,
            member_id=member_id,
            epoch=JOINING_EPOCH,
            previous_epoch=JOINING_EPOCH,
            state=MemberState.STABLE,
            pending_revocation=NOTHING,
        )
        return Found(back, is_new=True, replaces=member)

    def _as_told(
        self, member: ConsumerMember, request: JoinGroupRequest, caller: Caller, subscription: Subscription
    ) -> ConsumerMember:
        return replace(
            member,
            instance_id=request.group_instance_id,
            rack_id=subscription.rack_id,
            client_id=caller.client_id,
            client_host=caller.client_host,
            rebalance_timeout_ms=rebalance_timeout_of(request),
            subscribed_topics=subscription.topics,
            subscribed_regex="",
            classic=ClassicMember(request.session_timeout_ms, tuple(protocols_of(request))),
        )

    # --- the other calls

    def sync(
        self, group: ConsumerGroup, request: SyncGroupRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        """What the member has now; what it sends as an assignment does not count."""
        member, classic = _member_of_generation(
            group, request.member_id, request.group_instance_id, request.generation_id
        )
        name, metadata = classic.protocols[0]
        if request.protocol_type not in (None, CONSUMER_PROTOCOL_TYPE) or request.protocol_name not in (None, name):
            raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if group.epoch > member.epoch and member.state is not MemberState.UNREVOKED_PARTITIONS:
            self._timers.await_join(group.group_id, member, effects)
            raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)
        self._timers.synced(group.group_id, member, caller.connection, effects)
        version = decode_subscription(metadata, self._topics).version
        response = SyncGroupResponse(
            protocol_type=request.protocol_type,
            protocol_name=request.protocol_name,
            assignment=encode_assignment(member.assigned, version, self._topics),
        )
        effects.reply(call, response)

    def heartbeat(
        self, group: ConsumerGroup, request: HeartbeatRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        """Tells the member to join again when the group moved on, or there is something to give up or to be had."""
        member, _ = _member_of_generation(group, request.member_id, request.group_instance_id, request.generation_id)
        self._timers.heard(group.group_id, member, caller.connection, effects)
        again = (
            member.epoch < group.epoch
            or member.state is MemberState.UNREVOKED_PARTITIONS
            or (member.state is MemberState.UNRELEASED_PARTITIONS and _has_all_to_wait_for(group, member))
        )
        if again:
            self._timers.await_join(group.group_id, member, effects)
        effects.reply(call, answers.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS if again else ErrorCode.NONE))

    def leave(self, group: ConsumerGroup, request: LeaveGroupRequest, call: Call, effects: Effects) -> None:
        """One new epoch for all who leave together."""
        leaving: set[str] = set()
        responses = []
        for identity in request.members or [MemberIdentity(member_id=request.member_id)]:
            code = ErrorCode.NONE
            try:
                leaving.add(_leaver(group, identity))
            except ApiError as error:
                code = error.code
            responses.append(
                MemberResponse(
                    member_id=identity.member_id, group_instance_id=identity.group_instance_id, error_code=code
                )
            )
        if leaving:
            self._leaving.remove(group, leaving, effects)
        effects.reply(call, LeaveGroupResponse(members=responses))


def _is_supported(group: ConsumerGroup, member_id: str, protocols: tuple[tuple[str, bytes], ...]) -> bool:
    """One of the protocols must be everyone's who has any: all of them must be able to be a classic group again."""
    common = {name for name, _ in protocols}
    for member in group.members.values():
        if member.classic is not None and member.member_id != member_id:
            common &= {name for name, _ in member.classic.protocols}
    return bool(common)


def _member_of_generation(
    group: ConsumerGroup, member_id: str, group_instance_id: str | None, generation_id: int
) -> tuple[ConsumerMember, ClassicMember]:
    member = group.members.get(member_id)
    if group_instance_id is not None:
        member = group.static_member(group_instance_id)
        if member is not None:
            check_instance(member, member_id)
    if member is None or member.classic is None:
        raise unknown_member(group.group_id, member_id)
    if generation_id != member.epoch:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)
    return member, member.classic


def _has_all_to_wait_for(group: ConsumerGroup, member: ConsumerMember) -> bool:
    """Whether nothing of its target is in other hands any more."""
    return all(
        group.is_free(topic_id, partition, member.member_id)
        for topic_id, partitions in group.target(member.member_id).items()
        for partition in partitions
    )


def _leaver(group: ConsumerGroup, identity: MemberIdentity) -> str:
    member = group.members.get(identity.member_id)
    if identity.group_instance_id is not None:
        member = group.static_member(identity.group_instance_id)
        if member is not None and identity.member_id:  # an administrator does not know the member id
            check_instance(member, identity.member_id)
    if member is None or member.classic is None:
        raise unknown_member(group.group_id, identity.member_id)
    return member.member_id

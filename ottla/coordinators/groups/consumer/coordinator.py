"""What a shard asks of its consumer groups: the calls of members and administrators, timers, and changes of topics."""

from typing import Final

from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer import describe, migration, records
from ottla.coordinators.groups.consumer.classic_calls import ClassicCalls
from ottla.coordinators.groups.consumer.events import (
    ClassicJoinOverdue,
    ClassicSyncOverdue,
    ConsumerGroupEvent,
    ConsumerSessionExpired,
    Downgraded,
    OnlyClassicLeft,
    RefreshExpressions,
    RevocationOverdue,
)
from ottla.coordinators.groups.consumer.expressions import Expressions
from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.consumer.heartbeat import Heartbeats
from ottla.coordinators.groups.consumer.leaving import Leaving, group_tombstones
from ottla.coordinators.groups.consumer.member import LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH, MemberState
from ottla.coordinators.groups.consumer.store import ConsumerGroups, apply
from ottla.coordinators.groups.consumer.targets import NextGroup
from ottla.coordinators.groups.consumer.timers import MemberTimers
from ottla.coordinators.groups.events import Disconnected
from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.presence import Presence
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.runtime import Call, Effects
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Random
from ottla.protocol.messages.consumer_group_describe_response import DescribedGroup
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from ottla.protocol.messages.consumer_group_heartbeat_response import ConsumerGroupHeartbeatResponse
from ottla.protocol.messages.join_group_request import JoinGroupRequest

REFRESH_DELAY_MS: Final = 100
"""From a change of topics to the look at expressions: topics come in numbers, and one look is enough for all."""


class ConsumerGroupCoordination:
    """The consumer groups of one shard. Operations raise ApiError before they have changed anything."""

    def __init__(
        self,
        config: GroupConfig,
        random: Random,
        topics: Topics,
        presence: Presence,
        expressions: Expressions | None = None,
    ) -> None:
        self._config, self._topics = config, topics
        self._expressions = expressions or Expressions()
        self._timers = MemberTimers(config, presence)
        self._heartbeats = Heartbeats(config, random, topics, self._expressions, self._timers)
        self._leaving = Leaving(topics, self._timers)
        self.classic = ClassicCalls(config, topics, self._heartbeats, self._leaving, self._timers)
        self.store = ConsumerGroups()

    def get(self, group_id: str) -> ConsumerGroup | None:
        return self.store.groups.get(group_id)

    # --- life

    def loaded(self, effects: Effects) -> None:
        """The whole log is replayed."""
        self.store.loaded()
        for group in self.store.groups.values():
            self._timers.start(group, effects)
            self._downgrade_later(group, effects)
            if group.expressions:
                self._refresh_later(group, effects)

    def take_back(self, effects: Effects) -> set[str]:
        """The turn's records could not be appended; the groups that are concerned."""
        concerned = self.store.take_back()
        for group_id in concerned:
            group = self.get(group_id)
            if group is not None:
                self._timers.start(group, effects)
                self._downgrade_later(group, effects)
        return concerned

    def topics_changed(self, effects: Effects) -> None:
        """Topics came, went, or have more partitions: every group looks at its own with its next heartbeat."""
        for group in self.store.groups.values():
            group.metadata_checked = False
            if group.expressions:
                self._refresh_later(group, effects)

    def _refresh_later(self, group: ConsumerGroup, effects: Effects) -> None:
        effects.set_timer(("expressions", group.group_id), REFRESH_DELAY_MS, RefreshExpressions(group.group_id))

    def timer_fired(self, event: ConsumerGroupEvent | Disconnected, effects: Effects) -> None:
        group = self.get(event.group_id)
        if group is None:
            return
        match event:
            case ConsumerSessionExpired(_, member_id) | Disconnected(_, member_id):
                if member_id in group.members:
                    self._leaving.remove(group, {member_id}, effects)
            case RevocationOverdue(_, member_id, epoch):
                member = group.members.get(member_id)
                if member is not None and member.epoch == epoch and member.state is MemberState.UNREVOKED_PARTITIONS:
                    self._leaving.remove(group, {member_id}, effects)
            case RefreshExpressions():
                self._refresh_expressions(group, effects)
            case ClassicJoinOverdue(_, member_id) | ClassicSyncOverdue(_, member_id):
                member = group.members.get(member_id)
                if member is not None and member.classic is not None:
                    self._leaving.remove(group, {member_id}, effects)
            case OnlyClassicLeft():
                if migration.may_downgrade(group, self._config):
                    for record in migration.downgraded(group, self._topics, effects.now_ms):
                        effects.append(record)
                    for member_id in group.members:
                        self._timers.cancel(group.group_id, member_id, effects)
                    effects.set_timer(("downgraded", group.group_id), 0, Downgraded(group.group_id))
                return
        self._downgrade_later(group, effects)

    # --- members

    def connection_closed(self, group: ConsumerGroup, member_id: str, effects: Effects) -> None:
        """The one on which this member was last heard."""
        self._timers.connection_closed(group.group_id, group.members[member_id], effects)

    def heartbeat(
        self, group: ConsumerGroup, request: ConsumerGroupHeartbeatRequest, caller: Caller, effects: Effects
    ) -> ConsumerGroupHeartbeatResponse:
        """Of one who joins, stays or leaves; `group` may be one that is not there yet."""
        if request.member_epoch in (LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH):
            response = self._leaving.leave(group, request, effects)
            self._downgrade_later(group, effects)
            return response
        return self._heartbeats.heartbeat(group, request, caller, effects)

    def join_classic(
        self, group: ConsumerGroup, request: JoinGroupRequest, caller: Caller, call: Call, effects: Effects
    ) -> None:
        """A member with the classic protocol joins a group that has members."""
        self.classic.join(group, request, caller, call, effects)
        _look_for_downgrade(group, effects)  # it may have taken the place of a static member

    def upgrade(
        self, former: ClassicGroup, request: ConsumerGroupHeartbeatRequest, caller: Caller, effects: Effects
    ) -> ConsumerGroupHeartbeatResponse:
        """The first member of this protocol joins a classic group with members. Raises ApiError as `heartbeat`."""
        if not migration.may_upgrade(former, self._config):
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {former.group_id} is not a consumer group.")
        group = ConsumerGroup(former.group_id)
        converted = migration.upgraded(former, self._topics, effects.now_ms)
        for record in converted:
            apply(group, record.key, record.value)
        response = self._heartbeats.heartbeat(group, request, caller, effects)
        effects.records[:0] = converted
        for member in group.members.values():
            self._timers.extend_session(group.group_id, member, effects)
        return response

    def _downgrade_later(self, group: ConsumerGroup, effects: Effects) -> None:
        """When the records of the running operation are replayed, perhaps only classic members are left."""
        if any(member.classic is not None for member in group.members.values()):
            _look_for_downgrade(group, effects)

    def _refresh_expressions(self, group: ConsumerGroup, effects: Effects) -> None:
        names = list(self._topics.names())
        resolved = dict(group.expressions)
        for regex, before in group.expressions.items():
            try:
                topics = self._expressions.resolve(regex, names)
            except ApiError:
                continue  # this broker has no RE2, or another one: what a former coordinator found still holds
            if topics != before.topics:
                resolved[regex] = type(before)(topics, effects.now_ms)
                effects.append(records.expression(group.group_id, regex, topics, effects.now_ms))
        if resolved != group.expressions:
            NextGroup(group, group.members, resolved, group.targets).raise_epoch(True, self._topics, effects)

    # --- administration

    def describe(self, group_id: str) -> DescribedGroup:
        """Raises ApiError GROUP_ID_NOT_FOUND."""
        group = self.get(group_id)
        if group is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        return describe.describe(group, self._config, self._topics)

    def delete(self, group: ConsumerGroup, effects: Effects) -> None:
        """A group without members."""
        for tombstone in group_tombstones(group):
            effects.append(tombstone)


def _look_for_downgrade(group: ConsumerGroup, effects: Effects) -> None:
    effects.set_timer(("only classic", group.group_id), 0, OnlyClassicLeft(group.group_id))

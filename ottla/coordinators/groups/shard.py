"""The groups whose ids fall on one partition of `__consumer_offsets`.

Everything that the log holds is changed by `replay`; the calls of members move the volatile part of their group at
once. When a turn's records cannot be appended, offsets get their former values back, and each group that the turn
concerned starts over from its last written generation, exactly as after loading: its waiting calls get the error, and
its members rejoin. So a failed append needs no code of its own in the state machine.
"""

from collections.abc import Callable, Iterator

from ottla.coordinators.groups import admin, committing, records, transactional
from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer import describe
from ottla.coordinators.groups.consumer.coordinator import ConsumerGroupCoordination
from ottla.coordinators.groups.consumer.events import (
    ClassicJoinOverdue,
    ClassicSyncOverdue,
    ConsumerSessionExpired,
    Downgraded,
    OnlyClassicLeft,
    RefreshExpressions,
    RevocationOverdue,
)
from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.consumer.member import JOINING_EPOCH
from ottla.coordinators.groups.consumer.offsets import (
    check_commit,
    check_fetch,
    check_transactional_commit,
    expired_entries,
)
from ottla.coordinators.groups.consumer.records import KEYS as CONSUMER_GROUP_KEYS
from ottla.coordinators.groups.events import (
    Disconnected,
    InitialDelayOver,
    JoinPhaseOver,
    RetentionCheck,
    SessionExpired,
    SyncPhaseOver,
)
from ottla.coordinators.groups.joining import Caller, Joining
from ottla.coordinators.groups.offsets import OffsetStore, expired_offsets
from ottla.coordinators.groups.pending_offsets import PendingOffsets
from ottla.coordinators.groups.presence import Presence
from ottla.coordinators.groups.rebalance import Rebalance
from ottla.coordinators.groups.state import GroupState
from ottla.coordinators.groups.syncing import Syncing
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.runtime import Call, CoordinatorRecord, Effects, ProducerIdentity
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Random
from ottla.protocol.messages.consumer_group_describe_response import DescribedGroup as DescribedConsumerGroup
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from ottla.protocol.messages.consumer_group_heartbeat_response import ConsumerGroupHeartbeatResponse
from ottla.protocol.messages.describe_groups_response import DescribedGroup
from ottla.protocol.messages.group_metadata_key import GroupMetadataKey
from ottla.protocol.messages.group_metadata_value import GroupMetadataValue
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.join_group_request import JoinGroupRequest
from ottla.protocol.messages.leave_group_request import LeaveGroupRequest
from ottla.protocol.messages.list_groups_response import ListedGroup
from ottla.protocol.messages.offset_commit_key import OffsetCommitKey
from ottla.protocol.messages.offset_commit_request import OffsetCommitRequest
from ottla.protocol.messages.offset_delete_request import OffsetDeleteRequest
from ottla.protocol.messages.offset_fetch_request import OffsetFetchRequestGroup
from ottla.protocol.messages.offset_fetch_response import OffsetFetchResponseGroup
from ottla.protocol.messages.sync_group_request import SyncGroupRequest
from ottla.protocol.messages.txn_offset_commit_request import TxnOffsetCommitRequest

RETENTION_TIMER = ("retention",)
OFFSETS_IN_A_RETENTION_SLICE = 250
NOTHING_PENDING = PendingOffsets()
"""For readers who take an offset that may change soon (KIP-447)."""


class GroupShard:
    """One shard. Operations raise ApiError before they have changed anything."""

    def __init__(
        self, config: GroupConfig, random: Random, topics: Topics, disconnected: Callable[[Disconnected], object]
    ) -> None:
        """`disconnected` is told of members that are out for that reason."""
        self._config, self._topics, self._tell_disconnected = config, topics, disconnected
        self._presence = Presence(config.disconnect_timeout_ms)
        self._rebalance = Rebalance(config, self._presence)
        self._joining = Joining(config, random, self._rebalance)
        self._syncing = Syncing(self._rebalance)
        self.groups: dict[str, ClassicGroup] = {}
        self.consumers = ConsumerGroupCoordination(config, random, topics, self._presence)
        self.offsets = OffsetStore()
        self.pending = PendingOffsets()
        self._replaced: dict[str, GroupMetadataValue | None] = {}
        """The generation that each group had before this turn."""
        self._retention: Iterator[str] | None = None  # what a look that has begun has left

    # --- the log

    def replay(self, record: CoordinatorRecord) -> None:
        key, value = record.key, record.value
        if isinstance(key, OffsetCommitKey):
            self.offsets.replay(key.group, key.topic, key.partition, value)
            if value is not None:
                self.pending.committed_beside(key.group, key.topic, key.partition)
                if key.group not in self.groups:
                    self._settle_existence(key.group)
            else:
                self.pending.deleted(key.group, key.topic, key.partition)
                self._settle_existence(key.group)
        elif isinstance(key, GroupMetadataKey):
            self._replay_generation(key.group, value)
        elif isinstance(key, CONSUMER_GROUP_KEYS):
            self._settle_existence(self.consumers.store.replay(key, value))
        else:
            raise TypeError(f"not a record of a group: {type(key).__name__}")

    def replay_pending(self, producer: ProducerIdentity, record: CoordinatorRecord) -> None:
        key, value = record.key, record.value
        if not isinstance(key, OffsetCommitKey) or value is None:
            raise TypeError(f"not an offset of a transaction: {type(key).__name__}")
        self.pending.replay(producer, key.group, key.topic, key.partition, value)
        self._settle_existence(key.group)

    def replay_end_transaction(self, producer_id: int, committed: bool) -> None:
        visible, concerned = self.pending.end(producer_id, committed)
        for (group_id, topic, partition), value in visible:
            self.offsets.put(group_id, topic, partition, value)
        for group_id in concerned:
            self._drop_if_nothing(group_id)

    def _replay_generation(self, group_id: str, value: GroupMetadataValue | None) -> None:
        if value is None and group_id not in self.groups:
            return
        group = self._obtain(group_id)
        self._replaced.setdefault(group_id, group.written)
        if value is not None:
            group.replay(value)
            return
        group.transition_to(GroupState.DEAD)
        del self.groups[group_id]
        self._settle_existence(group_id)

    def turn_written(self) -> None:
        self._replaced.clear()
        self.offsets.turn_written()
        self.pending.turn_written()
        self.consumers.store.turn_written()

    def turn_failed(self, error: ApiError, effects: Effects) -> None:
        concerned = self.offsets.take_back() | self.pending.take_back() | self.consumers.take_back(effects)
        replaced, self._replaced = self._replaced, {}
        for group_id in concerned & self.groups.keys():
            if self.consumers.get(group_id) is not None:
                replaced.setdefault(group_id, None)  # was to take the place of the consumer group that is back
        for group_id, written in replaced.items():
            group = self.groups.pop(group_id, None)
            if group is not None:
                self._rebalance.cancel_timers(group, effects)
                _send_away(group, error, effects)
            if written is not None:
                group = self._obtain(group_id)
                group.replay(written)
                for member in group.members.values():
                    self._rebalance.extend_session(member, effects)
        for group_id in concerned | replaced.keys():
            self._settle_existence(group_id)

    def loaded(self, effects: Effects) -> None:
        for group in self.groups.values():
            for member in group.members.values():
                self._rebalance.extend_session(member, effects)
            if len(group.members) > self._config.group_max_size:
                self._rebalance.prepare(group, effects)
            else:
                self._lead_by_somebody(group, effects)
        self.consumers.loaded(effects)
        self._await_retention_check(effects)

    def unloaded(self, error: ApiError, effects: Effects) -> None:
        for group in self.groups.values():
            _send_away(group, error, effects)

    def timer_fired(self, event: object, effects: Effects) -> None:
        match event:
            case RetentionCheck():
                self._retention_check(effects)
            case SessionExpired(group_id, member_id):
                if group_id in self.groups:
                    self._session_expired(self.groups[group_id], member_id, effects)
            case Disconnected():
                self._disconnected(event, effects)
            case JoinPhaseOver(group_id):
                if group_id in self.groups:
                    self._rebalance.complete_join(self.groups[group_id], effects)
            case InitialDelayOver(group_id):
                if group_id in self.groups:
                    self._rebalance.initial_delay_over(self.groups[group_id], event, effects)
            case SyncPhaseOver(group_id):
                if group_id in self.groups:
                    self._rebalance.sync_phase_over(self.groups[group_id], event, effects)
            case Downgraded(group_id):
                if group_id in self.groups:
                    self._lead_by_somebody(self.groups[group_id], effects)
            case ConsumerSessionExpired() | RevocationOverdue() | RefreshExpressions():
                self.consumers.timer_fired(event, effects)
            case ClassicJoinOverdue() | ClassicSyncOverdue() | OnlyClassicLeft():
                self.consumers.timer_fired(event, effects)
            case _:
                raise TypeError(f"not a timer of a group: {event!r}")

    # --- members

    def join(self, request: JoinGroupRequest, caller: Caller, call: Call, effects: Effects) -> None:
        group = self.groups.get(request.group_id)
        if group is None:
            consumers = self.consumers.get(request.group_id)
            if consumers is not None and consumers.members:
                self.consumers.join_classic(consumers, request, caller, call, effects)
                return
            if request.member_id:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
            group = ClassicGroup(request.group_id)
            self._joining.join(group, request, caller, call, effects)
            self.groups[request.group_id] = group
            if consumers is not None:
                self.consumers.delete(consumers, effects)
        else:
            self._joining.join(group, request, caller, call, effects)

    def sync(self, request: SyncGroupRequest, caller: Caller, call: Call, effects: Effects) -> None:
        consumers = self.consumers.get(request.group_id)
        if consumers is not None:
            self.consumers.classic.sync(consumers, request, caller, call, effects)
        else:
            self._syncing.sync(self._member_group(request.group_id), request, caller, call, effects)

    def heartbeat(self, request: HeartbeatRequest, caller: Caller, call: Call, effects: Effects) -> None:
        consumers = self.consumers.get(request.group_id)
        if consumers is not None:
            self.consumers.classic.heartbeat(consumers, request, caller, call, effects)
        else:
            self._syncing.heartbeat(self._member_group(request.group_id), request, caller, call, effects)

    def leave(self, request: LeaveGroupRequest, call: Call, effects: Effects) -> None:
        consumers = self.consumers.get(request.group_id)
        if consumers is not None:
            self.consumers.classic.leave(consumers, request, call, effects)
            return
        # A group that is not here has none of these members, as an empty one.
        group = self.groups.get(request.group_id) or ClassicGroup(request.group_id)
        self._syncing.leave(group, request, call, effects)
        self._drop_if_nothing(request.group_id)

    def connection_closed(self, connection: int, effects: Effects) -> None:
        """The members that were heard on it last have less time to show that they live."""
        for group_id, member_id in self._presence.closed(connection):
            group, consumers = self.groups.get(group_id), self.consumers.get(group_id)
            if consumers is not None and member_id in consumers.members:
                self.consumers.connection_closed(consumers, member_id, effects)
            elif group is not None and member_id in group.members:
                self._rebalance.connection_closed(group.members[member_id], effects)
            else:
                self._presence.forget(group_id, member_id)

    def _disconnected(self, event: Disconnected, effects: Effects) -> None:
        group, consumers = self.groups.get(event.group_id), self.consumers.get(event.group_id)
        if consumers is not None and event.member_id in consumers.members:
            self.consumers.timer_fired(event, effects)
        elif group is not None and event.member_id in group.members and not group.members[event.member_id].proves_life:
            self._session_expired(group, event.member_id, effects)
        else:
            return
        self._tell_disconnected(event)

    def _session_expired(self, group: ClassicGroup, member_id: str, effects: Effects) -> None:
        if member_id in group.pending_join:
            group.pending_join.discard(member_id)
            self._rebalance.maybe_complete_join(group, effects)
            self._drop_if_nothing(group.group_id)
            return
        member = group.members.get(member_id)
        if member is not None and not member.proves_life:
            self._rebalance.remove_member(group, member, effects)
            self._rebalance.prepare_or_complete(group, effects)

    def _lead_by_somebody(self, group: ClassicGroup, effects: Effects) -> None:
        """A generation without a leader was a consumer group's: its members have to assign what others left."""
        if group.members and group.leader_id is None and group.is_in(GroupState.STABLE):
            for member in group.members.values():
                self._rebalance.extend_session(member, effects)
            self._rebalance.prepare(group, effects)

    def _member_group(self, group_id: str) -> ClassicGroup:
        group = self.groups.get(group_id)
        if group is None:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
        return group

    def consumer_heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, caller: Caller, effects: Effects
    ) -> ConsumerGroupHeartbeatResponse:
        group = self.consumers.get(request.group_id)
        if group is not None:
            return self.consumers.heartbeat(group, request, caller, effects)
        if request.member_epoch != JOINING_EPOCH:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {request.group_id} not found.")
        former = self.groups.get(request.group_id)
        if former is not None and former.members:
            response = self.consumers.upgrade(former, request, caller, effects)
        else:
            response = self.consumers.heartbeat(ConsumerGroup(request.group_id), request, caller, effects)
        if former is not None:
            effects.records.insert(0, records.group_tombstone(former.group_id))
            self._rebalance.cancel_timers(former, effects)
            _send_away(former, ApiError(ErrorCode.REBALANCE_IN_PROGRESS), effects)
        return response

    # --- offsets

    def commit(self, request: OffsetCommitRequest, caller: Caller, call: Call, effects: Effects) -> None:
        consumers = self.consumers.get(request.group_id)
        if consumers is not None:
            check_commit(consumers, request, caller.api_version, self._topics)
        else:
            member = committing.committing_member(self.groups.get(request.group_id), request, caller.api_version)
            if member is not None:
                self._rebalance.heard(member, caller.connection, effects)
                self._rebalance.extend_session(member, effects)  # as good as a heartbeat
        effects.reply(call, committing.commit(request, caller.api_version, self._topics, self._config, effects))

    def commit_transactional(self, request: TxnOffsetCommitRequest, call: Call, effects: Effects) -> None:
        consumers = self.consumers.get(request.group_id)
        if consumers is not None:
            check_transactional_commit(consumers, request, self._topics)
        else:
            transactional.check_committer(self.groups.get(request.group_id), request)
        effects.reply(call, transactional.commit(request, self._topics, self._config, effects))

    def fetch(
        self, request: OffsetFetchRequestGroup, api_version: int, require_stable: bool
    ) -> OffsetFetchResponseGroup:
        consumers = self.consumers.get(request.group_id)
        if consumers is not None:
            check_fetch(consumers, request, api_version)
        unstable = self.pending if require_stable else NOTHING_PENDING
        return committing.fetch(request, api_version, self.offsets, unstable, self._topics)

    def delete_offsets(self, request: OffsetDeleteRequest, call: Call, effects: Effects) -> None:
        group = self.groups.get(request.group_id)
        consumers = self.consumers.get(request.group_id)
        if consumers is not None:
            subscribed = consumers.subscribed_topics()
        elif group is not None:
            subscribed = committing.subscribed_topics(group)
        else:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND)
        response = committing.delete_offsets(subscribed, request, self.offsets, self.pending, self._topics, effects)
        effects.reply(call, response)

    def topic_deleted(self, topic: str, effects: Effects) -> None:
        """Its offsets mean nothing any more; they would be wrong for a new topic of this name."""
        effects.atomic = False
        for group_id in {*self.offsets.groups_of_topic(topic), *self.pending.groups_of_topic(topic)}:
            self._end_offsets(group_id, topic, effects)

    def _end_offsets(self, group_id: str, topic: str | None, effects: Effects) -> None:
        """Of a group in one topic or in all, the pending ones too: they must not come back with their transaction."""
        for tombstone in self.offsets.tombstones(group_id, topic):
            effects.append(tombstone)
        for name, partition in self.pending.places(group_id):
            if (topic is None or name == topic) and not self.offsets.has_at(group_id, name, partition):
                effects.append(records.offset_tombstone(group_id, name, partition))

    # --- administration

    def list_groups(self, states: list[str], types: list[str]) -> list[ListedGroup]:
        return [
            *admin.list_groups(self.groups.values(), states, types),
            *describe.listed(self.consumers.store.groups.values(), states, types),
        ]

    def describe(self, group_id: str, api_version: int) -> DescribedGroup:
        group = self.groups.get(group_id)
        return admin.describe_missing(group_id, api_version) if group is None else admin.describe_group(group)

    def describe_consumer_group(self, group_id: str) -> DescribedConsumerGroup:
        if self.consumers.get(group_id) is None and group_id in self.groups:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")
        return self.consumers.describe(group_id)

    def delete_group(self, group_id: str, effects: Effects) -> None:
        group = self.groups.get(group_id)
        consumers = self.consumers.get(group_id)
        if group is None and consumers is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND)
        if (group is not None and not group.is_in(GroupState.EMPTY)) or (consumers is not None and consumers.members):
            raise ApiError(ErrorCode.NON_EMPTY_GROUP)
        effects.atomic = False
        self._end_offsets(group_id, None, effects)
        if consumers is not None:
            self.consumers.delete(consumers, effects)
        else:
            effects.append(records.group_tombstone(group_id))

    # --- retention

    def _await_retention_check(self, effects: Effects) -> None:
        effects.set_timer(RETENTION_TIMER, self._config.offsets_retention_check_interval_ms, RetentionCheck())
        self._retention = None

    def _retention_check(self, effects: Effects) -> None:
        """A slice of the groups at a time, so that a million offsets do not hold up the loop."""
        if self._retention is None:
            self._retention = iter([*self.groups, *self.consumers.store.groups])
        effects.atomic = False
        looked = 0
        for group_id in self._retention:
            group = self.consumers.get(group_id) or self.groups.get(group_id)
            if group is not None:
                looked += 1 + self.offsets.count_of(group_id)
                if isinstance(group, ConsumerGroup):
                    self._expire_consumer_group(group, effects)
                else:
                    self._expire(group, effects)
                if looked >= OFFSETS_IN_A_RETENTION_SLICE:
                    effects.set_timer(RETENTION_TIMER, 1, RetentionCheck())
                    return
        self._await_retention_check(effects)

    def _expire(self, group: ClassicGroup, effects: Effects) -> None:
        expired = expired_offsets(
            self.offsets,
            self.pending,
            group,
            now_ms=effects.now_ms,
            retention_ms=self._config.offsets_retention_ms,
        )
        for topic, partition in expired:
            effects.append(records.offset_tombstone(group.group_id, topic, partition))
        nothing_left = not self.pending.has(group.group_id) and len(expired) == self.offsets.count_of(group.group_id)
        if nothing_left and group.is_in(GroupState.EMPTY) and group.written is not None and not group.pending_join:
            effects.append(records.group_tombstone(group.group_id))

    def _expire_consumer_group(self, group: ConsumerGroup, effects: Effects) -> None:
        group_id = group.group_id
        expired = expired_entries(
            group, self.offsets, self.pending, now_ms=effects.now_ms, retention_ms=self._config.offsets_retention_ms
        )
        for topic, partition in expired:
            effects.append(records.offset_tombstone(group_id, topic, partition))
        nothing_left = len(expired) == self.offsets.count_of(group_id)
        if nothing_left and not self.pending.has(group_id) and not group.members:
            self.consumers.delete(group, effects)

    # --- existence

    def _obtain(self, group_id: str) -> ClassicGroup:
        group = self.groups.get(group_id)
        if group is None:
            group = self.groups[group_id] = ClassicGroup(group_id)
        return group

    def _settle_existence(self, group_id: str) -> None:
        """Offsets alone make a group, which is a classic one until it is something else."""
        if self.consumers.get(group_id) is None and self._has_offsets(group_id):
            self._obtain(group_id)
        else:
            self._drop_if_nothing(group_id)

    def _drop_if_nothing(self, group_id: str) -> None:
        """A group exists as long as it has a generation, members, members to come, or offsets."""
        group = self.groups.get(group_id)
        if group is None or group.written is not None or group.members or group.pending_join:
            return
        if group.is_in(GroupState.EMPTY) and (
            not self._has_offsets(group_id) or self.consumers.get(group_id) is not None
        ):
            del self.groups[group_id]

    def _has_offsets(self, group_id: str) -> bool:
        return self.offsets.has(group_id) or self.pending.has(group_id)


def _send_away(group: ClassicGroup, error: ApiError, effects: Effects) -> None:
    for member in group.members.values():
        for call in (member.awaiting_join, member.awaiting_sync):
            if call is not None:
                effects.reply(call, error)
        member.awaiting_join = member.awaiting_sync = None

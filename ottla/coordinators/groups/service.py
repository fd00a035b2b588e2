"""The way into the group coordinator: checks a request, sends it to its shard, and gives every answer its form.

Each method takes a request, who asks, and `done`, which gets the response exactly once. Nothing here raises for what a
client sent. Requests for several groups are taken apart, and answered when all shards have answered.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ottla.coordinators.gathering import gather
from ottla.coordinators.groups import admin, answers, committing, transactional
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer.describe import describe_refused
from ottla.coordinators.groups.consumer.requests import check_heartbeat
from ottla.coordinators.groups.errors import commit_error, group_error
from ottla.coordinators.groups.events import Disconnected
from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.records import GroupRecordCodec
from ottla.coordinators.groups.shard import GroupShard
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.groups.transactional import Verifier
from ottla.coordinators.partitioning import coordinator_partition
from ottla.coordinators.runtime import (
    Call,
    CoordinatorLog,
    CoordinatorRuntime,
    Effects,
    EndOfTransaction,
    ProducerIdentity,
    Transaction,
)
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock, Random
from ottla.protocol.messages.consumer_group_describe_request import ConsumerGroupDescribeRequest
from ottla.protocol.messages.consumer_group_describe_response import ConsumerGroupDescribeResponse
from ottla.protocol.messages.consumer_group_describe_response import DescribedGroup as DescribedConsumerGroup
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from ottla.protocol.messages.consumer_group_heartbeat_response import ConsumerGroupHeartbeatResponse
from ottla.protocol.messages.delete_groups_request import DeleteGroupsRequest
from ottla.protocol.messages.delete_groups_response import DeletableGroupResult, DeleteGroupsResponse
from ottla.protocol.messages.describe_groups_request import DescribeGroupsRequest
from ottla.protocol.messages.describe_groups_response import DescribedGroup, DescribeGroupsResponse
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.heartbeat_response import HeartbeatResponse
from ottla.protocol.messages.join_group_request import JoinGroupRequest
from ottla.protocol.messages.join_group_response import JoinGroupResponse
from ottla.protocol.messages.leave_group_request import LeaveGroupRequest
from ottla.protocol.messages.leave_group_response import LeaveGroupResponse
from ottla.protocol.messages.list_groups_request import ListGroupsRequest
from ottla.protocol.messages.list_groups_response import ListedGroup, ListGroupsResponse
from ottla.protocol.messages.offset_commit_request import OffsetCommitRequest
from ottla.protocol.messages.offset_commit_response import OffsetCommitResponse
from ottla.protocol.messages.offset_delete_request import OffsetDeleteRequest
from ottla.protocol.messages.offset_delete_response import OffsetDeleteResponse
from ottla.protocol.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.protocol.messages.offset_fetch_response import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
)
from ottla.protocol.messages.sync_group_request import SyncGroupRequest
from ottla.protocol.messages.sync_group_response import SyncGroupResponse
from ottla.protocol.messages.txn_offset_commit_request import TxnOffsetCommitRequest
from ottla.protocol.messages.txn_offset_commit_response import TxnOffsetCommitResponse

CONSUMER_OFFSETS = "__consumer_offsets"
NAME_BYTES_MAX = 32_767  # what the strings of the group's records can hold
MULTIPLE_GROUPS_SINCE = 8  # OffsetFetch
MEMBERS_SINCE = 3  # LeaveGroup
PROTOCOL_NAMED_SINCE = 5  # SyncGroup (KIP-559)

R = TypeVar("R")
Done = Callable[[R], object]


class GroupCoordinator:
    """All groups that this node coordinates. Without a `verifier` it takes no offsets of transactions."""

    def __init__(
        self,
        *,
        config: GroupConfig,
        clock: Clock,
        random: Random,
        topics: Topics,
        report: Callable[..., object],
        verifier: Verifier | None = None,
        commit_timeout_ms: float = 5_000,
    ) -> None:
        self._config, self._topics, self._verifier = config, topics, verifier
        self._report = report
        self.disconnected = 0
        """How many members were put out since their connections had closed."""
        self._heard_on: dict[int, set[int]] = {}
        """By connection: the shards of which it carried requests of members."""
        self.runtime = CoordinatorRuntime[GroupShard](
            clock=clock,
            codec=GroupRecordCodec(),
            new_shard=lambda index: GroupShard(config, random, topics, self._disconnected),
            report=report,
            commit_timeout_ms=commit_timeout_ms,
        )

    # --- leadership

    def lead(self, index: int, log: CoordinatorLog, leader_epoch: int) -> None:
        """Partition `index` of `__consumer_offsets` is led here."""
        self.runtime.lead(index, log, leader_epoch)

    def resign(self, index: int) -> None:
        """It is led elsewhere."""
        self.runtime.resign(index)

    def close(self) -> None:
        self.runtime.close()

    def topics_changed(self) -> None:
        """Topics came, went, or have more partitions."""
        for index in self.runtime.indices:
            self.runtime.execute(index, None, lambda shard, effects: shard.consumers.topics_changed(effects))

    def topic_deleted(self, topic: str) -> None:
        """Forget the offsets of all groups in this topic."""
        for index in self.runtime.indices:
            self.runtime.execute(index, None, lambda shard, effects: shard.topic_deleted(topic, effects))

    def connection_closed(self, connection: int) -> None:
        """A client's connection to this node is no more."""
        for index in sorted(self._heard_on.pop(connection, ())):
            self.runtime.execute(index, None, lambda shard, effects: shard.connection_closed(connection, effects))

    def _disconnected(self, event: Disconnected) -> None:
        self.disconnected += 1
        self._report("member_disconnected", group=event.group_id, member=event.member_id, waited_ms=event.waited_ms)

    # --- members

    def join_group(self, request: JoinGroupRequest, caller: Caller, done: Done[JoinGroupResponse]) -> None:
        def refuse(code: ErrorCode) -> JoinGroupResponse:
            return answers.join_refused(code, request.member_id)

        low, high = self._config.group_min_session_timeout_ms, self._config.group_max_session_timeout_ms
        names = [request.protocol_type, request.group_instance_id or "", *(item.name for item in request.protocols)]
        if request.group_id and not low <= request.session_timeout_ms <= high:
            done(refuse(ErrorCode.INVALID_SESSION_TIMEOUT))
        elif any(len(name.encode()) > NAME_BYTES_MAX for name in names):
            done(refuse(ErrorCode.INVALID_REQUEST))
        else:
            self._execute(
                request.group_id,
                done,
                refuse,
                lambda call, shard, effects: shard.join(request, caller, call, effects),
                caller=caller,
            )

    def sync_group(self, request: SyncGroupRequest, caller: Caller, done: Done[SyncGroupResponse]) -> None:
        if caller.api_version >= PROTOCOL_NAMED_SINCE and None in (request.protocol_type, request.protocol_name):
            done(answers.sync_refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
            return
        self._execute(
            request.group_id,
            done,
            answers.sync_refused,
            lambda call, shard, effects: shard.sync(request, caller, call, effects),
            caller=caller,
        )

    def heartbeat(self, request: HeartbeatRequest, caller: Caller, done: Done[HeartbeatResponse]) -> None:
        def refuse(code: ErrorCode) -> HeartbeatResponse:
            # While the shard loads, nobody's session expires: members had better stay as they are.
            return answers.heartbeat(ErrorCode.NONE if code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS else code)

        self._execute(
            request.group_id,
            done,
            refuse,
            lambda call, shard, effects: shard.heartbeat(request, caller, call, effects),
            caller=caller,
        )

    def leave_group(self, request: LeaveGroupRequest, caller: Caller, done: Done[LeaveGroupResponse]) -> None:
        def answer(response: LeaveGroupResponse) -> None:
            if caller.api_version < MEMBERS_SINCE and response.members:
                response = LeaveGroupResponse(error_code=response.members[0].error_code)
            done(response)

        self._execute(
            request.group_id,
            answer,
            lambda code: LeaveGroupResponse(error_code=code),
            lambda call, shard, effects: shard.leave(request, call, effects),
        )

    def consumer_group_heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, caller: Caller, done: Done[ConsumerGroupHeartbeatResponse]
    ) -> None:
        def refuse(code: ErrorCode) -> ConsumerGroupHeartbeatResponse:
            return ConsumerGroupHeartbeatResponse(error_code=code)

        def beat(call: Call, shard: GroupShard, effects: Effects) -> None:
            try:
                response = shard.consumer_heartbeat(request, caller, effects)
            except ApiError as error:
                response = refuse(error.code)
                response.error_message = error.message or None
            effects.reply(call, response)

        try:
            check_heartbeat(request, caller.api_version, self._config)
        except ApiError as error:
            done(ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message))
            return
        self._execute(request.group_id, done, refuse, beat, caller=caller)

    # --- offsets

    def commit_offsets(self, request: OffsetCommitRequest, caller: Caller, done: Done[OffsetCommitResponse]) -> None:
        self._execute(
            request.group_id,
            done,
            lambda code: committing.commit_refused(request, code),
            lambda call, shard, effects: shard.commit(request, caller, call, effects),
            caller=caller,
            empty_id=True,
            translate=commit_error,
        )

    def fetch_offsets(self, request: OffsetFetchRequest, caller: Caller, done: Done[OffsetFetchResponse]) -> None:
        version = caller.api_version
        if version >= MULTIPLE_GROUPS_SINCE:
            gather(
                [partial(self._fetch_group, group, version, request.require_stable) for group in request.groups],
                lambda groups: done(OffsetFetchResponse(groups=groups)),
            )
            return
        topics = request.topics
        group = OffsetFetchRequestGroup(
            group_id=request.group_id,
            topics=None
            if topics is None
            else [
                OffsetFetchRequestTopics(name=topic.name, partition_indexes=topic.partition_indexes) for topic in topics
            ],
        )
        self._fetch_group(
            group, version, request.require_stable, lambda answer: done(committing.single_group(request, answer))
        )

    def _fetch_group(
        self,
        group: OffsetFetchRequestGroup,
        api_version: int,
        require_stable: bool,
        done: Done[OffsetFetchResponseGroup],
    ) -> None:
        self._execute(
            group.group_id,
            done,
            lambda code: OffsetFetchResponseGroup(group_id=group.group_id, error_code=code),
            lambda call, shard, effects: effects.reply(call, shard.fetch(group, api_version, require_stable)),
            empty_id=True,
        )

    def delete_offsets(self, request: OffsetDeleteRequest, caller: Caller, done: Done[OffsetDeleteResponse]) -> None:
        self._execute(
            request.group_id,
            done,
            lambda code: OffsetDeleteResponse(error_code=code),
            lambda call, shard, effects: shard.delete_offsets(request, call, effects),
            empty_id=True,
        )

    # --- transactions

    def commit_transactional_offsets(
        self, request: TxnOffsetCommitRequest, caller: Caller, done: Done[TxnOffsetCommitResponse]
    ) -> None:
        """Offsets that count when the producer's transaction commits."""
        verifier = self._verifier
        if verifier is None:
            raise ValueError("offsets of a transaction need a verifier")

        def refuse(code: ErrorCode) -> TxnOffsetCommitResponse:
            return transactional.refused(request, transactional.transaction_error(code, caller.api_version))

        index = self._shard_of(request.group_id)
        if isinstance(index, ErrorCode):
            done(refuse(index))
            return
        adds = caller.api_version >= transactional.IMPLICIT_ADD_SINCE
        producer = ProducerIdentity(request.producer_id, request.producer_epoch)

        def ask(answered: Callable[[ErrorCode], None]) -> None:
            verifier.ask(request.transactional_id, *producer, CONSUMER_OFFSETS, index, not adds, answered)

        def call(response: TxnOffsetCommitResponse | ApiError) -> None:
            done(refuse(response.code) if isinstance(response, ApiError) else response)

        def commit(shard: GroupShard, effects: Effects) -> None:
            try:
                shard.commit_transactional(request, call, effects)
            except ApiError as error:
                effects.reply(call, error)

        self.runtime.execute_in_transaction(index, call, Transaction(producer, adds, ask), commit)

    def complete_transaction(
        self,
        index: int,
        producer_id: int,
        producer_epoch: int,
        coordinator_epoch: int,
        committed: bool,
        transaction_version: int,
        done: Done[ErrorCode],
    ) -> None:
        """Write the marker of a transaction to partition `index` of `__consumer_offsets` (WriteTxnMarkers).

        `done` gets NONE when the marker is committed and the transaction's offsets with it, or dropped; otherwise the
        error in that request's terms.
        """

        def call(response: ApiError | None) -> None:
            done(ErrorCode.NONE if response is None else transactional.marker_error(response.code))

        end = EndOfTransaction(
            producer=ProducerIdentity(producer_id, producer_epoch),
            coordinator_epoch=coordinator_epoch,
            committed=committed,
            transaction_version=transaction_version,
        )
        self.runtime.complete_transaction(index, end, call)

    # --- administration

    def list_groups(self, request: ListGroupsRequest, caller: Caller, done: Done[ListGroupsResponse]) -> None:
        """Of this node; clients ask every node."""

        def answer(parts: list[list[ListedGroup] | ApiError]) -> None:
            response = ListGroupsResponse()
            for part in parts:
                if not isinstance(part, ApiError):
                    response.groups += part
                elif part.code is not ErrorCode.NOT_COORDINATOR:
                    response.error_code = group_error(part.code)
            done(ListGroupsResponse(error_code=response.error_code) if response.error_code else response)

        def part(index: int, call: Call) -> None:
            self.runtime.execute(
                index,
                call,
                lambda shard, effects: effects.reply(
                    call, shard.list_groups(request.states_filter, request.types_filter)
                ),
            )

        gather([partial(part, index) for index in self.runtime.indices], answer)

    def describe_groups(
        self, request: DescribeGroupsRequest, caller: Caller, done: Done[DescribeGroupsResponse]
    ) -> None:
        def part(group_id: str, done: Done[DescribedGroup]) -> None:
            self._execute(
                group_id,
                done,
                lambda code: admin.describe_refused(group_id, code),
                lambda call, shard, effects: effects.reply(call, shard.describe(group_id, caller.api_version)),
                empty_id=True,
            )

        gather(
            [partial(part, group_id) for group_id in request.groups],
            lambda groups: done(DescribeGroupsResponse(groups=groups)),
        )

    def describe_consumer_groups(
        self, request: ConsumerGroupDescribeRequest, caller: Caller, done: Done[ConsumerGroupDescribeResponse]
    ) -> None:
        def part(group_id: str, done: Done[DescribedConsumerGroup]) -> None:
            def look(call: Call, shard: GroupShard, effects: Effects) -> None:
                try:
                    described = shard.describe_consumer_group(group_id)
                except ApiError as error:
                    described = describe_refused(group_id, error.code, error.message)
                effects.reply(call, described)

            self._execute(group_id, done, lambda code: describe_refused(group_id, code), look)

        gather(
            [partial(part, group_id) for group_id in request.group_ids],
            lambda groups: done(ConsumerGroupDescribeResponse(groups=groups)),
        )

    def delete_groups(self, request: DeleteGroupsRequest, caller: Caller, done: Done[DeleteGroupsResponse]) -> None:
        def part(group_id: str, done: Done[DeletableGroupResult]) -> None:
            def delete(call: Call, shard: GroupShard, effects: Effects) -> None:
                shard.delete_group(group_id, effects)
                effects.reply(call, DeletableGroupResult(group_id=group_id))

            self._execute(
                group_id,
                done,
                lambda code: DeletableGroupResult(group_id=group_id, error_code=code),
                delete,
                empty_id=True,
            )

        gather(
            [partial(part, group_id) for group_id in dict.fromkeys(request.groups_names)],
            lambda results: done(DeleteGroupsResponse(results=results)),
        )

    # --- the way to a shard

    def _execute(
        self,
        group_id: str,
        done: Done[R],
        refuse: Callable[[ErrorCode], R],
        operation: Callable[[Call, GroupShard, Effects], None],
        *,
        caller: Caller | None = None,
        empty_id: bool = False,
        translate: Callable[[ErrorCode], ErrorCode] = group_error,
    ) -> None:
        """Run `operation` on the shard of the group. Each ApiError becomes the response that `refuse` makes of it.

        `translate` is for errors of the runtime. `caller` is given for requests that are a member's sign of life: the
        shard is told when that connection closes. With `empty_id` a group may have no name: very old consumers commit
        under it.
        """
        index = self._shard_of(group_id, empty_id=empty_id)
        if isinstance(index, ErrorCode):
            done(refuse(index))
            return
        if caller is not None and caller.connection:
            self._heard_on.setdefault(caller.connection, set()).add(index)

        def call(response: Any) -> None:
            done(refuse(translate(response.code)) if isinstance(response, ApiError) else response)

        def run(shard: GroupShard, effects: Effects) -> None:
            try:
                operation(call, shard, effects)
            except ApiError as error:
                effects.reply(call, refuse(error.code))

        self.runtime.execute(index, call, run)

    def _shard_of(self, group_id: str, *, empty_id: bool = False) -> int | ErrorCode:
        """The partition of the internal topic, or why there is none."""
        if (not group_id and not empty_id) or len(group_id.encode()) > NAME_BYTES_MAX:
            return ErrorCode.INVALID_GROUP_ID
        partition_count = self._topics.partition_count(CONSUMER_OFFSETS)
        if partition_count == 0:
            return ErrorCode.NOT_COORDINATOR
        return coordinator_partition(group_id, partition_count)

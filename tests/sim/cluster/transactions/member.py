"""One member of a consumer group of the classic protocol, as a consumer library would have it."""

from typing import Any, Final

from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.protocol.messages.join_group_response import JoinGroupResponse
from ottla.protocol.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.protocol.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment
from tests.sim.cluster.transactions.history import Assigned, History
from tests.sim.cluster.transactions.line import GROUP, RETRIABLE, Line

SESSION_MS: Final = 700
REBALANCE_MS: Final = 1000
PROTOCOL: Final = "by turns"
BY_NAME: Final = 9
"""The newest version of OffsetFetch that names topics."""


class Member:
    """`generation` is -1 while it has none."""

    def __init__(self, line: Line, history: History, *, group: str, topic: str, partitions: int) -> None:
        self.line, self.history = line, history
        self.group, self.topic, self.partitions = group, topic, partitions
        self.member_id = ""
        self.generation = -1
        self.assigned: tuple[int, ...] = ()

    async def join(self) -> bool:
        """Whether it has a generation and its partitions now."""
        self.generation, self.assigned = -1, ()
        request = JoinGroupRequest(
            group_id=self.group,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            member_id=self.member_id,
            group_instance_id=None,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name=PROTOCOL, metadata=b"")],
            reason=None,
        )
        joined = await self._ask(ApiKey.JOIN_GROUP, request, within_s=REBALANCE_MS / 1000 + 2.0)
        if joined is None:
            return False
        if joined.error_code:
            if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
                self.member_id = joined.member_id
            return False
        self.member_id = joined.member_id
        synced = await self._ask(
            ApiKey.SYNC_GROUP,
            SyncGroupRequest(
                group_id=self.group,
                generation_id=joined.generation_id,
                member_id=self.member_id,
                group_instance_id=None,
                protocol_type="consumer",
                protocol_name=PROTOCOL,
                assignments=self._assign(joined),
            ),
            within_s=REBALANCE_MS / 1000 + 2.0,
        )
        if synced is None or synced.error_code:
            return False
        self.generation = joined.generation_id
        self.assigned = tuple(synced.assignment)
        self.history.assigned.append(Assigned(self.group, self.generation, self.member_id, self.assigned))
        self.line.checker.setting.coverage.note("generation joined")
        return True

    def _assign(self, joined: JoinGroupResponse) -> list[SyncGroupRequestAssignment]:
        """What the group's leader decides; a byte for each partition."""
        members = sorted(member.member_id for member in joined.members)
        return [
            SyncGroupRequestAssignment(member_id=one, assignment=bytes(range(n, self.partitions, len(members))))
            for n, one in enumerate(members)
        ]

    async def beat(self) -> bool:
        """Whether it is still a member of its generation, as far as it can know."""
        beat = HeartbeatRequest(
            group_id=self.group, generation_id=self.generation, member_id=self.member_id, group_instance_id=None
        )
        answer = await self._ask(ApiKey.HEARTBEAT, beat)
        if answer is not None and answer.error_code:
            self.generation, self.assigned = -1, ()
        return self.generation >= 0

    async def leave(self) -> None:
        """Tell the others that they may go on without it."""
        self.generation, self.assigned = -1, ()
        identity = MemberIdentity(member_id=self.member_id, group_instance_id=None, reason=None)
        await self._ask(ApiKey.LEAVE_GROUP, LeaveGroupRequest(group_id=self.group, members=[identity]))

    async def committed(self, partitions: tuple[int, ...]) -> dict[int, int] | None:
        """Offsets to begin at, when no transaction that is under way may change them (KIP-447); None: not now."""
        asked = OffsetFetchRequestGroup(
            group_id=self.group,
            member_id=None,
            member_epoch=-1,
            topics=[OffsetFetchRequestTopics(name=self.topic, partition_indexes=list(partitions))],
        )
        answer = await self._ask(
            ApiKey.OFFSET_FETCH, OffsetFetchRequest(groups=[asked], require_stable=True), version=BY_NAME
        )
        if answer is None:
            return None
        (group,) = answer.groups
        if self._failed(group.error_code) or not group.topics:
            return None
        (topic,) = group.topics
        if any(one.error_code for one in topic.partitions):
            return None
        return {one.partition_index: max(one.committed_offset, 0) for one in topic.partitions}

    def forget(self) -> None:
        """It is no member of anything any more."""
        self.generation, self.assigned = -1, ()

    async def _ask(self, api_key: ApiKey, request: Any, **more: Any) -> Any | None:
        """None also for errors that pass."""
        answer = await self.line.ask_coordinator(GROUP, self.group, api_key, request, **more)
        if answer is None or (api_key != ApiKey.OFFSET_FETCH and self._failed(answer.error_code)):
            return None
        return answer

    def _failed(self, code: int) -> bool:
        """Whether to ask again, perhaps somebody else. Who is not known any more begins as a new member."""
        if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            self.member_id = ""
            self.forget()
        if code in RETRIABLE:
            self.line.lost_coordinator(GROUP, self.group)
            return True
        return code == ErrorCode.REBALANCE_IN_PROGRESS and self.generation < 0

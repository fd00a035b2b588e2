"""A coordinator in memory behind the client's port: members share partitions as in KIP-848, and faults that a test
asks for.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NoReturn

from ottla.client.coordination import (
    CoordinatorType,
    GroupListing,
    GroupMetadata,
    GroupOffsets,
    HeartbeatAnswer,
    HeartbeatRequest,
    OffsetAndMetadata,
    Outcomes,
    TopicIdAndName,
)
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import TopicPartition


class FakeMember:
    """One member of the one group that a test has."""

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics = tuple(topics)
        self.epoch = self.previous_epoch = 0
        self.held: set[TopicPartition] = set()  # what it has, or was offered and may have
        self.told: set[TopicPartition] | None = None


class FakeGroups:
    """Implements `ottla.client.coordination.GroupCalls`."""

    def __init__(self, partition_counts: Mapping[str, int]) -> None:
        self._partition_counts = partition_counts
        self.members: dict[str, FakeMember] = {}
        self.epoch = 0
        self.committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self.commits: list[tuple[GroupMetadata, dict[TopicPartition, OffsetAndMetadata]]] = []
        self.heartbeats: list[HeartbeatRequest] = []
        self.heartbeat_faults: deque[ClientError | None] = deque()  # for the next heartbeats, in order
        self.commit_faults: deque[ClientError | None] = deque()
        self.fetch_faults: deque[ClientError | None] = deque()
        self.found = 0  # how often the coordinator was looked for

    def join(self, member_id: str, *topics: str) -> FakeMember:
        """A member, also one that a test only pretends."""
        member = self.members[member_id] = FakeMember(topics)
        self.epoch += 1
        return member

    def expel(self, member_id: str) -> None:
        """As when its session expires."""
        del self.members[member_id]
        self.epoch += 1

    def target(self, member_id: str) -> set[TopicPartition]:
        """Partitions are dealt out to the members in the order in which they came."""
        ids = list(self.members)
        partitions = [
            TopicPartition(topic, index)
            for topic in sorted(self.members[member_id].topics)
            for index in range(self._partition_counts.get(topic, 0))
        ]
        return {one for number, one in enumerate(partitions) if ids[number % len(ids)] == member_id}

    async def find_coordinator(self, kind: CoordinatorType, key: str) -> int:
        self.found += 1
        return 1

    async def heartbeat(self, node_id: int, request: HeartbeatRequest) -> HeartbeatAnswer:
        self.heartbeats.append(request)
        fault = self.heartbeat_faults.popleft() if self.heartbeat_faults else None
        if fault is not None:
            raise fault
        if request.member_epoch < 0:
            self.expel(request.member_id)
            return HeartbeatAnswer(
                member_id=request.member_id, member_epoch=-1, heartbeat_interval_ms=0, assignment=None
            )
        member = self.members.get(request.member_id)
        if member is None:
            if request.member_epoch:
                raise ClientError(ErrorCode.UNKNOWN_MEMBER_ID)
            assert request.topics is not None
            assert request.owned == {}
            member = self.join(request.member_id, *request.topics)
        elif request.member_epoch not in (0, member.epoch, member.previous_epoch):
            raise ClientError(ErrorCode.FENCED_MEMBER_EPOCH)
        if request.topics is not None and tuple(request.topics) != member.topics:
            member.topics = tuple(request.topics)
            self.epoch += 1
        return self._answer(request, member)

    def _answer(self, request: HeartbeatRequest, member: FakeMember) -> HeartbeatAnswer:
        target = self.target(request.member_id)
        if request.owned is not None:
            owned = {TopicPartition(name.decode(), one) for name, its in request.owned.items() for one in its}
            member.held = owned
        others = {one for other in self.members.values() if other is not member for one in other.held}
        offered = target - others
        if member.held <= target:  # nothing is left to give up
            member.held = set(offered)
            if member.epoch != self.epoch:
                member.previous_epoch, member.epoch = member.epoch, self.epoch
        assignment: dict[TopicIdAndName, tuple[int, ...]] | None = None
        whole = request.owned is not None and request.topics is not None  # it may not have heard the last answer
        if whole or member.told != offered:
            member.told = offered
            assignment = {}
            for topic, index in sorted(offered):
                key = TopicIdAndName(topic.encode(), topic)
                assignment[key] = (*assignment.get(key, ()), index)
        if not member.epoch:
            member.previous_epoch, member.epoch = 0, 1
        return HeartbeatAnswer(
            member_id=request.member_id, member_epoch=member.epoch, heartbeat_interval_ms=10, assignment=assignment
        )

    async def commit_offsets(self, node_id: int, group: GroupMetadata, offsets: GroupOffsets) -> Outcomes:
        fault = self.commit_faults.popleft() if self.commit_faults else None
        if fault is not None:
            raise fault
        if group.member_epoch >= 0:
            member = self.members.get(group.member_id)
            code = (
                ErrorCode.UNKNOWN_MEMBER_ID
                if member is None
                else ErrorCode.NONE
                if member.epoch == group.member_epoch
                else ErrorCode.STALE_MEMBER_EPOCH
            )
            if code:
                return {one: ClientError(code, topic=one.topic, partition=one.partition) for one in offsets}
        self.commits.append((group, dict(offsets)))
        self.committed |= offsets
        return dict.fromkeys(offsets)

    async def fetch_offsets(
        self,
        node_id: int,
        group: GroupMetadata,
        partitions: Sequence[TopicPartition] | None,
        *,
        require_stable: bool,
    ) -> dict[TopicPartition, OffsetAndMetadata | ClientError | None]:
        fault = self.fetch_faults.popleft() if self.fetch_faults else None
        if fault is not None:
            raise fault
        return {one: self.committed.get(one) for one in (self.committed if partitions is None else partitions)}

    async def delete_offsets(self, node_id: int, group_id: str, partitions: Sequence[TopicPartition]) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def list_groups(self, node_id: int, *, states: Sequence[str], types: Sequence[str]) -> list[GroupListing]:
        raise AssertionError("not asked for in these tests")

    async def describe_group(self, node_id: int, group_id: str) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def delete_group(self, node_id: int, group_id: str) -> NoReturn:
        raise AssertionError("not asked for in these tests")

"""What a mirror asks of a cluster whose leaders and coordinators move meanwhile."""

from collections import deque
from collections.abc import Sequence

import pytest

from ottla.client.coordination import GroupListing, GroupMetadata, GroupOffsets, OffsetAndMetadata, Outcomes
from ottla.client.coordinators import Coordinators
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import PartitionDescription, TopicDescription, TopicPartition
from ottla.mirror.config import build_config
from ottla.mirror.engine.groups import commit_offsets, committed_offsets, group_ids
from ottla.mirror.engine.side import Side
from tests.unit.client.fake_cluster import FakeCluster
from tests.unit.client.fake_groups import FakeGroups

CONFIG = build_config({"clusters": "a, b", "a.bootstrap.servers": "x:1", "b.bootstrap.servers": "y:1"})
FLOW = build_config(
    {"clusters": "a, b", "a.bootstrap.servers": "x:1", "b.bootstrap.servers": "y:1", "a->b.enabled": "true"}
).flows[0]
FIRST, SECOND = TopicPartition("orders", 0), TopicPartition("orders", 1)
OFFSETS = {FIRST: OffsetAndMetadata(5), SECOND: OffsetAndMetadata(7)}


class MovingGroups(FakeGroups):
    """Its next answers tell errors of single partitions; each is met once."""

    def __init__(self) -> None:
        super().__init__({})
        self.partition_faults: deque[dict[TopicPartition, ErrorCode]] = deque()
        self.list_faults: deque[ErrorCode] = deque()
        self.asked: list[set[TopicPartition]] = []

    def _faults(self) -> dict[TopicPartition, ClientError]:
        codes = self.partition_faults.popleft() if self.partition_faults else {}
        return {partition: ClientError(code).at(*partition) for partition, code in codes.items()}

    async def commit_offsets(self, node_id: int, group: GroupMetadata, offsets: GroupOffsets) -> Outcomes:
        faults = self._faults()
        self.asked.append(set(offsets))
        taken = {one: offset for one, offset in offsets.items() if one not in faults}
        return {**await super().commit_offsets(node_id, group, taken), **faults}

    async def fetch_offsets(
        self,
        node_id: int,
        group: GroupMetadata,
        partitions: Sequence[TopicPartition] | None,
        *,
        require_stable: bool,
    ) -> dict[TopicPartition, OffsetAndMetadata | ClientError | None]:
        found = await super().fetch_offsets(node_id, group, partitions, require_stable=require_stable)
        return {**found, **self._faults()}

    async def list_groups(self, node_id: int, *, states: Sequence[str], types: Sequence[str]) -> list[GroupListing]:
        if self.list_faults:
            raise ClientError(self.list_faults.popleft())
        return [GroupListing(group_id="billing", type="consumer", state="Empty", protocol_type="consumer")]


def side_of(groups: MovingGroups) -> Side:
    """A side whose cluster is in memory."""
    side = Side(CONFIG.clusters["a"], "test")
    cluster = FakeCluster(orders=2)
    cluster.group_coordinator = groups
    side.transport = cluster
    side.coordinators = Coordinators(cluster, side.connection)
    return side


@pytest.mark.parametrize(
    "code", [ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE]
)
async def test_offsets_are_committed_though_the_coordinator_moves_meanwhile(code: ErrorCode) -> None:
    """OffsetCommit tells that by partition, and that is no reason to leave a group where it is."""
    groups = MovingGroups()
    groups.partition_faults.append({FIRST: code, SECOND: code})
    groups.partition_faults.append({SECOND: code})
    await commit_offsets(side_of(groups), "billing", OFFSETS)
    assert groups.committed == OFFSETS
    assert groups.asked == [{FIRST, SECOND}, {FIRST, SECOND}, {SECOND}]
    if code is not ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
        assert groups.found == 3  # it was looked for anew


async def test_a_commit_that_is_refused_for_good_is_told_at_once() -> None:
    groups = MovingGroups()
    groups.partition_faults.append({SECOND: ErrorCode.UNKNOWN_MEMBER_ID})
    with pytest.raises(ClientError, match="orders-1: UNKNOWN_MEMBER_ID"):
        await commit_offsets(side_of(groups), "billing", OFFSETS)
    assert len(groups.asked) == 1


async def test_offsets_that_cannot_be_told_are_no_missing_offsets() -> None:
    """A group whose offset of a partition is not known must not be moved without it."""
    groups = MovingGroups()
    groups.committed |= OFFSETS
    groups.partition_faults.append({SECOND: ErrorCode.TOPIC_AUTHORIZATION_FAILED})
    with pytest.raises(ClientError, match="orders-1: TOPIC_AUTHORIZATION_FAILED"):
        await committed_offsets(side_of(groups), "billing")
    assert await committed_offsets(side_of(groups), "billing") == OFFSETS


async def test_groups_are_listed_though_a_coordinator_is_loading() -> None:
    groups = MovingGroups()
    groups.list_faults += [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NETWORK_EXCEPTION]
    assert await group_ids(side_of(groups), FLOW) == ["billing"]


def described(*epochs: int, topic_id: str = "first") -> TopicDescription:
    """Of `orders`, with leaders that have the numbers of their epochs."""
    return TopicDescription(
        name="orders",
        topic_id=topic_id,
        internal=False,
        partitions=tuple(
            PartitionDescription(
                partition=index, leader_id=epoch, leader_epoch=epoch, replica_ids=(1,), in_sync_replica_ids=(1,)
            )
            for index, epoch in enumerate(epochs)
        ),
    )


class Behind(FakeCluster):
    """Tells one description of its topic after the other."""

    def __init__(self, *told: TopicDescription) -> None:
        super().__init__()
        self._told = deque(told)

    async def describe_topics(
        self, names: Sequence[str] | None, *, allow_auto_create: bool
    ) -> tuple[list[TopicDescription], dict[str, ClientError]]:
        return [self._told.popleft()], {}


async def leaders_after(*told: TopicDescription) -> list[tuple[int, int]]:
    side = Side(CONFIG.clusters["a"], "test")
    side.transport = Behind(*told)
    for _ in told:
        await side.refresh()
    return [side.leader(TopicPartition("orders", index)) for index in range(len(side.topics["orders"].partitions))]


async def test_a_node_that_lags_does_not_bring_former_leaders_back() -> None:
    """Asked in turn, one of three nodes may know less than the leaders do: each fetch would be fenced."""
    assert await leaders_after(described(3, 4), described(5, 3)) == [(5, 5), (4, 4)]
    assert await leaders_after(described(3), described(2, 1)) == [(3, 3), (1, 1)]


async def test_a_topic_made_again_has_leaders_of_its_own() -> None:
    assert await leaders_after(described(3), described(0, topic_id="second")) == [(0, 0)]

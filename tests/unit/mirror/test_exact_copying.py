"""How an exact copy begins: whose offsets it goes by."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.mirrors import MirrorCalls, MirrorLog, MirrorPartition
from ottla.client.transport import FetchRequest, FetchResult
from ottla.client.types import OffsetAndTimestamp, PartitionDescription, TopicDescription, TopicPartition
from ottla.core.types import format_uuid, parse_uuid
from ottla.mirror.config import build_config
from ottla.mirror.core.partition_task import PartitionTask, State, TaskPolicy
from ottla.mirror.core.progress import MapId
from ottla.mirror.engine.copier import Flow
from ottla.mirror.engine.exact_copying import ExactCopier
from ottla.mirror.engine.side import Side
from tests.unit.client.fake_cluster import FakeCluster

PARTITION = TopicPartition("t", 0)
OLD_ID, NEW_ID, COPY_ID = (format_uuid(parse_uuid(letter * 22)) for letter in "AEI")
CONFIG = build_config(
    {
        "clusters": "a, b",
        "a.bootstrap.servers": "x:1",
        "b.bootstrap.servers": "y:1",
        "a.ottla.protocol": "grpc",
        "b.ottla.protocol": "grpc",
        "a->b.enabled": "true",
        "ottla.exact": "true",
    }
)


class Source(FakeCluster):
    """Has one topic `t`, with this id and these offsets."""

    def __init__(self, topic_id: str, start: int, end: int) -> None:
        super().__init__()
        self.topic_id, self.start, self.end = topic_id, start, end

    async def list_offsets(
        self, node_id: int, timestamps: Mapping[TopicPartition, int], *, read_committed: bool
    ) -> dict[TopicPartition, OffsetAndTimestamp | ClientError]:
        return {one: OffsetAndTimestamp(self.start if at == -2 else self.end, -1) for one, at in timestamps.items()}

    async def fetch(self, node_id: int, request: FetchRequest) -> list[FetchResult]:
        assert request.max_wait_ms == 0  # nothing comes at the end
        if (request.topic_ids or {}).get("t", self.topic_id) != self.topic_id:
            error = ClientError(ErrorCode.UNKNOWN_TOPIC_ID)
            return [FetchResult(PARTITION, error, b"", -1, -1, -1, [])]
        return [FetchResult(PARTITION, None, b"", self.end, self.end, self.start, [])]


class Mirrors:
    """A mirror topic's empty log."""

    def __init__(self) -> None:
        self.begun_at: list[int | None] = []

    async def describe(self, topics: Sequence[str]) -> Any:
        raise AssertionError("not asked for")

    async def end_mirror(self, node_id: int, mirror: MirrorPartition, **_: Any) -> MirrorLog:
        raise AssertionError("not asked for")

    async def log_of(self, node_id: int, mirror: MirrorPartition) -> MirrorLog:
        return MirrorLog(log_start_offset=0, high_watermark=0, log_end_offset=0, aborted_transactions=0)

    async def append(
        self, node_id: int, mirror: MirrorPartition, batches: object, *, begin_at: int | None, **_: Any
    ) -> MirrorLog:
        self.begun_at.append(begin_at)
        end = begin_at or 0
        return MirrorLog(log_start_offset=end, high_watermark=end, log_end_offset=end, aborted_transactions=0)


class Target(FakeCluster):
    def __init__(self) -> None:
        super().__init__()
        self.mirror_calls = Mirrors()

    @property
    def mirrors(self) -> MirrorCalls:
        return self.mirror_calls


async def side_of(alias: str, cluster: FakeCluster, topic_id: str) -> Side:
    side = Side(CONFIG.clusters[alias], "test")
    await side.transport.close()
    side.transport = cluster
    one = PartitionDescription(partition=0, leader_id=1, leader_epoch=0, replica_ids=(1,), in_sync_replica_ids=(1,))
    side.topics = {"t": TopicDescription(name="t", topic_id=topic_id, internal=False, partitions=(one,))}
    side.cluster_id = alias
    return side


async def begin(source: Source) -> tuple[ExactCopier, Target, list[str]]:
    """A copier of the topic with OLD_ID that has just tried to begin."""
    target, asked = Target(), list[str]()
    flow = Flow(
        config=CONFIG.flows[0],
        source=await side_of("a", source, OLD_ID),
        target=await side_of("b", target, COPY_ID),
        request_discovery=lambda: asked.append("discovery"),
        **cast(
            "dict[str, Any]", dict.fromkeys(set(Flow._fields) - {"config", "source", "target", "request_discovery"})
        ),
    )
    policy = TaskPolicy()
    copier = ExactCopier(flow, PartitionTask(MapId("a", OLD_ID, COPY_ID, 0), policy), PARTITION, PARTITION)
    try:
        await copier._begin()
    except ClientError as error:
        asked.append(error.code.name)
    return copier, target, asked


async def test_a_log_begins_where_its_source_does() -> None:
    copier, target, errors = await begin(Source(OLD_ID, 7, 7))
    assert (target.mirror_calls.begun_at, errors) == ([7], [])
    assert copier.task.state is State.COPYING


async def test_offsets_of_a_topic_that_took_the_name_over_are_not_gone_by() -> None:
    """It was made anew after it was looked for; where it starts, the copy of the one before must not begin."""
    copier, target, errors = await begin(Source(NEW_ID, 7, 7))
    assert target.mirror_calls.begun_at == []
    assert errors == [ErrorCode.UNKNOWN_TOPIC_ID.name]
    assert copier.task.state is State.NEW

"""How a source is asked: together, or each by itself."""

import asyncio

import pytest

from ottla.client.transport import FetchRequest, FetchResult
from ottla.client.types import PartitionDescription, TopicDescription, TopicPartition
from ottla.mirror.config import build_config
from ottla.mirror.engine.reading import SourceReader
from ottla.mirror.engine.side import Side
from tests.unit.client.fake_cluster import FakeCluster

CONFIG = build_config({"clusters": "a, b", "a.bootstrap.servers": "x:1", "b.bootstrap.servers": "y:1"})
COUNT = 3


class Asked(FakeCluster):
    """Answers each request with a byte for each partition."""

    def __init__(self) -> None:
        super().__init__()
        self.requests_of: list[list[int]] = []
        self.data = b"x"
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self, node_id: int, request: FetchRequest) -> list[FetchResult]:
        self.requests_of.append([one.topic_partition.partition for one in request.partitions])
        await self.may_answer.wait()
        await asyncio.sleep(0)
        return [FetchResult(one.topic_partition, None, self.data, 9, 9, 0, []) for one in request.partitions]


def reader_of(cluster: Asked, memory_bytes: int) -> SourceReader:
    side = Side(CONFIG.clusters["a"], "test")
    side.transport = cluster
    partitions = tuple(
        PartitionDescription(partition=index, leader_id=1, leader_epoch=0, replica_ids=(1,), in_sync_replica_ids=(1,))
        for index in range(COUNT)
    )
    side.topics = {"t": TopicDescription(name="t", topic_id="id", internal=False, partitions=partitions)}
    return SourceReader(side, owner="a->b", memory_bytes=memory_bytes, partition_bytes=1 << 20, wait_ms=10)


async def read_all(reader: SourceReader, *, is_far_behind: bool) -> None:
    wanted = [reader.read(TopicPartition("t", index), "id", 5, is_far_behind=is_far_behind) for index in range(COUNT)]
    async with asyncio.timeout(5):
        await asyncio.gather(*wanted)


@pytest.mark.parametrize(("is_far_behind", "requests"), [(False, [[0, 1, 2]]), (True, [[0], [1], [2]])])
async def test_who_is_far_behind_does_not_wait_for_the_others(is_far_behind: bool, requests: list[list[int]]) -> None:
    cluster = Asked()
    reader = reader_of(cluster, 8 << 20)
    await read_all(reader, is_far_behind=is_far_behind)
    assert cluster.requests_of == requests
    await reader.close()


async def test_memory_bounds_also_those_who_ask_by_themselves() -> None:
    cluster = Asked()
    cluster.may_answer.clear()
    reader = reader_of(cluster, 2 << 20)
    wanted = [
        asyncio.ensure_future(reader.read(TopicPartition("t", index), "id", 5, is_far_behind=True))
        for index in range(COUNT)
    ]
    for _ in range(10):  # turns of the loop, without any time
        await asyncio.sleep(0)
    assert cluster.requests_of == [[0], [1]]  # a MiB each is on its way
    cluster.may_answer.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*wanted)  # what they did not need is free again
    assert cluster.requests_of == [[0], [1], [2]]
    await reader.close()


async def test_who_waits_hears_that_the_source_answers_though_there_is_nothing() -> None:
    cluster = Asked()
    cluster.data = b""
    reader = reader_of(cluster, 8 << 20)
    heard = asyncio.Event()
    wanted = asyncio.ensure_future(reader.read(TopicPartition("t", 0), "id", 5, on_nothing=heard.set))
    async with asyncio.timeout(5):
        await heard.wait()
        assert not wanted.done()
        cluster.data = b"x"
        await wanted
    await reader.close()

"""How long a coordinator takes to load committed offsets, and how long it keeps the loop from everything else.

python -m bench.micro.groups_load [--offsets N] [--in-batch N]

The log is a real one, in files. While shard 0 loads, a consumer commits to shard 1, one commit after the other, and a
callback that does nothing notes the processor time of each turn of the loop. Garbage is collected as in a node.
"""

import argparse
import asyncio
import gc
import random
import sys
import tempfile
import time
from itertools import islice

import uvloop

from ottla.adapters.clock import LoopClock
from ottla.adapters.disk import ThreadedDisk
from ottla.coordinators.groups import records
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.offset_codec import NO_EXPIRY, encode_value
from ottla.coordinators.groups.service import CONSUMER_OFFSETS, GroupCoordinator
from ottla.coordinators.partitioning import coordinator_partition
from ottla.core.error_codes import ErrorCode
from ottla.core.types import Uuid
from ottla.node.process import GC_THRESHOLD
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import PartitionManager
from ottla.partitions.partition import Partition
from ottla.partitions.results import Origin
from ottla.protocol.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.offset_commit_response import OffsetCommitResponse
from ottla.records.batch import Record, encode_batch

TOPIC_ID = Uuid(b"topic-id-of-jobs")
TOPICS, PARTITIONS = 10, 10  # that each group has read
LOADED, SERVING = 0, 1


class Topics:
    """`jobs-0` to `jobs-9`, and two shards."""

    def topic_id(self, name: str) -> Uuid | None:
        return TOPIC_ID

    def topic_name(self, topic_id: Uuid) -> str | None:
        return None

    def names(self) -> list[str]:
        return []

    def partition_count(self, name: str) -> int:
        return 2 if name == CONSUMER_OFFSETS else PARTITIONS


def batches(offset_count: int, in_batch: int) -> list[bytes]:
    """Commits of all groups, in no order; each is one of all partitions of a topic."""
    now_ms = time.time_ns() // 1_000_000
    groups = offset_count // (TOPICS * PARTITIONS)
    commits = [(f"group-of-somebody-{group}", f"jobs-{topic}") for group in range(groups) for topic in range(TOPICS)]
    random.Random(1).shuffle(commits)
    codec = records.GroupRecordCodec()
    made = []
    rest = ((group, topic, partition) for group, topic in commits for partition in range(PARTITIONS))
    while piece := list(islice(rest, in_batch)):
        encoded = []
        for group, topic, partition in piece:
            stored = encode_value(1_000_000 + partition, 3, "", now_ms, NO_EXPIRY, TOPIC_ID)
            key, content = codec.encode(records.offset_commit(group, topic, partition, stored))
            encoded.append(Record(0, now_ms, key, content, ()))
        made.append(encode_batch(encoded))
    return made


async def fill(partition: Partition, made: list[bytes]) -> None:
    """Append all of them, durably."""
    loop = asyncio.get_running_loop()
    for number in range(0, len(made), 1_000):
        last: asyncio.Future[ErrorCode] = loop.create_future()
        part = made[number : number + 1_000]
        for batch in part[:-1]:
            partition.append(memoryview(bytearray(batch)), acks=0, done=None, origin=Origin.COORDINATOR)
        partition.append(memoryview(bytearray(part[-1])), acks=-1, done=last.set_result, origin=Origin.COORDINATOR)
        assert await last is ErrorCode.NONE


class Turns:
    """Processor time of this thread between two calls of a callback, which comes once a turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.taken_ms: list[float] = []
        self._running = True
        self._before = time.thread_time()
        loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.taken_ms.append((now - self._before) * 1000)
        self._before = now
        if self._running:
            self._loop.call_soon(self._turn)

    def stop(self) -> None:
        self._running = False


class Committer:
    """A consumer of another shard."""

    def __init__(self, coordinator: GroupCoordinator) -> None:
        self._coordinator = coordinator
        self._group = next(name for n in range(100) if coordinator_partition(name := f"other-{n}", 2) == SERVING)
        self._running = True
        self._sent = 0.0
        self.waited_ms: list[float] = []
        self._commit()

    def _commit(self) -> None:
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=len(self.waited_ms))
        request = OffsetCommitRequest(
            group_id=self._group, topics=[OffsetCommitRequestTopic(name="jobs-0", partitions=[partition])]
        )
        self._sent = time.perf_counter()
        self._coordinator.commit_offsets(request, Caller("bench", "/", 8), self._done)

    def _done(self, response: OffsetCommitResponse) -> None:
        assert response.topics[0].partitions[0].error_code == ErrorCode.NONE
        self.waited_ms.append((time.perf_counter() - self._sent) * 1000)
        if self._running:
            self._commit()

    def stop(self) -> None:
        self._running = False


class Loads:
    """Takes the reports of the coordinator."""

    def __init__(self) -> None:
        self.loaded = {LOADED: asyncio.Event(), SERVING: asyncio.Event()}

    def __call__(self, event: str, *, partition: int, **fields: object) -> None:
        assert event == "coordinator_loaded", (event, fields)
        self.loaded[partition].set()


def figures(name: str, taken_ms: list[float]) -> str:
    ordered = sorted(taken_ms)
    parts = [f"p{100 * part:g} {ordered[int(len(ordered) * part)]:.2f}" for part in (0.5, 0.99, 0.999)]
    longest = ", ".join(f"{value:.2f}" for value in ordered[:-4:-1])
    return f"{name} (ms): {'  '.join(parts)}  longest {longest}"


async def main(offset_count: int, in_batch: int) -> None:
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    with tempfile.TemporaryDirectory(dir=".") as directory:
        disk = ThreadedDisk(loop, directory)
        manager = PartitionManager(disk, clock)
        manager.open()
        logs = [manager.create(CONSUMER_OFFSETS, Uuid(bytes(15) + b"1"), index, LogConfig()) for index in range(2)]
        await fill(logs[LOADED], batches(offset_count, in_batch))
        loads = Loads()
        coordinator = GroupCoordinator(
            config=GroupConfig(), clock=clock, random=random.Random(1), topics=Topics(), report=loads
        )
        coordinator.lead(SERVING, logs[SERVING], 0)
        await loads.loaded[SERVING].wait()
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        turns, committer = Turns(loop), Committer(coordinator)
        wall, processor = time.perf_counter(), time.process_time()
        coordinator.lead(LOADED, logs[LOADED], 0)
        await loads.loaded[LOADED].wait()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        turns.stop()
        committer.stop()
        await asyncio.sleep(0.1)
        loaded = sum(shard.offsets.count for shard in coordinator.runtime.active_shards()) - 1
        assert loaded == offset_count, loaded
        print(f"{loaded:,} offsets, {in_batch} a batch: {wall:.2f} s, {processor:.2f} s of processor time")
        print(figures("turns of the loop", turns.taken_ms))
        print(figures(f"{len(committer.waited_ms):,} commits to another shard meanwhile", committer.waited_ms))
        coordinator.close()
        closed: asyncio.Future[Exception | None] = loop.create_future()
        manager.close(closed.set_result)
        assert await closed is None
        disk.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.micro.groups_load", description=__doc__)
    parser.add_argument("--offsets", type=int, default=1_000_000)
    parser.add_argument("--in-batch", type=int, default=100)
    arguments = parser.parse_args()
    sys.setswitchinterval(0.0005)
    uvloop.run(main(arguments.offsets, arguments.in_batch))

"""A compacted topic as a table: one writer sets and deletes keys, and readers read the whole of it again and again.

The writer waits for each key's acknowledgement before it writes that key again, so what a table may show is known.
"""

import asyncio
import time
from typing import Final

from ottla.testing.chaos.clients.port import At, Failure, Library, Producer, Read, Remedy, Topic
from ottla.testing.chaos.workloads.scene import RETRY_S, Log, Scene
from ottla.testing.history import now_ns

TOPIC: Final = "table"
PARTITIONS: Final = 2
KEYS: Final = 12
PERIOD_S: Final = 0.3  # between two writes of a key
DELETES: Final = 0.1
READ_EVERY_S: Final = 4.0
READ_S: Final = 30.0
QUIET_S: Final = 2.5
CONFIGS: Final = {
    "cleanup.policy": "compact",
    "segment.ms": "3000",
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "5000",
}


def topics(prefix: str, replication_factor: int) -> list[Topic]:
    """The table, which is compacted every few seconds."""
    name = f"{prefix}{TOPIC}"
    return [Topic(name=name, partitions=PARTITIONS, replication_factor=replication_factor, configs=CONFIGS)]


async def write(scene: Scene) -> None:
    """Set and delete keys until it is calm."""
    while not scene.calm.is_set():
        log = scene.new_log("setter")
        try:
            producer = await scene.library.producer()
        except Failure:
            await scene.pause(RETRY_S, scene.calm)
            continue
        broken = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as writers:
                for key in range(KEYS):
                    writers.create_task(_write_key(scene, log, producer, key, broken))
        finally:
            await producer.close()


async def _write_key(scene: Scene, log: Log, producer: Producer, key: int, broken: asyncio.Event) -> None:
    at = At(scene.topic(TOPIC), key % PARTITIONS)
    while not broken.is_set() and not await scene.pause(scene.random.uniform(0.5, 1.5) * PERIOD_S, scene.calm):
        value = None if scene.random.random() < DELETES else log.value()
        try:
            await (await log.send(producer, at, value, f"key-{key}"))
        except Failure as error:
            if error.remedy is not Remedy.RETRY:
                broken.set()


async def read(scene: Scene) -> None:
    """Read the whole table every few seconds, until all finish."""
    while not await scene.pause(READ_EVERY_S, scene.finish):
        log = scene.new_log("table-reader")
        since = now_ns()
        try:
            records = await read_all(scene.library, [At(scene.topic(TOPIC), n) for n in range(PARTITIONS)])
        except Failure:
            continue  # a reader that could not read has seen nothing
        log.snapshot(since, scene.topic(TOPIC), table(records))


def table(records: list[Read]) -> dict[str, str]:
    """The last value of each key."""
    found: dict[str, str] = {}
    for one in records:
        if one.value is None:
            found.pop(one.key or "", None)
        else:
            found[one.key or ""] = one.value
    return found


async def read_all(
    library: Library,
    partitions: list[At],
    *,
    committed_only: bool = False,
    transactional: bool = False,
    limit_s: float = READ_S,
) -> list[Read]:
    """Everything from the start to where the partitions end now. Raises Failure when that is not reached in time.

    Where the last offsets may be markers of transactions, which nobody is given, silence for a while is the end.
    """
    ends = await library.ends(partitions, committed_only=committed_only)
    left = {at for at, end in ends.items() if end > 0}
    records: list[Read] = []
    consumer = await library.consumer(assigned=partitions, committed_only=committed_only)
    until = time.monotonic() + limit_s
    quiet_since = time.monotonic()
    try:
        while left:
            found = await consumer.poll(0.2)
            records += found
            now = time.monotonic()
            for one in found:
                at = At(one.topic, one.partition)
                if one.offset >= ends[at] - 1:
                    left.discard(at)
            if found:
                quiet_since = now
            elif transactional and now > quiet_since + QUIET_S:
                break
            if now > until:
                raise Failure(f"not read to the end of {sorted(left)}", remedy=Remedy.RETRY)
    finally:
        await consumer.close()
    return records

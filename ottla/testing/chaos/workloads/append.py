"""Append and poll: unique values at a steady pace to every partition, and consumers that read all of them all along."""

import asyncio
from typing import Final

from ottla.testing.chaos.clients.port import At, Failure, Producer, Remedy, Topic
from ottla.testing.chaos.workloads.scene import RETRY_S, Log, Scene, plain
from ottla.testing.history import now_ns

TOPIC: Final = "append"
PARTITIONS: Final = 4
PERIOD_S: Final = 0.05  # between two records of a partition
POLL_S: Final = 0.25


def topics(prefix: str, replication_factor: int) -> list[Topic]:
    """What it writes to."""
    return [Topic(name=f"{prefix}{TOPIC}", partitions=PARTITIONS, replication_factor=replication_factor)]


async def write(scene: Scene) -> None:
    """Write until it is calm, and wait for what is under way."""
    await write_evenly(scene, [At(scene.topic(TOPIC), n) for n in range(PARTITIONS)], PERIOD_S)


async def write_evenly(scene: Scene, partitions: list[At], period_s: float) -> None:
    """One unique value every `period_s` to each of these; a producer that cannot go on is made anew."""
    while not scene.calm.is_set():
        log = scene.new_log("writer")
        try:
            producer = await scene.library.producer()
        except Failure:
            await scene.pause(RETRY_S, scene.calm)
            continue
        broken = asyncio.Event()
        async with asyncio.TaskGroup() as writers:
            for at in partitions:
                writers.create_task(_write_partition(scene, log, producer, at, period_s, broken))
        try:
            if not broken.is_set():
                await producer.flush()
        except Failure:
            pass  # what was not acknowledged is unknown
        finally:
            await producer.close()


async def _write_partition(
    scene: Scene, log: Log, producer: Producer, at: At, period_s: float, broken: asyncio.Event
) -> None:
    def told(future: "asyncio.Future[int]") -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Failure) and error.remedy is Remedy.CLOSE:
            broken.set()

    loop = asyncio.get_running_loop()
    due = loop.time()
    while not broken.is_set() and not await scene.pause(max(0.0, due - loop.time()), scene.calm):
        due = max(due + period_s, loop.time())  # what is missed is not caught up
        try:
            (await log.send(producer, at, log.value())).add_done_callback(told)
        except Failure as error:
            if error.remedy is not Remedy.RETRY:
                broken.set()


async def read(scene: Scene) -> None:
    """Read every partition from its start, until all finish."""
    partitions = [At(scene.topic(TOPIC), n) for n in range(PARTITIONS)]
    while not scene.finish.is_set():
        log = scene.new_log("reader")
        try:
            consumer = await scene.library.consumer(assigned=partitions)
        except Failure:
            await scene.pause(RETRY_S, scene.finish)
            continue
        log.takes(partitions)
        try:
            while not scene.finish.is_set():
                since = now_ns()
                records = await consumer.poll(POLL_S)
                if records:
                    log.polled(since, plain(records), committed=False)
        except Failure:
            await scene.pause(RETRY_S, scene.finish)
        finally:
            await consumer.close()

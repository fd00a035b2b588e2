"""Group churn: members come, work for some seconds, commit what they got, and go, while others are killed."""

from typing import Final

from ottla.testing.chaos.clients.port import At, Consumer, Failure, Remedy, Topic
from ottla.testing.chaos.workloads.append import write_evenly
from ottla.testing.chaos.workloads.scene import RETRY_S, Log, Member, Scene, plain
from ottla.testing.history import now_ns

TOPIC: Final = "churn"
GROUP: Final = "churners"
PARTITIONS: Final = 6
PERIOD_S: Final = 0.25
POLL_S: Final = 0.25
LIFE_S: Final = (5.0, 15.0)
REST_S: Final = (0.5, 2.0)


def topics(prefix: str, replication_factor: int) -> list[Topic]:
    """What its members read."""
    return [Topic(name=f"{prefix}{TOPIC}", partitions=PARTITIONS, replication_factor=replication_factor)]


async def write(scene: Scene) -> None:
    """Something for the members to read."""
    await write_evenly(scene, [At(scene.topic(TOPIC), n) for n in range(PARTITIONS)], PERIOD_S)


async def be_member(scene: Scene) -> None:
    """One life after the other; when all is calm the last one stays until all finish."""
    loop_time = scene.random.uniform
    while not scene.finish.is_set():
        log = scene.new_log("member")
        member = Member(log, scene.recorder, scene.topic(GROUP))
        try:
            consumer = await scene.library.consumer(
                subscribed=[scene.topic(TOPIC)], group=scene.topic(GROUP), listener=member
            )
        except Failure:
            await scene.pause(RETRY_S, scene.finish)
            continue
        try:
            await _live(scene, log, consumer, loop_time(*LIFE_S))
        except Failure:
            pass  # begun anew
        finally:
            await consumer.close()
        await scene.pause(loop_time(*REST_S), scene.finish)


async def _live(scene: Scene, log: Log, consumer: Consumer, seconds: float) -> None:
    until_ns = now_ns() + int(seconds * 1e9)
    while not scene.finish.is_set() and (scene.calm.is_set() or now_ns() < until_ns):
        since = now_ns()
        try:
            records = await consumer.poll(POLL_S)
        except Failure as error:
            if error.remedy is Remedy.RETRY:
                await scene.pause(RETRY_S, scene.finish)
                continue
            raise
        if records:
            log.polled(since, plain(records), committed=False)
            after = {At(one.topic, one.partition): one.offset + 1 for one in records}
            await log.commit(consumer, scene.topic(GROUP), after)

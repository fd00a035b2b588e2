"""Consume, transform, produce: two copiers bring a topic to another one in transactions, and abort some on purpose.

A copier is fenced as its transactional id is, and, where the library has groups in transactions (KIP-447), as a member
of the group; else each copier has partitions of its own. A copied value names the record that it was made of and the
transaction; the key is the transaction's name.
"""

from typing import Final

from ottla.testing.chaos.clients.port import At, Consumer, Failure, Producer, Read, Remedy, Topic
from ottla.testing.chaos.workloads.append import write_evenly
from ottla.testing.chaos.workloads.scene import RETRY_S, Member, Scene
from ottla.testing.history import At as Offset
from ottla.testing.history import Seen, now_ns

SOURCE: Final = "source"
COPY: Final = "copy"
GROUP: Final = "copiers"
PARTITIONS: Final = 4
PERIOD_S: Final = 0.1
POLL_S: Final = 0.25
BATCH: Final = 50
ABORTS: Final = 0.1  # of the transactions, on purpose
TRANSACTION_TIMEOUT_S: Final = 8.0
COPIERS: Final = ("a", "b")


def topics(prefix: str, replication_factor: int) -> list[Topic]:
    """Source and copy."""
    return [
        Topic(name=f"{prefix}{name}", partitions=PARTITIONS, replication_factor=replication_factor)
        for name in (SOURCE, COPY)
    ]


def seen(record: Read) -> Seen:
    """A record of the copy, with its transaction."""
    return Seen(record.topic, record.partition, record.offset, record.value, record.key, record.key)


async def write(scene: Scene) -> None:
    """The source."""
    await write_evenly(scene, [At(scene.topic(SOURCE), n) for n in range(PARTITIONS)], PERIOD_S)


async def copy(scene: Scene) -> None:
    """Copy until all finish; who fails for good is begun anew, as a service is by its supervisor."""
    while not scene.finish.is_set():
        copier = _Copier(scene)
        try:
            await copier.run()
        except Failure:
            await scene.pause(RETRY_S, scene.finish)
        finally:
            await copier.close()


class _Copier:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._log = scene.new_log("copier")
        self._member = Member(self._log, scene.recorder, scene.topic(GROUP))
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None
        self._number = 0

    async def close(self) -> None:
        if self._consumer is not None:
            await self._consumer.close()
        if self._producer is not None:
            await self._producer.close()

    async def run(self) -> None:
        """Raises Failure when it cannot go on."""
        scene, library = self._scene, self._scene.library
        # First the producer: who comes with the id ends the transaction of who was there before.
        self._producer = await library.producer(scene.topic(scene.role), TRANSACTION_TIMEOUT_S)
        if library.groups_in_transactions:
            self._consumer = await library.consumer(
                subscribed=[scene.topic(SOURCE)], group=scene.topic(GROUP), committed_only=True, listener=self._member
            )
        else:
            own = [At(scene.topic(SOURCE), n) for n in range(COPIERS.index(scene.role), PARTITIONS, len(COPIERS))]
            self._consumer = await library.consumer(assigned=own, group=scene.topic(GROUP), committed_only=True)
            self._member.assigned(own, -1, "")
        while not scene.finish.is_set():
            since = now_ns()
            try:
                batch = await self._consumer.poll(POLL_S, BATCH)
            except Failure as error:
                if error.remedy is not Remedy.RETRY:
                    raise
                await scene.pause(RETRY_S, scene.finish)
                continue
            if batch:
                await self._copy(since, batch)

    async def _copy(self, since_ns: int, batch: list[Read]) -> None:
        scene, log, producer, consumer = self._scene, self._log, self._producer, self._consumer
        assert producer is not None
        assert consumer is not None
        self._number += 1
        transaction = f"{log.process}#{self._number}"
        log.polled(
            since_ns,
            [Seen(one.topic, one.partition, one.offset, one.value, one.key) for one in batch],
            committed=True,
            transaction=transaction,
        )
        abort = scene.random.random() < ABORTS
        log.begin(transaction, scene.topic(scene.role))
        await producer.begin()
        try:
            for one in batch:
                await log.send(
                    producer,
                    At(scene.topic(COPY), one.partition),
                    f"{one.value}>{transaction}",
                    transaction,
                    transaction=transaction,
                    source=Offset(one.topic, one.partition, one.offset),
                )
            after = {At(one.topic, one.partition): one.offset + 1 for one in batch}
            await log.send_offsets(producer, after, consumer, scene.topic(GROUP), transaction)
            if abort:
                await producer.flush()
            await log.end(producer, transaction, commit=not abort)
        except Failure as error:
            if error.remedy is not Remedy.ABORT:
                raise
            await log.end(producer, transaction, commit=False)
            abort = True
        if abort:
            first: dict[At, int] = {}
            for one in batch:
                first.setdefault(At(one.topic, one.partition), one.offset)
            log.seek(consumer, first)

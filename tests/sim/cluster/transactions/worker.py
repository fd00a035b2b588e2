"""A worker consumes, transforms and produces in transactions; it is killed, hangs, comes back, and is replaced.

Each life of it is an `Instance` with the same transactional id. One that hangs goes on some day, with the old epoch,
while its successor works: a zombie.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from traceback import format_exception
from typing import Any, Final

from ottla.controller.image import NO_LEADER
from tests.sim.cluster.calls import Unanswered, Unreached
from tests.sim.cluster.clients import Client
from tests.sim.cluster.transactions.history import Attempt, History, Seen, Source, value_of
from tests.sim.cluster.transactions.line import LATEST_S, Line
from tests.sim.cluster.transactions.member import Member
from tests.sim.cluster.transactions.producer import Abortable, Fenced, TransactionalProducer
from tests.sim.cluster.transactions.reader import read_committed
from tests.sim.raft.violation import Violation

GROUP: Final = "g"
OUTPUT: Final = "out"
OUTPUT_PARTITIONS: Final = 2

Step = Callable[[str, "Worker"], None]
"""Called before each step of a transaction with its name: something may happen there."""


class Instance:
    """One life."""

    def __init__(self, worker: "Worker", name: str) -> None:
        line = worker.line(name)
        self.worker, self.name, self.line, self.random = worker, name, line, line.random
        is_older = worker.checker.setting.random(f"{name} is older").random() < worker.checker.setting.options.older
        self.producer = TransactionalProducer(line, worker.transactional_id, is_older=is_older)
        self.member = Member(line, worker.history, group=GROUP, topic=worker.input, partitions=worker.partitions)
        self.positions: dict[int, int] | None = None
        self.held = asyncio.Event()  # cleared while it hangs
        self.held.set()
        self._attempts = 0

    async def run(self) -> None:
        """Until it is fenced, or the worker is to stop. Raises nothing."""
        try:
            await self._step("begin")
            await self.producer.begin()
            while not self.worker.stopped:
                await self._go_on()
        except Fenced as error:
            self.worker.note("producer fenced")
            self.worker.trace("fenced", self, error)
        await self.member.leave()

    async def _go_on(self) -> None:
        member = self.member
        await self.held.wait()
        if member.generation < 0 or not await member.beat():
            self.positions = None
            if not await member.join():
                await self.line.pause(0.05)
            return
        if self.positions is None:
            self.positions = await member.committed(member.assigned) if member.assigned else {}
            if self.positions is None:
                await self.line.pause(0.05)
                return
        found = await self._consume()
        if not found:
            await self.line.pause(0.1)
            return
        await self._transaction(found)

    async def _consume(self) -> dict[int, tuple[int, list[Seen]]]:
        """Of each assigned partition: where to go on, and a few records."""
        assert self.positions is not None
        found = {}
        most = 10_000 if self.worker.checker.setting.healed else self.random.randrange(1, 30)
        for index, position in self.positions.items():
            read = await self._read(index, position)
            if read is not None and read[1]:
                records = read[1][:most]
                found[index] = (records[-1].offset + 1, records)
        return found

    async def _read(self, index: int, position: int) -> tuple[int, list[Seen]] | None:
        line = self.line
        known = await line.partition(self.worker.input, index)
        if known is None or known[1].leader == NO_LEADER:
            line.forget()
            return None
        topic_id, state = known
        host = line.hosts[state.leader - 1]
        try:
            found = await read_committed(line, host, topic_id, index, position, epoch=state.leader_epoch, rack=None)
        except (Unanswered, Unreached):
            found = None
        if found is None:
            line.forget()
        return found

    async def _transaction(self, found: dict[int, tuple[int, list[Seen]]]) -> None:
        self._attempts += 1
        worker = self.worker
        attempt = worker.history.begin(f"{self.name}.{self._attempts}")
        sources = [Source(index, record.offset) for index, (_, records) in found.items() for record in records]
        values = [value_of(attempt.name, source) for source in sources]
        commit = self.random.random() < 0.85
        impatient = worker.checker.setting.random(f"{attempt.name} is impatient")
        forgets = not commit and not worker.checker.setting.healed and impatient.random() < 0.5
        producer = self.producer
        worker.trace("begins", self, attempt.name, sources, f"producer {producer.producer_id} epoch {producer.epoch}")
        try:
            for index in self.random.sample(range(OUTPUT_PARTITIONS), OUTPUT_PARTITIONS):
                await self._step("produce")
                await self.producer.write(attempt, (OUTPUT, index), values)
            if forgets:  # as librdkafka does, which lets go of what it has sent when it aborts
                await self.producer.send(attempt, (OUTPUT, 0), values, impatient.random() ** 3 * LATEST_S)
            await self._step("offsets")
            await self.producer.commit_offsets(self.member, {index: end for index, (end, _) in found.items()})
            await self._step("end")
            await self.producer.end(attempt, commit=commit)
            if forgets:
                await self.producer.given_up()
        except Abortable as error:
            worker.trace("gives up", self, attempt.name, error)
            await self._abort(attempt)
            return
        worker.trace("committed" if commit else "aborted", self, attempt.name)
        worker.note("transaction committed" if commit else "transaction aborted")
        await self._step("ended")
        if commit:
            assert self.positions is not None
            self.positions |= {index: end for index, (end, _) in found.items()}
        else:
            self.positions = None

    async def _abort(self, attempt: Attempt) -> None:
        """Raises Fenced, also when that does not go: who begins again aborts what there is."""
        self.positions = None
        self.worker.note("transaction given up")
        try:
            await self.producer.end(attempt, commit=False)
            await self.producer.given_up()
        except Abortable:
            raise Fenced from None

    async def _step(self, name: str) -> None:
        """It may hang here; and what it needs next may break."""
        await self.held.wait()
        self.worker.step(name, self.worker)
        await self.held.wait()


class Worker(Client):
    """`step` is told of each step of each transaction."""

    def __init__(
        self, *arguments: Any, history: History, topic: str, partitions: int, step: Step, line: Callable[[str], Line]
    ) -> None:
        super().__init__(*arguments)
        self.history, self.input, self.partitions, self.step, self.line = history, topic, partitions, step, line
        self.transactional_id = self.name
        self.instance: Instance | None = None
        self.lives: dict[Instance, asyncio.Task[None]] = {}  # those that have not ended, hanging ones too
        self._count = 0
        self._over = asyncio.Event()

    def trace(self, what: str, instance: Instance, *details: Any) -> None:
        self.checker.setting.trace(what, instance.name, *details)

    def note(self, what: str) -> None:
        self.checker.setting.coverage.note(what)

    async def run(self) -> None:
        while not self.stopped:
            self._count += 1
            self._over.clear()
            self.instance = instance = Instance(self, f"{self.name}-{self._count}")
            self.lives[instance] = task = self.calls.loop.create_task(instance.run())
            task.add_done_callback(partial(self._ended, instance))
            await self._over.wait()
            await self.pause(0.05)

    def _ended(self, instance: Instance, task: asyncio.Task[None]) -> None:
        del self.lives[instance]
        if instance is self.instance:
            self._over.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            where = "".join(format_exception(error)[-4:])
            self.checker.fail(Violation("nothing unexpected", f"{instance.name}: {where}"))

    def kill(self, *, for_good: bool = False) -> None:
        """It ends at once, wherever it is; the next life begins soon, unless it is `for_good`."""
        self.stopped |= for_good
        task = self.lives.get(self.instance) if self.instance is not None else None
        if task is not None and self.instance is not None:
            self.note("producer killed")
            task.cancel()
            self.instance.line.reconnect()  # by nobody: the connection of a killed process closes

    def hang(self, duration_s: float) -> None:
        """It does nothing for that long, and its successor begins meanwhile."""
        instance = self.instance
        if instance in self.lives and instance.held.is_set():
            self.note("producer hung")
            instance.held.clear()
            self._over.set()
            self.calls.loop.call_later(duration_s, instance.held.set)

    def wake(self) -> None:
        """Whoever hangs goes on."""
        for instance in self.lives:
            instance.held.set()

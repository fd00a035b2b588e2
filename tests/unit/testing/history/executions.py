"""Random executions of a correct log with transactions, as its clients tell of them: what the checker must acquit.

A world of one clock: producers with records under way, transactions of which some abort, time out or lose the answer to
their commit, copiers that read, write and commit offsets in transactions, readers of both isolation levels that begin
anew now and then. What an outcome calls unknown happened or did not, at any time until it could not any more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from ottla.testing.history import (
    Assigned,
    At,
    Begin,
    Commit,
    End,
    EndOffsets,
    OffsetFetch,
    Operation,
    Outcome,
    Poll,
    Revoked,
    Seen,
    Send,
    TopicPartition,
)

INPUT, OUTPUT, PLAIN = "input", "output", "plain"
GROUP = "copiers"


@dataclass(slots=True)
class Entry:
    """One offset: a record, or (value None) the marker of a transaction."""

    value: str | None
    transaction: str | None


@dataclass(slots=True)
class Partition:
    """A log; the high watermark is its end."""

    entries: list[Entry] = field(default_factory=list)
    open: dict[str, int] = field(default_factory=dict)  # first offsets of transactions without a marker
    aborted: set[str] = field(default_factory=set)

    def append(self, value: str, transaction: str | None) -> int:
        if transaction is not None:
            self.open.setdefault(transaction, len(self.entries))
        self.entries.append(Entry(value, transaction))
        return len(self.entries) - 1

    def end_transaction(self, transaction: str, commit: bool) -> None:
        if self.open.pop(transaction, None) is not None:
            self.entries.append(Entry(None, transaction))
            if not commit:
                self.aborted.add(transaction)

    def end(self, committed: bool) -> int:
        return min(self.open.values(), default=len(self.entries)) if committed else len(self.entries)


class World:
    """All partitions, and what clients did so far."""

    def __init__(self, random: Random, partitions: int = 2) -> None:
        self.random, self.now_ns = random, 0
        self.operations: list[Operation] = []
        self.logs = {
            TopicPartition(topic, number): Partition()
            for topic in (INPUT, OUTPUT, PLAIN)
            for number in range(partitions)
        }
        self.offsets: dict[TopicPartition, int] = {}
        self.values = 0

    def tick(self) -> int:
        self.now_ns += self.random.randint(1, 1000)
        return self.now_ns

    def value(self) -> str:
        self.values += 1
        return f"v{self.values}"

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def partition_of(self, topic: str) -> TopicPartition:
        return self.random.choice([one for one in self.logs if one.topic == topic])


@dataclass(slots=True)
class Flight:
    """A record under way."""

    value: str
    to: TopicPartition
    invoked_ns: int
    source: At | None = None
    offset: int | None = None  # in the log


class Producer:
    """Idempotent: records of one partition arrive in the order in which they were sent, or not at all."""

    def __init__(self, world: World, name: str, transaction: str | None = None) -> None:
        self.world, self.name, self.transaction = world, name, transaction
        self.flying: list[Flight] = []

    def send(self, to: TopicPartition, value: str, source: At | None = None) -> None:
        self.flying.append(Flight(value, to, self.world.tick(), source))

    def arrive(self) -> None:
        """The oldest that is not in its log gets there."""
        for one in self.flying:
            if one.offset is None:
                one.offset = self.world.logs[one.to].append(one.value, self.transaction)
                return

    def answer(self, *, lost: float = 0.1) -> bool:
        """The client hears of one, or gives it up; False when it does not know how that ended."""
        if not self.flying:
            return True
        number = self.world.random.randrange(len(self.flying))
        one = self.flying[number]
        known = one.offset is not None and not self.world.chance(lost)
        if not known and one.offset is None:
            # What was sent behind it comes under a new epoch: this one does not arrive later.
            number, one = 0, self.flying[0]
            known = False
        del self.flying[number]
        self.world.operations.append(
            Send(
                process=self.name,
                invoked_ns=one.invoked_ns,
                completed_ns=self.world.tick() if known or self.world.chance(0.5) else None,
                outcome=Outcome.OK if known else Outcome.UNKNOWN,
                topic=one.to.topic,
                partition=one.to.partition,
                value=one.value,
                offset=one.offset if known and one.offset is not None else -1,
                transaction=self.transaction,
                source=one.source,
            )
        )
        return known

    def step(self) -> None:
        """Of a producer without transactions."""
        match self.world.random.randrange(4):
            case 0:
                self._send_some()
            case 1:
                self.answer()
            case _:
                self.arrive()

    def _send_some(self) -> None:
        for _ in range(self.world.random.randint(1, 3)):
            self.send(self.world.partition_of(self.world.random.choice([INPUT, PLAIN])), self.world.value())


class Reader:
    """Reads all partitions of some topics."""

    def __init__(
        self, world: World, name: str, committed: bool, topics: tuple[str, ...] = (INPUT, OUTPUT, PLAIN)
    ) -> None:
        self.world, self.name, self.committed = world, name, committed
        self.positions = {one: 0 for one in world.logs if one.topic in topics}
        self.assign()

    def assign(self) -> None:
        now = self.world.tick()
        self.world.operations.append(
            Assigned(
                process=self.name,
                invoked_ns=now,
                completed_ns=self.world.tick(),
                outcome=Outcome.OK,
                partitions=tuple(self.positions),
                starts=tuple(At(*one, at) for one, at in self.positions.items()) if self.world.chance(0.5) else (),
            )
        )

    def step(self) -> None:
        if self.world.chance(0.03):
            self.positions = {
                one: self.world.random.randint(0, self.world.logs[one].end(self.committed)) for one in self.positions
            }
            self.assign()
        else:
            self.poll()

    def poll(self, limit: int | None = None, transaction: str | None = None) -> tuple[Seen, ...]:
        invoked_ns = self.world.tick()
        records: list[Seen] = []
        for partition in self.positions:
            records += self._read(partition, limit or self.world.random.randint(0, 4))
        self.world.operations.append(
            Poll(
                process=self.name,
                invoked_ns=invoked_ns,
                completed_ns=self.world.tick(),
                outcome=Outcome.OK,
                records=tuple(records),
                committed=self.committed,
                positions=tuple(At(*one, at) for one, at in self.positions.items()) if self.world.chance(0.3) else (),
                transaction=transaction,
            )
        )
        return tuple(records)

    def _read(self, partition: TopicPartition, limit: int) -> list[Seen]:
        log = self.world.logs[partition]
        found: list[Seen] = []
        while self.positions[partition] < log.end(self.committed) and len(found) < limit:
            offset = self.positions[partition]
            entry = log.entries[offset]
            self.positions[partition] += 1
            if entry.value is not None and not (self.committed and entry.transaction in log.aborted):
                found.append(Seen(*partition, offset, entry.value, None, entry.transaction))
        return found


class Copier:
    """A line of processes that copy one partition of the input each, in transactions, one after the other."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.generation = world, number, 0
        self.own = [one for one in world.logs if one.topic == INPUT][number]
        self.transactions = 0
        self.todo: list[Callable[[], None]] = []
        self.begin_anew()

    def begin_anew(self) -> None:
        """Another process takes over, and reads where the group's offset is."""
        self.generation += 1
        name = f"copier-{self.number}.{self.generation}"
        self.reader = Reader(self.world, name, True, ())
        now = self.world.tick()
        start = self.world.offsets.get(self.own, 0)
        self.reader.positions = {self.own: start}
        self.world.operations += [
            OffsetFetch(
                process=name,
                invoked_ns=now,
                completed_ns=self.world.tick(),
                outcome=Outcome.OK,
                group=GROUP,
                offsets=(At(*self.own, self.world.offsets.get(self.own, -1)),),
            ),
            Assigned(
                process=name,
                invoked_ns=now,
                completed_ns=self.world.tick(),
                outcome=Outcome.OK,
                group=GROUP,
                generation=self.generation,
                partitions=(self.own,),
                starts=(At(*self.own, start),),
            ),
        ]

    def step(self) -> None:
        if not self.todo:
            self.plan()
        self.todo.pop(0)()

    def plan(self) -> None:
        """The steps of one transaction, each at a time of its own."""
        world, name = self.world, self.reader.name
        self.transactions += 1
        transaction = f"t{self.number}.{self.transactions}"
        producer = Producer(world, name, transaction)
        at = self.reader.positions[self.own]
        known = True

        def begin() -> None:
            now = world.tick()
            world.operations.append(
                Begin(
                    process=name,
                    invoked_ns=now,
                    completed_ns=world.tick(),
                    outcome=Outcome.OK,
                    transaction=transaction,
                    transactional_id=str(self.number),
                )
            )

        def read() -> None:
            for record in self.reader.poll(3, transaction):
                producer.send(world.partition_of(OUTPUT), f"copy of {record.value}", At(*record[:3]))

        def answer() -> None:
            nonlocal known
            producer.arrive()
            known &= producer.answer(lost=0.05)

        def end() -> None:
            commit = known and not world.chance(0.2)
            while producer.flying:
                producer.answer(lost=0.0)
            self._end(transaction, commit, at)

        self.todo = [begin, read, *[answer] * world.random.randint(3, 9), end]

    def _end(self, transaction: str, commit: bool, start: int) -> None:
        world, name = self.world, self.reader.name
        after = self.reader.positions[self.own]
        crashed = world.chance(0.1)
        lost = world.chance(0.2)
        decided = commit and not crashed and not (lost and world.chance(0.5))
        touched = [log for one, log in world.logs.items() if transaction in log.open]
        world.random.shuffle(touched)
        if commit and not crashed and after != start:
            now = world.tick()
            world.operations.append(
                Commit(
                    process=name,
                    invoked_ns=now,
                    completed_ns=world.tick(),
                    outcome=Outcome.OK,
                    group=GROUP,
                    offsets=(At(*self.own, after),),
                    transaction=transaction,
                )
            )
        asked_ns = world.tick()

        def finish() -> None:
            if decided and after != start:
                world.offsets[self.own] = after
            if not crashed:
                world.operations.append(
                    End(
                        process=name,
                        invoked_ns=asked_ns,
                        completed_ns=None if lost else world.tick(),
                        outcome=Outcome.UNKNOWN if lost else Outcome.OK,
                        transaction=transaction,
                        commit=commit,
                    )
                )
            if crashed or lost:
                self.begin_anew()
            elif not commit:
                self.reader.positions[self.own] = start
                self.reader.assign()

        self.todo = [*[lambda log=log: log.end_transaction(transaction, decided) for log in touched], finish]


def execution(seed: int, steps: int = 300) -> list[Operation]:
    """What clients tell of a run, up to its end, at which all was read."""
    world = World(Random(seed))
    producers = [Producer(world, f"producer-{number}") for number in range(2)]
    readers = [Reader(world, "committed", True), Reader(world, "uncommitted", False)]
    copiers = [Copier(world, number) for number in range(2)]
    actors: list[Producer | Reader | Copier] = [*producers, *readers, *copiers, *copiers]
    for _ in range(steps):
        world.random.choice(actors).step()
    for copier in copiers:
        while copier.todo:
            copier.step()
    for producer in producers:
        while producer.flying:
            producer.arrive()
            producer.answer()
    _finish(world)
    return world.operations


def _finish(world: World) -> None:
    for committed in (True, False):
        reader = Reader(world, f"final-{committed}", committed)
        while any(at < world.logs[one].end(committed) for one, at in reader.positions.items()):
            reader.poll(1000)
        now = world.tick()
        world.operations.append(
            EndOffsets(
                process=reader.name,
                invoked_ns=now,
                completed_ns=world.tick(),
                outcome=Outcome.OK,
                offsets=tuple(At(*one, log.end(committed)) for one, log in world.logs.items()),
                committed=committed,
                final=True,
            )
        )
    now = world.tick()
    world.operations += [
        OffsetFetch(
            process="final",
            invoked_ns=now,
            completed_ns=world.tick(),
            outcome=Outcome.OK,
            group=GROUP,
            offsets=tuple(At(*one, world.offsets.get(one, -1)) for one in world.logs if one.topic == INPUT),
            final=True,
        ),
        Revoked(
            process="final-True",
            invoked_ns=now,
            completed_ns=world.tick(),
            outcome=Outcome.OK,
            partitions=tuple(world.logs),
        ),
    ]

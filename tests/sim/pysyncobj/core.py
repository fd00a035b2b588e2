"""Our own core as a `System`, with a driver of a few lines that syncs at once."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Config, Entry, EntryKind, HardState, Member, Membership, NotLeading, Raft, Ready, Snapshot
from ottla.raft.core.leader import Leader
from ottla.raft.core.messages import Message
from tests.sim.pysyncobj.disk import SimDisk
from tests.sim.pysyncobj.scenario import MEMBERS, Done, Peer, Run
from tests.sim.pysyncobj.state import State

IDS = {name: Member(NodeId(n), Uuid(bytes([n]) + bytes(15))) for n, name in enumerate(MEMBERS, 1)}
NAMES = {member: name for name, member in IDS.items()}
COMPACT_AFTER = 20


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A command on its way to the leader; the answer goes back under its number."""

    number: int
    command: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    number: int
    answer: bytes


@dataclass
class Journal:
    """What a member keeps. Its methods are single writes."""

    hard_state: HardState
    snapshot: Snapshot
    entries: list[Entry] = field(default_factory=list)

    def copy(self) -> "Journal":
        return Journal(self.hard_state, self.snapshot, list(self.entries))

    def persist(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.snapshot, self.entries = ready.snapshot, []
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.entries:
            first = ready.entries[0].index
            self.entries = [entry for entry in self.entries if entry.index < first] + list(ready.entries)

    def compact(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.entries = [entry for entry in self.entries if entry.index > snapshot.index]


class CorePeer:
    """The process of one member."""

    def __init__(self, run: Run, name: str, *, syncs: bool) -> None:
        self._run, self._name, self._syncs = run, name, syncs
        self._disk: SimDisk[Journal] = run.disks[name]
        journal = self._disk.content
        config = Config(member=IDS[name], chunk_bytes=1024, kept_entries=5, max_append_bytes=1024)
        self._core = Raft(config, run.random, journal.hard_state, journal.snapshot, list(journal.entries))
        self._state, self._index = State(), 0
        if journal.snapshot.data:
            self._restore(journal.snapshot)
        self._waiting: dict[int, tuple[int, Done]] = {}  # index → term, whom to tell
        self._forwarded: dict[int, Done] = {}
        self._count = int(run.clock.monotonic_ms()) * 1000  # no number of an earlier life comes again

    @property
    def leads(self) -> bool:
        return isinstance(self._core.role, Leader)

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def commit(self) -> int:
        return self._core.log.commit

    @property
    def applied(self) -> list[bytes]:
        return self._state.applied

    def tick(self) -> None:
        self._core.tick()
        self._pump()
        if self._index - self._core.log.snapshot.index > COMPACT_AFTER:
            snapshot = self._core.compact(self._index, pickle.dumps(self._state))
            self._write(lambda journal: journal.compact(snapshot))

    def connection(self, other: str, up: bool) -> None:
        if not up:
            self._core.unreachable(IDS[other])
            self._pump()

    def receive(self, source: str, message: Message | Forwarded | Answered) -> None:
        match message:
            case Forwarded(number, command):
                self._propose(command, lambda answer: self._answer(source, number, answer))
            case Answered(number, answer):
                if (done := self._forwarded.pop(number, None)) is not None:
                    done(answer)
            case _:
                self._core.step(message)
        self._pump()

    def submit(self, command: bytes, done: Done) -> None:
        leader = self._core.leader
        if self.leads or leader is None:
            self._propose(command, done)
        else:
            self._count += 1
            self._forwarded[self._count] = done
            self._run.network.send(self._name, NAMES[leader], Forwarded(self._count, command))
        self._pump()

    def _propose(self, command: bytes, done: Done) -> None:
        try:
            index, term = self._core.propose(command)
        except NotLeading:
            done(None)
        else:
            self._waiting[index] = (term, done)

    def _answer(self, source: str, number: int, answer: bytes | None) -> None:
        if answer is not None:
            self._run.network.send(self._name, source, Answered(number, answer))

    def _pump(self) -> None:
        while (ready := self._core.ready()) is not None:
            self._send(ready.messages)
            if ready.must_persist:
                self._write(partial(Journal.persist, ready=ready))
            if ready.snapshot is not None:
                self._restore(ready.snapshot)
            for entry in ready.committed:
                self._apply(entry)
            self._send(ready.messages_after_sync)
            self._core.persisted(ready.number)

    def _write(self, change: Callable[[Journal], None]) -> None:
        self._disk.write(change)
        if self._syncs:
            self._disk.sync()

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            self._run.network.send(self._name, NAMES[message.target], message)

    def _apply(self, entry: Entry) -> None:
        self._index = entry.index
        term, done = self._waiting.pop(entry.index, (0, None))
        if entry.kind is EntryKind.DATA:
            self._run.invariants.applied(self._name, len(self._state.applied), entry.data)
            answer = self._state.execute(entry.data)
            if done is not None:
                done(answer if entry.term == term else None)

    def _restore(self, snapshot: Snapshot) -> None:
        self._state, self._index = pickle.loads(snapshot.data), snapshot.index
        self._run.invariants.restored(self._name, self._state.applied)


class Core:
    """The `System`. Without `syncs`, its driver believes that what is written is durable."""

    def __init__(self, *, syncs: bool = True) -> None:
        self._syncs = syncs

    @contextmanager
    def around(self, run: Run) -> Iterator[None]:
        yield

    def disk_content(self) -> Journal:
        return Journal(HardState(0, None), Snapshot(0, 0, Membership(frozenset(IDS.values())), b""))

    def start(self, name: str, run: Run) -> Peer:
        return CorePeer(run, name, syncs=self._syncs)

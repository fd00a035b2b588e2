"""A few cores, a network that loses, repeats and reorders, journals that sync late, and crashes: all from one seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Config, Entry, EntryKind, HardState, Member, Membership, Raft, Ready, Snapshot
from ottla.raft.core.leader import Leader
from ottla.raft.core.messages import Message


def member(number: int, life: int = 0) -> Member:
    return Member(NodeId(number), Uuid(bytes([number, life]) + bytes(14)))


@dataclass
class Journal:
    """What is on stable storage."""

    hard_state: HardState
    snapshot: Snapshot
    entries: list[Entry] = field(default_factory=list)

    def persist(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.snapshot, self.entries = ready.snapshot, []
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.entries:
            first = ready.entries[0].index
            self.entries = [e for e in self.entries if e.index < first] + list(ready.entries)


class Node:
    """A core with its journal, and a state machine that is the list of what it applied."""

    def __init__(self, cluster: "Cluster", me: Member, voters: Sequence[Member]) -> None:
        self.cluster, self.me = cluster, me
        self.journal = Journal(HardState(0, None), Snapshot(0, 0, Membership(frozenset(voters)), b""))
        self.alive = False
        self.start()

    def start(self) -> None:
        config = Config(
            member=self.me, election_ticks=10, heartbeat_ticks=2, max_append_bytes=200, max_in_flight_bytes=600,
            chunk_bytes=16, kept_entries=3,
        )  # fmt: skip
        journal = self.journal
        self.core = Raft(config, self.cluster.random, journal.hard_state, journal.snapshot, list(journal.entries))
        self.applied = list(journal.snapshot.data)
        self.applied_index = journal.snapshot.index
        self.unsynced: list[Ready] = []
        self.reads: list[tuple[object, int]] = []
        self.alive = True

    def crash(self) -> None:
        self.alive = False

    def pump(self) -> None:
        while (ready := self.core.ready()) is not None:
            for message in ready.messages:
                self.cluster.send(message)
            if ready.snapshot is not None:
                self.applied, self.applied_index = list(ready.snapshot.data), ready.snapshot.index
            for entry in ready.committed:
                assert entry.index == self.applied_index + 1
                self.applied_index = entry.index
                self.cluster.note_applied(entry)
                if entry.kind is EntryKind.DATA:
                    self.applied.append(entry.data[0])
            self.reads += [(r.context, r.index) for r in ready.reads]
            self.unsynced.append(ready)

    def sync(self, count: int) -> None:
        for ready in self.unsynced[:count]:
            self.journal.persist(ready)
            for message in ready.messages_after_sync:
                self.cluster.send(message)
            self.core.persisted(ready.number)
        del self.unsynced[:count]

    def compact(self) -> None:
        if self.applied_index > self.core.log.snapshot.index:
            snapshot = self.core.compact(self.applied_index, bytes(self.applied))
            self.sync(len(self.unsynced))  # a driver writes the snapshot after what is queued
            self.journal.snapshot = snapshot
            self.journal.entries = [e for e in self.journal.entries if e.index > snapshot.index]


class Cluster:
    """Runs and checks: one leader a term, one entry an index, nothing committed is ever lost."""

    def __init__(self, seed: int, size: int = 3) -> None:
        self.random = random.Random(seed)
        members = [member(n) for n in range(1, size + 1)]
        self.wire: list[Message] = []
        self.cut: set[tuple[Member, Member]] = set()
        self.loss = 0.0
        self.leaders: dict[int, Member] = {}
        self.committed: dict[int, Entry] = {}
        self.nodes = {m: Node(self, m, members) for m in members}

    def send(self, message: Message) -> None:
        if (message.source, message.target) in self.cut or self.random.random() < self.loss:
            return
        self.wire.append(message)
        if self.loss and self.random.random() < 0.05:
            self.wire.append(message)

    def note_applied(self, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"two entries committed at {entry.index}: {known} and {entry}"

    def check(self) -> None:
        """Election safety, and leader completeness: what was committed is in the log of every later leader."""
        for node in self.nodes.values():
            core = node.core
            if node.alive and isinstance(core.role, Leader):
                known = self.leaders.setdefault(core.term, node.me)
                assert known == node.me, f"{known} and {node.me} lead term {core.term}"
                for index, entry in self.committed.items():
                    if core.log.base_index < index and entry.term < core.term:
                        assert core.log.term_at(index) == entry.term, f"leader {node.me} lacks committed entry {index}"

    def deliver(self, position: int) -> None:
        message = self.wire.pop(position)
        node = self.nodes.get(message.target)
        if node is not None and node.alive:
            node.core.step(message)
            node.pump()

    def settle(self, ticks: int = 200) -> None:
        """No faults any more: everybody is up, the wire is good."""
        self.loss, self.cut = 0.0, set()
        for node in self.nodes.values():
            if not node.alive:
                node.start()
        for _ in range(ticks):
            for node in self.nodes.values():
                node.core.tick()
                node.pump()
            self.drain()

    def drain(self) -> None:
        for _ in range(10_000):
            for node in self.nodes.values():
                if node.alive and node.unsynced:
                    node.sync(len(node.unsynced))
                    node.pump()
            if not self.wire and not any(n.alive and n.unsynced for n in self.nodes.values()):
                self.check()
                return
            while self.wire:
                self.deliver(0)
        raise AssertionError("messages never end")

    def leader(self) -> Node | None:
        found = [n for n in self.nodes.values() if n.alive and isinstance(n.core.role, Leader)]
        return max(found, key=lambda n: n.core.term, default=None)

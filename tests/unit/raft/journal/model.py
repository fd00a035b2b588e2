"""A journal on simulated files, and beside it a dumb model of what may be found at a start.

The model keeps every state that the log may be in: one, unless a `persist` did not return.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Entry, EntryKind, HardState, Member, Membership, Snapshot
from ottla.raft.journal import Journal, Stored
from ottla.testing.sim.files import PowerCut, SimFiles

DIRECTORY = "quorum"
ONE = Member(NodeId(1), Uuid(b"1" * 16))
TWO = Member(NodeId(2), Uuid(b"2" * 16))
BOOTSTRAP = Membership(frozenset({ONE, TWO}), endpoints={ONE: "localhost:1", TWO: "localhost:2"})
OTHERS = Membership(frozenset({ONE}), frozenset({TWO}))
SEGMENT_BYTES = 1000
NO_STATE = HardState(0, None)


@dataclass(frozen=True, slots=True)
class Handed:
    """The protocol `Change`."""

    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    entries: Sequence[Entry] = ()


def entry(index: int, term: int = 1, size: int = 20) -> Entry:
    return Entry(index, term, EntryKind.DATA, b"%d/%d;" % (index, term) * size, index % 7, index, index // 2)


def entries(start: int, stop: int, term: int = 1, size: int = 20) -> Handed:
    return Handed(entries=[entry(index, term, size) for index in range(start, stop)])


def snapshot(index: int, term: int = 1, size: int = 100) -> Snapshot:
    return Snapshot(index, term, OTHERS, b"state %d " % index * size)


@dataclass(frozen=True)
class State:
    """What a start may find."""

    hard_state: HardState
    base: Snapshot
    entries: tuple[Entry, ...] = ()

    @property
    def last_index(self) -> int:
        return self.base.index + len(self.entries)

    def term_at(self, index: int) -> int:
        return self.base.term if index == self.base.index else self.entries[index - self.base.index - 1].term

    def steps(self, changes: Sequence[Handed]) -> Iterator["State"]:
        """The state after each part of the changes."""
        state = self
        for change in changes:
            if change.hard_state is not None:
                yield (state := replace(state, hard_state=change.hard_state))
            if change.snapshot is not None:
                yield (state := State(state.hard_state, change.snapshot))
            for one in change.entries:
                kept = state.entries[: one.index - state.base.index - 1]
                yield (state := replace(state, entries=(*kept, one)))

    def holds(self, place: Snapshot) -> bool:
        return self.base.index <= place.index <= self.last_index and self.term_at(place.index) == place.term

    def compacted(self, own: Snapshot) -> "State":
        return State(self.hard_state, own, self.entries[own.index - self.base.index :])


@dataclass
class Subject:
    """Use `open`, then what a journal can do; `restart` and `cut_power` at any time."""

    files: SimFiles = field(default_factory=SimFiles)
    segment_bytes: int = SEGMENT_BYTES
    possible: list[State] = field(default_factory=lambda: [State(NO_STATE, Snapshot(0, 0, BOOTSTRAP, b""))])
    saved: list[Snapshot] = field(default_factory=list)  # certainly there, unless trimmed
    perhaps_saved: list[Snapshot] = field(default_factory=list)

    @property
    def state(self) -> State:
        (state,) = self.possible
        return state

    def open(self) -> Stored:
        self.journal, stored = Journal.open(
            self.files, DIRECTORY, member=ONE, bootstrap=BOOTSTRAP, segment_bytes=self.segment_bytes
        )
        assert self._explains(stored), f"{stored} is none of {self.possible}"
        self.possible = [State(stored.hard_state, stored.snapshot, tuple(stored.entries))]
        self.saved, self.perhaps_saved = [], []
        return stored

    def _explains(self, stored: Stored) -> bool:
        return any(self._is(stored, state) for state in self.possible)

    def _is(self, stored: Stored, state: State) -> bool:
        at_least = max([one.index for one in self.saved if state.holds(one)], default=state.base.index)
        for own in [state.base, *self.saved, *self.perhaps_saved]:
            if state.holds(own) and own.index >= at_least:
                expected = state.compacted(own)
                found = (stored.hard_state, stored.snapshot, tuple(stored.entries))
                if found == (expected.hard_state, expected.base, expected.entries):
                    return True
        return False

    def persist(self, *changes: Handed) -> None:
        before = self.state
        self.possible = [before, *before.steps(changes)]
        # A snapshot that is named before it counts.
        self.perhaps_saved += [change.snapshot for change in changes if change.snapshot is not None]
        self.journal.persist(changes)
        self.possible = self.possible[-1:]

    def save(self, own: Snapshot) -> None:
        self.perhaps_saved.append(own)
        self.journal.save_snapshot(own)
        self.saved.append(own)

    def trim(self, own: Snapshot) -> None:
        self.journal.trim(own)

    def restart(self) -> Stored:
        """The process ends and comes again; what was written can be read."""
        return self.open()

    def cut_power(self, seed: int) -> Stored:
        self.heal()
        self.files.crash(Random(seed))
        return self.open()

    def heal(self) -> None:
        """No operation fails any more."""
        self.files.before = None

    def fail_at(self, number: int, error: Callable[[], BaseException] = PowerCut) -> None:
        """In place of the operation of this number from now on, the first being 0."""
        at = self.files.operations + number + 1

        def before(operation: str, path: str) -> None:
            if self.files.operations == at:
                raise error()

        self.files.before = before

    def names(self) -> list[str]:
        return self.files.list_directory(DIRECTORY)


def opened(segment_bytes: int = SEGMENT_BYTES) -> Subject:
    subject = Subject(segment_bytes=segment_bytes)
    subject.open()
    return subject

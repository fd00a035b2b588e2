"""Random lives against the dumb model: any changes, any failure at any operation, one start after the other."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import StorageError
from ottla.raft.core import Entry, HardState, Snapshot
from ottla.testing.sim.files import PowerCut
from tests.unit.raft.journal.model import ONE, TWO, Handed, State, Subject, entry, snapshot


@dataclass(frozen=True)
class Change:
    """One change, relative to what is there."""

    terms: int  # by which the term is raised; 0: perhaps only a vote
    vote: int
    back: int  # entries that are replaced
    count: int
    size: int
    received: int  # how far beyond the log a received snapshot lies; 0: none

    def handed(self, state: State, floor: int) -> Handed:
        hard, last = state.hard_state, state.last_index
        term = hard.term + self.terms
        vote = (None, ONE, TWO)[self.vote] if self.terms or hard.vote is None else hard.vote
        changed = HardState(term, vote) if (term, vote) != (hard.term, hard.vote) else None
        received: Snapshot | None = None
        if self.received:
            last += self.received
            received = snapshot(last, term, self.size)
        first = last + 1 if received else max(last + 1 - self.back, floor + 1)
        added: Sequence[Entry] = [entry(index, term, self.size) for index in range(first, first + self.count)]
        return Handed(changed, received, added)


@dataclass(frozen=True)
class Persist:
    changes: list[Change]

    def do(self, subject: Subject, floor: int) -> int:
        state, handed = subject.state, []
        for change in self.changes:
            one = change.handed(state, floor)
            handed.append(one)
            state = [state, *state.steps([one])][-1]
            floor = max(floor, state.base.index)
        subject.persist(*handed)
        return floor


@dataclass(frozen=True)
class Save:
    back: int
    trims: bool

    def do(self, subject: Subject, floor: int) -> int:
        state = subject.state
        index = max(state.last_index - self.back, floor)
        if index == state.base.index:
            return floor
        own = snapshot(index, state.term_at(index))
        subject.save(own)
        if self.trims:
            subject.trim(own)
        return index


@dataclass(frozen=True)
class Restart:
    def do(self, subject: Subject, floor: int) -> int:
        return subject.restart().snapshot.index


@dataclass(frozen=True)
class CutPower:
    seed: int

    def do(self, subject: Subject, floor: int) -> int:
        return subject.cut_power(self.seed).snapshot.index


@dataclass(frozen=True)
class Failure:
    """Of the operation that is so many ahead; a power cut when there is no code."""

    ahead: int
    code: int


Step = Persist | Save | Restart | CutPower | Failure
numbers = st.integers(0, 2**32)
changes = st.builds(
    Change,
    terms=st.sampled_from([0, 0, 0, 1, 3]),
    vote=st.integers(0, 2),
    back=st.sampled_from([0, 0, 0, 1, 4, 9]),
    count=st.sampled_from([0, 1, 1, 2, 6]),
    size=st.sampled_from([0, 1, 10, 40, 120]),
    received=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 7]),
)
failures = st.builds(Failure, st.integers(0, 12), st.sampled_from([0, 0, errno.EIO, errno.ENOSPC]))
steps = st.one_of(
    st.builds(Persist, st.lists(changes, max_size=3)),
    st.builds(Persist, st.lists(changes, min_size=1, max_size=1)),
    st.builds(Save, st.integers(0, 6), st.booleans()),
    st.builds(Restart),
    st.builds(CutPower, numbers),
    failures,
)


class Life:
    """Does the steps; after a failure the journal must refuse everything, and the next start come to terms with it."""

    def __init__(self, segment_bytes: int) -> None:
        self.subject = Subject(segment_bytes=segment_bytes)
        self.floor = self.subject.open().snapshot.index

    def do(self, step: Step, seed: int) -> None:
        if isinstance(step, Failure):
            error: Callable[[], BaseException] = PowerCut if not step.code else lambda: OSError(step.code, "it failed")
            self.subject.fail_at(step.ahead, error)
            return
        try:
            self.floor = step.do(self.subject, self.floor)
        except PowerCut:
            self.floor = self.subject.cut_power(seed).snapshot.index
        except OSError:
            self.subject.heal()
            if isinstance(step, Persist):
                with pytest.raises(StorageError, match="failed before"):
                    self.subject.journal.persist([])
            self.floor = self.subject.restart().snapshot.index if seed % 2 else self._cut_power(seed)

    def _cut_power(self, seed: int) -> int:
        return self.subject.cut_power(seed).snapshot.index


@settings(max_examples=150)
@given(st.lists(st.tuples(steps, numbers), min_size=10, max_size=60), st.sampled_from([600, 1500, 20_000]))
def test_whatever_happens_a_start_finds_what_was_persisted_and_nothing_else(
    life: list[tuple[Step, int]], segment_bytes: int
) -> None:
    one = Life(segment_bytes)
    for step, seed in life:
        one.do(step, seed)
    one.subject.heal()
    one.subject.cut_power(len(life))

"""Which entries a log holds, by index and term, without their data: what reading and writing must agree on."""

from dataclasses import dataclass
from typing import Final

from ottla.raft.core import HardState, SafetyViolation

UNKNOWN_TERM: Final = -1


def check_order(before: HardState, after: HardState) -> None:
    """Raises SafetyViolation when a term or a vote would be forgotten."""
    if after.term < before.term or (after.term == before.term and before.vote not in (None, after.vote)):
        raise SafetyViolation(f"{after} after {before}")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """An entry's place in the log; by the Log Matching Property (section 5.3) it stands for all before it too."""

    index: int
    term: int


BEGINNING: Final = Place(0, 0)


class Outline:
    """The log begins after `base`; an entry at an index that is held replaces it and all after it."""

    __slots__ = ("_runs", "base", "last_index")

    def __init__(self, base: Place) -> None:
        self.restart(base)

    def restart(self, base: Place) -> None:
        """Nothing is held but what `base` stands for."""
        self.base = base
        self.last_index = base.index
        self._runs: list[Place] = [base]  # the first entry of each term

    def copy(self) -> "Outline":
        """One that changes apart from this one."""
        other = Outline(self.base)
        other.last_index, other._runs = self.last_index, list(self._runs)
        return other

    @property
    def last(self) -> Place:
        """Where the log ends."""
        return Place(self.last_index, self._runs[-1].term)

    def term_at(self, index: int) -> int | None:
        """None where nothing is held."""
        if not self.base.index <= index <= self.last_index:
            return None
        return next(run.term for run in reversed(self._runs) if run.index <= index)

    def put(self, index: int, term: int) -> None:
        """Raises SafetyViolation for a place where no entry may stand; nothing changes then."""
        if not self.base.index < index <= self.last_index + 1:
            raise SafetyViolation(f"entry {index} in a log of the entries {self.base.index + 1} to {self.last_index}")
        runs = self._runs
        keep = len(runs)
        while runs[keep - 1].index >= index:
            keep -= 1
        if term < runs[keep - 1].term:
            raise SafetyViolation(f"entry {index} of term {term} after one of term {runs[keep - 1].term}")
        del runs[keep:]
        if term > runs[-1].term:
            runs.append(Place(index, term))
        self.last_index = index

    def compact(self, base: Place) -> None:
        """A snapshot at `base`, which is held, stands for all up to there."""
        later = [run for run in self._runs if run.index > base.index]
        self.base, self._runs = base, [base, *later]

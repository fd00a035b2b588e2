"""Judges histories of a key-value store: is there one order of the operations that explains every answer, and in which
nothing comes before what had ended when it began?

Keys are judged one by one, which is enough: linearizability is local (Herlihy and Wing 1990). Of a history that fails,
the violation shows the few operations that it takes to see why.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from ottla.testing.sim.linearization import Search, Undecided
from ottla.testing.sim.register import Action, Operation, Outcome, Read, Value

MAX_STEPS = 1_000_000
_EXCERPT_STEPS = 3_000
_EXCERPT_TRIES = 600
_EXCERPT_WRITES = 4
_EXCERPT_WRITE_TRIES = 50

__all__ = ["MAX_STEPS", "Undecided", "Violation", "check"]


@dataclass(frozen=True, slots=True)
class Violation:
    """No order explains the answers of `key`.

    `answers` contradict each other even if every other operation took effect at any time after its invocation, or
    never; and, as far as the search could tell, none of them can be left out. `writes` are others that would resolve
    it, had they taken effect once more, or earlier (a few, of those near in time).
    """

    key: str
    answers: tuple[Operation, ...]
    writes: tuple[Operation, ...] = ()

    @property
    def excerpt(self) -> tuple[Operation, ...]:
        return tuple(sorted(self.answers + self.writes, key=lambda o: o.invoked))

    def __str__(self) -> str:
        lines = (f"  {operation}" for operation in self.excerpt)
        return "\n".join((f"no order of these operations on {self.key!r} explains their answers:", *lines))


def check(operations: Iterable[Operation], *, initial: Value = None, max_steps: int = MAX_STEPS) -> Violation | None:
    """The violation of the first key that has one, in the order of their first use; None for a linearizable history.

    Raises Undecided when a key takes more than `max_steps` configurations.
    """
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.outcome is not Outcome.FAILED:
            by_key[operation.key].append(operation)
    for key, of_key in by_key.items():
        if Search(of_key, initial).find(max_steps) is None:
            return _Excerpt(of_key, initial).violation(key)
    return None


class _Excerpt:
    """Makes a history that fails small."""

    def __init__(self, operations: Sequence[Operation], initial: Value) -> None:
        self._operations = operations
        self._weakened = [o.weakened for o in operations]
        self._initial = initial
        self._tries = 0

    def violation(self, key: str) -> Violation:
        answered = [i for i, o in enumerate(self._operations) if o.outcome is Outcome.OK]
        answered.sort(key=lambda i: self._operations[i].completed)
        kept = self._minimal(answered[: self._first_failure(answered)])
        answers = tuple(self._operations[i] for i in sorted(kept))
        return Violation(key, answers, self._missed(kept))

    def _first_failure(self, answered: Sequence[int]) -> int:
        """How many answers could be given before one cannot be explained, and that one."""
        low, high = 1, len(answered)
        while low < high:
            middle = (low + high) // 2
            if self._fails(answered[:middle]):
                high = middle
            else:
                low = middle + 1
        return high

    def _minimal(self, kept: list[int]) -> list[int]:
        """Leave out answers while the rest still fails, in ever smaller portions. Fewer answers never explain less, so
        one pass with portions of one suffices.
        """
        size = max(1, len(kept) // 2)
        while size:
            at = 0
            while at < len(kept):
                fewer = kept[:at] + kept[at + size :]
                if self._fails(fewer):
                    kept = fewer
                else:
                    at += size
            size //= 2
        return kept

    def _missed(self, kept: Collection[int]) -> tuple[Operation, ...]:
        """Writes of which one more, at the beginning of time, would resolve it: those near to the answers first."""
        last = max(self._operations[i].completed for i in kept)
        found: dict[Action, Operation] = {}
        writes = [i for i, o in enumerate(self._operations) if i not in kept and not isinstance(o.action, Read)]
        writes.sort(key=lambda i: abs(self._operations[i].invoked - last))
        for i in writes[:_EXCERPT_WRITE_TRIES]:
            action = self._weakened[i].action
            if action in found or len(found) == _EXCERPT_WRITES:
                continue
            free = replace(self._weakened[i], invoked=-inf)
            if self._verdict(kept, [free]):
                found[action] = self._operations[i]
        return tuple(found.values())

    def _fails(self, kept: Collection[int]) -> bool:
        return self._verdict(kept) is False

    def _verdict(self, kept: Collection[int], more: Iterable[Operation] = ()) -> bool | None:
        """Whether there is an order when only the operations in `kept` were answered; None when that takes too long."""
        self._tries += 1
        if self._tries > _EXCERPT_TRIES:
            return None
        kept = set(kept)
        last = max((self._operations[i].completed for i in kept), default=-inf)
        chosen = [o if i in kept else self._weakened[i] for i, o in enumerate(self._operations) if o.invoked <= last]
        try:
            return Search([*chosen, *more], self._initial).find(_EXCERPT_STEPS) is not None
        except Undecided:
            return None

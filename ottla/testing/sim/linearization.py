"""Searches an order of one register's operations that explains what everybody saw.

The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of configurations
("Testing for Linearizability", 2017), iterative. What makes it fast here:

- What changes nothing whenever it is allowed (a read, a comparison that failed) is taken as soon as it is allowed:
  nothing would be won by taking it later.
- Two configurations with the same value and the same completed operations differ only in which operations of unknown
  outcome they spent: one that spent less can do whatever the other can.
- A value that is no prefix of any that was read or compared is never seen whole. All such values are one state, but for
  their lengths if appends told those. So operations of unknown outcome have few results worth distinguishing.
- Unknown operations that do the same, or that nobody saw, are interchangeable: the one that began first is spent first.
- A value that is soon to be seen must still be possible with the operations that are left.
- Values that somebody read are tried first: appends of unique values leave hardly a choice.
"""

from collections.abc import Iterator, Sequence

from ottla.testing.sim.observations import FORBIDDEN, Observations, Outlook, State, changes_nothing, seen
from ottla.testing.sim.register import Action, Operation, Outcome, Read, Value

_OUTLOOK = 6  # operations that saw a value


class Undecided(Exception):
    """The search took too many steps."""


class _Frame:
    """One choice: what was taken by it, what the state was before, and what else may be tried from here."""

    __slots__ = ("alternatives", "seen", "state", "taken")

    def __init__(self, state: State, seen_before: int) -> None:
        self.state = state
        self.seen = seen_before  # how many of the first that saw a value, in order of their ends, are taken
        self.taken: list[int] = []
        self.alternatives: Iterator[tuple[int, State]] = iter(())


class Search:
    """Over the operations of one key; those that failed are left out by the caller."""

    def __init__(self, operations: Sequence[Operation], initial: Value = None) -> None:
        known = [o for o in operations if o.outcome is Outcome.OK]
        unknown = [o.weakened for o in operations if o.outcome is not Outcome.OK and not isinstance(o.action, Read)]
        self._operations = sorted(known + unknown, key=lambda o: o.invoked)
        self._observed = Observations(self._operations)
        self._state = self._observed.state(initial)
        n = len(self._operations)
        self._known = [o.outcome is Outcome.OK for o in self._operations]
        self._at_once = [known and changes_nothing(o.action) for o, known in self._with_known()]
        self._name = [None if known else self._observed.interchangeable(o) for o, known in self._with_known()]
        self._next, self._previous = [*range(1, n + 1), 0], [n, *range(n)]  # a ring in order of invocation; n: its head
        self._open = sum(self._known)
        self._done = self._spent = 0  # bit sets of the operations taken, of known and of unknown outcome
        self._outlook = Outlook(self._operations)
        self._seen = sorted(
            ((o.completed, i, value) for i, o in enumerate(self._operations) for value in seen(o.action)),
            key=lambda end_and_index: end_and_index[:2],
        )
        self._taken = bytearray(n)
        self._visited: dict[tuple[int, State], list[int]] = {}

    def find(self, max_steps: int) -> list[Operation] | None:
        """The order, without the unknown operations that are not needed; None when there is none.

        Raises Undecided after `max_steps` configurations.
        """
        frames = [self._enter(None, self._state, 0)]
        for _ in range(max_steps):
            if not self._open:
                return [self._operations[i] for frame in frames for i in frame.taken]
            choice = next(frames[-1].alternatives, None)
            if choice is not None:
                frame = self._enter(*choice, frames[-1].seen)
                if self._is_possible(frame) and self._is_new():
                    frame.alternatives = iter(self._alternatives(frame))
                    frames.append(frame)
                else:
                    self._leave(frame)
            else:
                self._leave(frames.pop())
                if not frames:
                    return None
        raise Undecided(f"no verdict about {len(self._operations)} operations after {max_steps} steps")

    def _with_known(self) -> Iterator[tuple[Operation, bool]]:
        return zip(self._operations, self._known, strict=True)

    def _enter(self, index: int | None, state: State, seen_before: int) -> _Frame:
        """Take an operation, and then all that cannot change anything."""
        frame = _Frame(self._state, seen_before)
        self._state = state
        if index is not None:
            self._take(index, frame)
        progress = True
        while progress and self._open:
            progress = False
            for i in self._candidates():
                if self._at_once[i] and self._observed.after(self._operations[i], state) == state:
                    self._take(i, frame)
                    progress = True
        if index is None:
            frame.alternatives = iter(self._alternatives(frame))
        return frame

    def _leave(self, frame: _Frame) -> None:
        while frame.taken:
            i = frame.taken.pop()
            self._next[self._previous[i]] = self._previous[self._next[i]] = i
            self._count(i, 1)
        self._state = frame.state

    def _take(self, i: int, frame: _Frame) -> None:
        frame.taken.append(i)
        self._next[self._previous[i]], self._previous[self._next[i]] = self._next[i], self._previous[i]
        self._count(i, -1)

    def _count(self, i: int, sign: int) -> None:
        self._taken[i] ^= 1
        if self._known[i]:
            self._done ^= 1 << i
            self._open += sign
        else:
            self._spent ^= 1 << i

    def _is_possible(self, frame: _Frame) -> bool:
        """Whether the values that are seen next can still come to be."""
        while frame.seen < len(self._seen) and self._taken[self._seen[frame.seen][1]]:
            frame.seen += 1
        return self._has_outlook(self._state, frame.seen)

    def _has_outlook(self, state: State, seen_before: int) -> bool:
        return all(
            self._taken[i] or self._outlook.can_become(state, value, self._taken)
            for _, i, value in self._seen[seen_before : seen_before + _OUTLOOK]
        )

    def _is_new(self) -> bool:
        known = self._visited.setdefault((self._done, self._state), [])
        if any(spent & ~self._spent == 0 for spent in known):
            return False
        known[:] = [spent for spent in known if self._spent & ~spent != 0]
        known.append(self._spent)
        return True

    def _candidates(self) -> list[int]:
        """Those that may be next: none that is left had ended when they began."""
        found = []
        first_end = float("inf")
        head = len(self._operations)
        i = self._next[head]
        while i != head and self._operations[i].invoked <= first_end:
            found.append(i)
            first_end = min(first_end, self._operations[i].completed)
            i = self._next[i]
        return found

    def _alternatives(self, frame: _Frame) -> list[tuple[int, State]]:
        """Candidates with the state they lead to, the most promising first."""
        ranked: list[tuple[int, float, int, State]] = []
        hopeless = not self._has_outlook(-1, frame.seen)  # to make a value that nobody sees
        met: set[Action | tuple[str, int]] = set()
        for i in self._candidates():
            after = self._observed.after(self._operations[i], self._state)
            if (name := self._name[i]) is not None:
                if name in met or after == self._state:
                    continue
                met.add(name)
            satisfies = seen(self._operations[i].action)  # what makes it hopeless may be this operation's own demand
            if after != FORBIDDEN and not (hopeless and isinstance(after, int) and not satisfies):
                rank = 2 * isinstance(after, int) + (not self._known[i])
                ranked.append((rank, self._operations[i].completed, i, after))
        ranked.sort(key=lambda choice: choice[:3])
        return [(i, after) for _, _, i, after in ranked]

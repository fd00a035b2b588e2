"""Producers that wait until an end of the log passes their batch, answered in order of offset."""

from collections import deque
from collections.abc import Callable

from ottla.core.error_codes import ErrorCode

Done = Callable[[ErrorCode], None]


class Waiters:
    """(offset that must be reached, callback), ascending."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Done]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, offset: int, done: Done) -> None:
        waiting = self._waiting
        if waiting and waiting[-1][0] > offset:  # a duplicate whose original is still on its way
            place = next(n for n, entry in enumerate(waiting) if entry[0] > offset)
            waiting.insert(place, (offset, done))
        else:
            waiting.append((offset, done))

    def reached(self, offset: int) -> None:
        """Answer all that waited for `offset` or less."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= offset:
            waiting.popleft()[1](ErrorCode.NONE)

    def fail(self, code: ErrorCode) -> None:
        """Answer all that are left with an error."""
        waiting, self._waiting = self._waiting, deque()
        for _, done in waiting:
            done(code)

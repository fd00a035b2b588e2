"""What a member has written, and what of it is left when it is killed or when the power goes.

The content is whatever the member makes of its writes: a write is a function that changes the content.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

from ottla.core.ports import Random
from ottla.testing.sim.clock import SimClock


class Copyable(Protocol):
    """Files, at one moment."""

    def copy(self) -> Self: ...


Content = TypeVar("Content", bound=Copyable)
WRITE_BACK_MS = 1000.0


class Killed(BaseException):
    """The process ends here. No `except Exception` of the program can stop it."""


class SimDisk(Generic[Content]):
    """One member's files. Outlives its processes."""

    def __init__(self, content: Content, clock: SimClock, random: Random, *, power_cuts: bool) -> None:
        self.content = content
        self.killed = False
        self._clock, self._random, self._power_cuts = clock, random, power_cuts
        self._durable = content.copy()
        self._unsynced: deque[tuple[float, Callable[[Content], None]]] = deque()
        self._writes_left: int | None = None

    def write(self, change: Callable[[Content], None]) -> None:
        """One write, which happens as a whole or not at all. Not synced."""
        if self._writes_left == 0:
            self.killed = True
        if self.killed:
            raise Killed
        if self._writes_left is not None:
            self._writes_left -= 1
        change(self.content)
        if self._power_cuts:
            self._unsynced.append((self._clock.monotonic_ms(), change))
            while self._unsynced[0][0] < self._clock.monotonic_ms() - WRITE_BACK_MS:
                self._unsynced.popleft()[1](self._durable)

    def sync(self) -> None:
        """All that was written survives a power cut."""
        if self.killed:
            raise Killed
        while self._unsynced:
            self._unsynced.popleft()[1](self._durable)

    def kill_after(self, writes: int) -> None:
        """Kill the process in place of its next write but `writes`."""
        self._writes_left = writes

    def forget_kill(self) -> None:
        self._writes_left = None

    @property
    def will_kill(self) -> bool:
        return self._writes_left is not None

    def restart(self) -> None:
        """What the next process finds."""
        if self._power_cuts:
            survive = self._random.randrange(0, len(self._unsynced) + 1)
            for _ in range(survive):
                self._unsynced.popleft()[1](self._durable)
            self._unsynced.clear()
            self.content = self._durable.copy()
        self.killed, self._writes_left = False, None

"""A core's time. It is counted in ticks, and most of them do nothing but count: a node at rest is woken for the others
only. Those in between are counted together, before whatever happens next.

Time during which the process stood still is no silence of its peers: a stretch between two looks counts as no more than
was waited for, and what the peers sent meanwhile is taken before the tick that is due.
"""

from collections.abc import Callable
from typing import Final

from ottla.core.ports import Clock, Timer
from ottla.raft.core import Raft
from ottla.raft.settings import RaftSettings


class Ticking:
    """One node's. `due` is called after each tick that was waited for."""

    def __init__(self, core: Raft, settings: RaftSettings, clock: Clock, due: Callable[[], None]) -> None:
        self._core, self._clock, self._due = core, clock, due
        self._tick_ms: Final = settings.tick_ms
        self._longest: Final = settings.heartbeat_ticks + 1  # a leader's heartbeats come before
        self._counted_ms = 0.0
        self._left = 1  # ticks from there to the one that is waited for
        self._timer: Timer | None = None

    def start(self) -> None:
        """Time goes on from now on."""
        self._counted_ms = self._clock.monotonic_ms()
        self.wait(each=True)

    def stop(self) -> None:
        """No more ticks."""
        if self._timer is not None:
            self._timer.cancel()

    def catch_up(self) -> None:
        """Count what has passed: before the core is told of anything."""
        now_ms = self._clock.monotonic_ms()
        passed = min(int((now_ms - self._counted_ms) / self._tick_ms), self._left - 1)
        self._counted_ms = max(self._counted_ms + passed * self._tick_ms, now_ms - self._tick_ms)
        self._left -= passed
        for _ in range(passed):
            self._core.tick()

    def wait(self, *, each: bool) -> None:
        """For the next tick that does something, or (`each`) for the next one: after the core was told of anything."""
        self.catch_up()
        left = 1 if each else min(self._core.ticks_until_due, self._longest)
        if left == self._left and self._timer is not None:
            return
        self.stop()
        self._left = left
        wait_ms = self._counted_ms + left * self._tick_ms - self._clock.monotonic_ms()
        self._timer = self._clock.call_later(max(wait_ms, 0.0), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._counted_ms = self._clock.monotonic_ms()
        for _ in range(self._left):
            self._core.tick()
        self._left = 1
        self._due()

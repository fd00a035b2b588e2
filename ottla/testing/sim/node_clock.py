"""The port `Clock` of one node in a `World`: a wall clock that is wrong and jumps, a monotonic one that drifts."""

from collections.abc import Callable
from typing import Any

from ottla.core.ports import Timer
from ottla.testing.sim.clock import START_MS
from ottla.testing.sim.loop import SimLoop

FINEST_MS = 0.001


class NodeClock:
    """`rate` is how many milliseconds this node counts in one of the world's."""

    def __init__(self, loop: SimLoop, *, rate: float = 1.0, wall_offset_ms: int = 0) -> None:
        self._loop = loop
        self.call_soon: Callable[..., object] = loop.call_soon
        self._rate, self._wall_offset_ms = rate, wall_offset_ms
        self._since_s, self._counted_ms = loop.world.now_s, 0.0

    def time_ms(self) -> int:
        return START_MS + self._wall_offset_ms + int(self._loop.world.now_s * 1000)

    def monotonic_ms(self) -> float:
        return self._counted_ms + (self._loop.world.now_s - self._since_s) * 1000 * self._rate

    def call_later(self, delay_ms: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        if 0.0 < delay_ms < FINEST_MS:  # or else what is left of a delay by rounding could be waited for without end
            delay_ms = FINEST_MS
        return self._loop.call_later(delay_ms / 1000 / self._rate, callback, *arguments)

    def jump(self, by_ms: int) -> None:
        """Somebody sets the wall clock."""
        self._wall_offset_ms += by_ms

    def drift(self, rate: float) -> None:
        """Run faster or slower from now on; timers that are set already keep their time."""
        self._counted_ms = self.monotonic_ms()
        self._since_s, self._rate = self._loop.world.now_s, rate

    def forget_all(self) -> None:
        """A crash: nothing that was planned will happen."""
        self._loop.crash()

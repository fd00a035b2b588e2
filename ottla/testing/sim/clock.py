"""A virtual clock: events run in order of their time, and time passes only between them."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

START_MS = 1_700_000_000_000


class SimTimer:
    """One event."""

    __slots__ = ("arguments", "at_ms", "callback", "cancelled", "number")

    def __init__(self, at_ms: float, number: int, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.at_ms, self.number, self.callback, self.arguments = at_ms, number, callback, arguments
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: "SimTimer") -> bool:
        return (self.at_ms, self.number) < (other.at_ms, other.number)


class SimClock:
    """The port `Clock`; `run_for` and `run_until` let time pass."""

    def __init__(self) -> None:
        self._now_ms = 0.0
        self._events: list[SimTimer] = []
        self._count = 0

    def time_ms(self) -> int:
        return START_MS + int(self._now_ms)

    def monotonic_ms(self) -> float:
        return self._now_ms

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        self.call_later(0, callback, *arguments)

    def call_later(self, delay_ms: float, callback: Callable[..., object], *arguments: Any) -> SimTimer:
        self._count += 1
        timer = SimTimer(self._now_ms + max(delay_ms, 0), self._count, callback, arguments)
        heappush(self._events, timer)
        return timer

    def step(self, until_ms: float) -> bool:
        """Run the next event at or before `until_ms`; whether there was one."""
        while self._events and self._events[0].at_ms <= until_ms:
            timer = heappop(self._events)
            if not timer.cancelled:
                self._now_ms = timer.at_ms
                timer.callback(*timer.arguments)
                return True
        return False

    def run_for(self, duration_ms: float) -> None:
        """Run everything that happens within the next `duration_ms`."""
        end_ms = self._now_ms + duration_ms
        while self.step(end_ms):
            pass
        self._now_ms = end_ms

    def run_until(self, condition: Callable[[], bool], *, within_ms: float = 60_000) -> None:
        """Run until the condition holds; AssertionError when it does not within that virtual time."""
        end_ms = self._now_ms + within_ms
        while not condition():
            if not self.step(end_ms):
                raise AssertionError(f"the condition does not hold after {within_ms} ms of virtual time")

    def forget_all(self) -> None:
        """A crash: nothing that was planned will happen."""
        self._events.clear()

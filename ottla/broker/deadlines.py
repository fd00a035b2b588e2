"""When waiting requests give up: one timer for all of them.

Requests come and go by the ten thousand a second and almost none waits to its end, so entering and leaving must cost
next to nothing. Deadlines are rounded up to a tick; the requests of one tick lie in one bucket, and the timer is armed
for the earliest tick only.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, Protocol

from ottla.core.ports import Clock, Timer

TICK_MS: Final = 5

Bucket = dict["Expiring", None]
"""In the order in which they came."""


class Expiring(Protocol):
    """Something that waits, hashed by identity."""

    def expire(self) -> None:
        """The deadline passed. Runs at most once, and never after `leave`."""


class Deadlines:
    """The deadlines of one broker."""

    __slots__ = ("_armed_for", "_buckets", "_clock", "_monotonic_ms", "_tick_ms", "_ticks", "_timer")

    def __init__(self, clock: Clock, *, tick_ms: int = TICK_MS) -> None:
        self._clock, self._tick_ms = clock, tick_ms
        self._monotonic_ms: Callable[[], float] = clock.monotonic_ms
        self._buckets: dict[int, Bucket] = {}
        self._ticks: list[int] = []
        self._timer: Timer | None = None
        self._armed_for = 0

    def enter(self, waiter: Expiring, delay_ms: float) -> Bucket:
        """Have `waiter.expire()` called after `delay_ms`, up to two ticks late; the result is for `leave`."""
        tick = int((self._monotonic_ms() + delay_ms) // self._tick_ms) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heappush(self._ticks, tick)
            if self._timer is None or tick < self._armed_for:
                self._arm()
        bucket[waiter] = None
        return bucket

    @staticmethod
    def leave(waiter: Expiring, bucket: Bucket) -> None:
        """Forget the waiter."""
        bucket.pop(waiter, None)

    def close(self) -> None:
        """Forget every waiter."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._buckets.clear()
        self._ticks.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = self._ticks[0]
        delay_ms = self._armed_for * self._tick_ms - self._monotonic_ms()
        self._timer = self._clock.call_later(max(delay_ms, 0), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = int(self._monotonic_ms() // self._tick_ms)
        due: list[Expiring] = []
        while self._ticks and (self._ticks[0] <= now or not self._buckets[self._ticks[0]]):
            due += self._buckets.pop(heappop(self._ticks))
        if self._ticks:
            self._arm()
        for waiter in due:
            waiter.expire()

"""The next transaction of a producer waits here for the end of the one before, instead of being sent away.

A coordinator answers CONCURRENT_TRANSACTIONS while the markers are under way. That takes milliseconds, and clients
pause for tens of them. Whoever waits goes on in the turn of the loop in which the end becomes known, so that both
records, that the one transaction is complete and that the next has begun, go into the log together: one commit less.

What a client waited for that is gone is not attempted any more: another one may have begun in its place, and would be
fenced by an InitProducerId that comes late.
"""

from collections.abc import Callable, Collection
from typing import Final, Generic, Protocol, TypeVar

from ottla.core.ports import Clock, Timer

R = TypeVar("R")

PAUSE_MS: Final = 1.5  # where no markers are under way yet, or any more; doubles ...
PAUSE_MAX_MS: Final = 20.0  # ... up to this


class Ends(Protocol):
    """Knows when the markers of transactions are written."""

    def when_ended(self, transactional_id: str, callback: Callable[[], object]) -> bool:
        """Call `callback` then; False when there is nothing to wait for."""


class Patient(Generic[R]):
    """One request: `attempt` puts it to the coordinator, again and again for at most `patience_ms`."""

    __slots__ = ("_attempt", "_clock", "_deadline_ms", "_done", "_ends", "_ids", "_is_refused", "_pause_ms", "_timer")

    def __init__(
        self,
        clock: Clock,
        ends: Ends,
        *,
        attempt: Callable[[Callable[[R], object]], object],
        ids: Collection[str],
        is_refused_for_now: Callable[[R], bool],
        patience_ms: float,
        done: Callable[[R], object],
    ) -> None:
        self._clock, self._ends = clock, ends
        self._attempt, self._ids, self._is_refused, self._done = attempt, ids, is_refused_for_now, done
        self._deadline_ms = clock.monotonic_ms() + patience_ms
        self._pause_ms = PAUSE_MS
        self._timer: Timer | None = None
        attempt(self._answered)

    def give_up(self) -> None:
        """Nobody waits for the answer any more. An attempt that is under way takes its course."""
        self._deadline_ms = self._clock.monotonic_ms()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _answered(self, response: R) -> None:
        left_ms = self._deadline_ms - self._clock.monotonic_ms()
        if left_ms <= 0 or not self._is_refused(response):
            self._done(response)
            return
        waits = any(self._ends.when_ended(transactional_id, self._again) for transactional_id in self._ids)
        self._timer = self._clock.call_later(left_ms if waits else min(self._pause_ms, left_ms), self._again)
        self._pause_ms = min(self._pause_ms * 2, PAUSE_MAX_MS)

    def _again(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._attempt(self._answered)

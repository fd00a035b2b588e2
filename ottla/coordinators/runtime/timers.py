"""A shard's timers, cheap to move: a session timer is moved with every heartbeat and fires almost never."""

from collections.abc import Callable
from typing import Any

from ottla.coordinators.runtime.shard import TimerKey
from ottla.core.ports import Clock, Timer


class _Entry:
    __slots__ = ("armed_ms", "deadline_ms", "event", "timer")

    def __init__(self, deadline_ms: float, event: Any) -> None:
        self.deadline_ms = deadline_ms
        self.armed_ms = deadline_ms
        self.event = event
        self.timer: Timer | None = None


class ShardTimers:
    """Timers by key. A deadline that moves later costs no new timer: the old one finds it moved when it fires."""

    def __init__(self, clock: Clock, fired: Callable[[Any], None]) -> None:
        self._clock = clock
        self._fired = fired
        self._entries: dict[TimerKey, _Entry] = {}

    def set(self, key: TimerKey, delay_ms: float, event: Any) -> None:
        """Fire `event` after `delay_ms`, and nothing else under this key."""
        deadline_ms = self._clock.monotonic_ms() + delay_ms
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(deadline_ms, event)
            self._arm(key, entry, delay_ms)
            return
        entry.deadline_ms, entry.event = deadline_ms, event
        if deadline_ms < entry.armed_ms:
            if entry.timer is not None:
                entry.timer.cancel()
            self._arm(key, entry, delay_ms)

    def hasten(self, key: TimerKey, delay_ms: float, event: Any) -> None:
        """As `set`, but only where that is sooner; nothing when there is no timer of this key."""
        entry = self._entries.get(key)
        if entry is not None and self._clock.monotonic_ms() + delay_ms < entry.deadline_ms:
            self.set(key, delay_ms, event)

    def cancel(self, key: TimerKey) -> None:
        """Forget the timer of this key, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()

    def cancel_all(self) -> None:
        """Forget every timer."""
        for key in list(self._entries):
            self.cancel(key)

    def _arm(self, key: TimerKey, entry: _Entry, delay_ms: float) -> None:
        entry.armed_ms = entry.deadline_ms
        entry.timer = self._clock.call_later(delay_ms, self._expire, key, entry)

    def _expire(self, key: TimerKey, entry: _Entry) -> None:
        if self._entries.get(key) is not entry:
            return
        left_ms = entry.deadline_ms - self._clock.monotonic_ms()
        # A loop's timer may fire a fraction of its resolution early.
        if left_ms > 1:
            self._arm(key, entry, left_ms)
            return
        del self._entries[key]
        self._fired(entry.event)

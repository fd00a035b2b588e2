"""A bound on the rate of catching up (`leader.replication.throttled.rate`, `follower.replication.throttled.rate`)."""

from typing import Final

_BURST_S: Final = 0.25


class Throttle:
    """A token bucket that may be overdrawn by one read; no rate: no bound."""

    __slots__ = ("_at_ms", "_left", "rate_bytes_s")

    def __init__(self, rate_bytes_s: float | None = None) -> None:
        self.rate_bytes_s = rate_bytes_s
        self._left, self._at_ms = 0.0, 0.0

    def wait_ms(self, now_ms: float) -> float:
        """How long until something may be read; 0: now."""
        rate = self.rate_bytes_s
        if rate is None:
            return 0.0
        self._left = min(self._left + (now_ms - self._at_ms) / 1000 * rate, rate * _BURST_S)
        self._at_ms = now_ms
        return 0.0 if self._left >= 0 else -self._left / rate * 1000

    def took(self, size_bytes: int) -> None:
        if self.rate_bytes_s is not None:
            self._left -= size_bytes

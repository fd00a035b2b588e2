"""How long to wait before a retry: doubling from a first to a largest delay, with jitter."""

import random
from collections.abc import Callable

JITTER = 0.2


class Backoff:
    """Kafka's retry.backoff.ms and retry.backoff.max.ms (KIP-580)."""

    __slots__ = ("_first_ms", "_max_ms", "_uniform")

    def __init__(
        self, first_ms: float, max_ms: float, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first_ms = first_ms
        self._max_ms = max_ms
        self._uniform = uniform

    def delay_ms(self, attempts: int) -> float:
        """Before another attempt after so many."""
        delay = min(self._max_ms, self._first_ms * 2.0 ** min(attempts - 1, 30))
        return delay * self._uniform(1 - JITTER, 1 + JITTER)

"""Forgets producers that were silent for `producer.id.expiration.ms`, in all partitions of a node, some at a time."""

from collections.abc import Iterator, Sequence
from typing import Final

from ottla.core.ports import Clock
from ottla.partitions.partition import Partition

_PRODUCERS_A_TURN: Final = 4096


class ProducerExpiry:
    """One look through everything at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looking: Iterator[int] | None = None

    def begin(self, partitions: Sequence[Partition], expiration_ms: int) -> None:
        """Look through them, unless the last look is not over yet."""
        if self._looking is None:
            self._looking = self._look(partitions, expiration_ms)
        self.go_on()

    def go_on(self) -> None:
        """There may be millions: some thousands now, about a millisecond's work, and more at the next call."""
        looked_at = 0
        for count in self._looking or ():
            looked_at += count + 1
            if looked_at >= _PRODUCERS_A_TURN:
                return
        self._looking = None

    def _look(self, partitions: Sequence[Partition], expiration_ms: int) -> Iterator[int]:
        """Yields how many were looked at since the last time."""

        def silent_since() -> int:
            return self._clock.time_ms() - expiration_ms

        for partition in partitions:
            if partition.error is None:
                partition.verifications.expire(self._clock.time_ms(), expiration_ms)
                yield from partition.producers.expire(silent_since)

"""Connections between members, as TCP gives them: in order, or broken with all that was on its way."""

from collections.abc import Callable
from typing import Any

from ottla.core.ports import Random
from ottla.testing.sim.clock import SimClock

RECONNECT_MS = 500.0


class Link:
    """The connection of one pair."""

    def __init__(self) -> None:
        self.life = 0  # grows whenever it breaks: what was sent in an earlier life never arrives
        self.up = False
        self.held_until = 0.0  # packets are lost and sent again until then
        self.last_arrival: dict[str, float] = {}  # at each end


class Network:
    """Delivers by callbacks; `alive` tells whether a member's process runs."""

    def __init__(
        self,
        members: list[str],
        clock: SimClock,
        random: Random,
        *,
        deliver: Callable[[str, str, Any], None],
        changed: Callable[[str, str, bool], None],
        alive: Callable[[str], bool],
    ) -> None:
        self._clock, self._random = clock, random
        self._deliver, self._changed, self._alive = deliver, changed, alive
        self._links = {frozenset((a, b)): Link() for a in members for b in members if a < b}
        for pair in self._links:
            self._connect_later(pair)

    def send(self, source: str, target: str, message: Any) -> bool:
        """Whether there was a connection to put it on."""
        link = self._links[frozenset((source, target))]
        if not link.up:
            return False
        now = self._clock.monotonic_ms()
        delay = (
            1 + 10 * self._random.random() ** 3 + (300 * self._random.random() if self._random.random() < 0.02 else 0)
        )
        arrival = max(now + delay, link.held_until, link.last_arrival.get(target, 0.0))
        link.last_arrival[target] = arrival
        self._clock.call_later(arrival - now, self._arrive, link, link.life, source, target, message)
        return True

    def hold(self, a: str, b: str, duration_ms: float) -> None:
        """Packets are lost for so long; what is sent meanwhile arrives late."""
        link = self._links[frozenset((a, b))]
        link.held_until = max(link.held_until, self._clock.monotonic_ms() + duration_ms)

    def break_link(self, a: str, b: str, duration_ms: float = 0.0) -> None:
        """Reset the connection; the next one comes after `duration_ms` at the earliest."""
        pair = frozenset((a, b))
        link = self._links[pair]
        self.hold(a, b, duration_ms)
        if link.up:
            link.up = False
            link.life += 1
            link.last_arrival.clear()
            for end, other in ((a, b), (b, a)):
                if self._alive(end):
                    self._changed(end, other, False)
            self._connect_later(pair)

    def break_all(self, member: str) -> None:
        """Its process has ended."""
        for pair in self._links:
            if member in pair:
                a, b = sorted(pair)
                self.break_link(a, b)

    def heal(self) -> None:
        for link in self._links.values():
            link.held_until = 0.0

    def _arrive(self, link: Link, life: int, source: str, target: str, message: Any) -> None:
        if link.life == life and self._alive(target):
            self._deliver(source, target, message)

    def _connect_later(self, pair: frozenset[str]) -> None:
        self._clock.call_later(RECONNECT_MS * (0.2 + self._random.random()), self._connect, pair)

    def _connect(self, pair: frozenset[str]) -> None:
        link = self._links[pair]
        a, b = sorted(pair)
        if link.up:
            return
        if link.held_until > self._clock.monotonic_ms() or not (self._alive(a) and self._alive(b)):
            self._connect_later(pair)
            return
        link.up = True
        self._changed(a, b, True)
        self._changed(b, a, True)

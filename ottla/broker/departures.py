"""Brokers that come to their end: what Metadata tells of them in the moments around it.

Their links break a while before the controller has fenced them and given their partitions to others. A client that lost
its connection, too, asks for metadata at once; told the old leader, librdkafka (2.x) is content, and asks again when
its timer of a second says so. So until they are linked again, or fenced, or some time has passed, partitions that they
lead are said to have no leader, and the client asks again after its back-off of some milliseconds.

Metadata goes on naming them for a while after they were fenced.

An answer that moves the partitions and leaves out their old broker at once makes librdkafka drop that broker's queues
before they have moved: the partitions are then without a broker until it asks again, a second or more later. Named for
a few seconds more, the broker costs a client at most a refused connection, as it did in the moments before.
"""

from collections.abc import Iterable
from typing import Final

from ottla.broker.control.listeners import LinkListener
from ottla.controller.image import MetadataImage
from ottla.core.ports import Clock
from ottla.core.types import NodeId

SHOWN_MS: Final = 5_000.0
"""For so long a fenced broker is named: clients without a leader ask again after a second at most, by default."""

DOUBTED_MS: Final = 2_000.0
"""For so long a broken link counts: a controller that still hears of the broker will not fence it."""

STARTLED_MS: Final = 150.0
"""For so long an ended connection of a follower counts: it ends some milliseconds before the link of a process that
came to its end does.
"""


class Departures(LinkListener):
    """As seen by one node. A broker that unregisters is gone at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fenced_ms: dict[NodeId, float] = {}
        self._broken_ms: dict[NodeId, float] = {}
        self._lost_ms: dict[NodeId, float] = {}

    def linked(self, node: NodeId) -> None:
        self._broken_ms.pop(node, None)

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        if broken:
            self._broken_ms[node] = self._clock.monotonic_ms()

    def follow(self, before: MetadataImage, after: MetadataImage, changed: Iterable[NodeId]) -> None:
        """Take note of a change of these brokers."""
        for node in changed:
            old, new = before.brokers.get(node), after.brokers.get(node)
            if new is None or not new.fenced:
                self._fenced_ms.pop(node, None)
            elif old is not None and not old.fenced:
                self._fenced_ms[node] = self._clock.monotonic_ms()

    def lost(self, node: NodeId) -> None:
        self._lost_ms[node] = self._clock.monotonic_ms()

    def is_doubtful(self, node: NodeId) -> bool:
        """Whether its link to this node broke and none stands since, or its connection ended a moment ago."""
        return self._is_within(DOUBTED_MS, self._broken_ms.get(node)) or self._is_within(
            STARTLED_MS, self._lost_ms.get(node)
        )

    def is_recent(self, node: NodeId) -> bool:
        """Whether this broker was fenced less than `SHOWN_MS` ago."""
        return self._is_within(SHOWN_MS, self._fenced_ms.get(node))

    def _is_within(self, time_ms: float, since_ms: float | None) -> bool:
        return since_ms is not None and self._clock.monotonic_ms() - since_ms < time_ms

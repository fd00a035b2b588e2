"""Which brokers were fenced a moment ago: Metadata goes on naming them for a while.

A client that loses a broker's connection asks for metadata until the partitions have another leader. An answer that
moves them and leaves out their old broker at once makes librdkafka (2.x) drop that broker's queues before they have
moved: the partitions are then without a broker until it asks again, a second or more later. Named for a few seconds
more, the broker costs a client at most a refused connection, as it did in the moments before it was fenced.
"""

from collections.abc import Iterable
from typing import Final

from ottla.controller.image import MetadataImage
from ottla.core.ports import Clock
from ottla.core.types import NodeId

SHOWN_MS: Final = 5_000.0
"""Clients without a leader ask again after a second at most, unless they are configured otherwise."""


class Departures:
    """Brokers that were fenced while this node looked on. One that unregisters is gone at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fenced_ms: dict[NodeId, float] = {}

    def follow(self, before: MetadataImage, after: MetadataImage, changed: Iterable[NodeId]) -> None:
        """Take note of a change of these brokers."""
        for node in changed:
            old, new = before.brokers.get(node), after.brokers.get(node)
            if new is None or not new.fenced:
                self._fenced_ms.pop(node, None)
            elif old is not None and not old.fenced:
                self._fenced_ms[node] = self._clock.monotonic_ms()

    def is_recent(self, node: NodeId) -> bool:
        """Whether this broker was fenced less than `SHOWN_MS` ago."""
        since = self._fenced_ms.get(node)
        return since is not None and self._clock.monotonic_ms() - since < SHOWN_MS

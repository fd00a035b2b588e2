"""Who leads a partition instead, told with the refusal, so that a client need not ask for metadata first (KIP-951)."""

from collections.abc import Callable
from dataclasses import dataclass

from ottla.broker.replicas import TopicKey
from ottla.controller.image import NO_LEADER, Endpoint, MetadataImage
from ottla.core.types import NodeId


@dataclass(frozen=True, slots=True)
class CurrentLeader:
    """A partition's leader and its epoch. `endpoint` is None when it cannot be reached now."""

    node: NodeId
    epoch: int
    endpoint: Endpoint | None = None
    rack: str | None = None


Hint = Callable[[TopicKey, int], CurrentLeader | None]


def no_hint(topic: TopicKey, index: int) -> None:
    """Where nobody wants to know."""


class LeaderHints:
    """For the clients of one listener; `image` gives the newest metadata."""

    __slots__ = ("_image", "_listener")

    def __init__(self, image: Callable[[], MetadataImage], listener: str) -> None:
        self._image, self._listener = image, listener

    def __call__(self, topic: TopicKey, index: int) -> CurrentLeader | None:
        """None when this node knows of no such partition, or of no leader."""
        image = self._image()
        found = image.topics.get(topic) if isinstance(topic, str) else image.topics_by_id.get(topic)
        if found is None or not 0 <= index < len(found.partitions):
            return None
        partition = found.partitions[index]
        if partition.leader == NO_LEADER:
            return None
        broker = image.brokers.get(partition.leader)
        if broker is None or broker.fenced:
            return CurrentLeader(partition.leader, partition.leader_epoch)
        return CurrentLeader(
            partition.leader, partition.leader_epoch, broker.listeners.get(self._listener), broker.rack
        )

"""Which replica a consumer had better read from: with the rack-aware selector, one in its own rack (KIP-392)."""

from collections.abc import Callable
from typing import Final

from ottla.controller.image import MetadataImage
from ottla.core.types import NodeId
from ottla.partitions.partition import Partition
from ottla.partitions.replication.leading import Leading

RACK_AWARE: Final = "org.apache.kafka.common.replica.RackAwareReplicaSelector"


class RackAwareSelector:
    """The leader's advice; `image` gives the newest metadata."""

    __slots__ = ("_image", "_node_id")

    def __init__(self, node_id: NodeId, image: Callable[[], MetadataImage]) -> None:
        self._node_id, self._image = node_id, image

    def __call__(self, partition: Partition, rack: str, fetch_offset: int) -> NodeId | None:
        """An in-sync follower in that rack which has the offset: the one that is furthest. None: read here."""
        leading = partition.role
        if not isinstance(leading, Leading):
            return None
        brokers = self._image().brokers
        mine = brokers.get(self._node_id)
        if mine is not None and mine.rack == rack:
            return None
        state = leading.state
        best: tuple[int, NodeId] | None = None
        for node, follower in state.followers.items():
            broker = brokers.get(node)
            if broker is None or broker.fenced or broker.rack != rack or node not in state.isr:
                continue
            if not 0 <= follower.log_start_offset <= fetch_offset <= follower.log_end_offset:
                continue
            if best is None or follower.log_end_offset > best[0]:
                best = follower.log_end_offset, node
        return None if best is None else best[1]

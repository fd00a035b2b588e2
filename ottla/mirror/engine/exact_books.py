"""What is known of an exact flow's copies, as a ledger: of each partition up to where the mirror topic's log ends.

Nothing is kept of it anywhere but in the topics themselves. With it, everything that translates offsets serves exact
flows too: every offset is itself.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from ottla.client.errors import ClientError
from ottla.client.transport import LATEST_TIMESTAMP
from ottla.client.types import TopicPartition
from ottla.core.mirror_topics import MirrorSource, Promoted
from ottla.mirror.config import FlowConfig
from ottla.mirror.core.exact import identity
from ottla.mirror.core.progress import CopiedPartition, MapId
from ottla.mirror.engine.exact_topics import mirror_topics
from ottla.mirror.engine.side import Side


class Copies(Protocol):
    """A `progress.Ledger`, as far as readers need it."""

    def get(self, map_id: MapId) -> CopiedPartition | None:
        """The copy of one partition."""

    def __iter__(self) -> Iterator[CopiedPartition]: ...


class ExactCopies:
    """Of one flow, at one moment."""

    def __init__(self, copies: Mapping[MapId, CopiedPartition]) -> None:
        self._copies = copies

    def get(self, map_id: MapId) -> CopiedPartition | None:
        """The copy of one partition."""
        return self._copies.get(map_id)

    def __iter__(self) -> Iterator[CopiedPartition]:
        return iter(self._copies.values())


async def exact_copies(flow: FlowConfig, target: Side, names: Collection[str] | None = None) -> ExactCopies:
    """Of these topics, or all; the source need not be there. Of promoted ones up to their promotion. ClientError."""
    wanted = [name for name in target.topics if flow.takes_topic(name)] if names is None else list(names)
    copies: dict[MapId, CopiedPartition] = {}
    growing: dict[TopicPartition, MapId] = {}
    for name, found in (await mirror_topics(target, wanted)).items():
        topic = target.topics.get(name)
        if topic is None:
            continue
        if found.source:
            source = MirrorSource.parse(found.source)
            for index in range(len(topic.partitions)):
                growing[TopicPartition(name, index)] = _map_id(source, topic.topic_id, index)
        elif found.promoted:
            promoted = Promoted.parse(found.promoted)
            for index, end in enumerate(promoted.end_offsets):
                map_id = _map_id(promoted.source, topic.topic_id, index)
                copies[map_id] = identity(map_id, flow.source, name, end)
    ends = await asyncio.gather(*(_end_of(target, partition) for partition in growing))
    for (partition, map_id), known in zip(growing.items(), ends, strict=True):
        if known is not None:
            copies[map_id] = identity(map_id, flow.source, partition.topic, known)
    return ExactCopies(copies)


def _map_id(source: MirrorSource, target_topic_id: str, index: int) -> MapId:
    return MapId(source.cluster_id, source.topic_id, target_topic_id, index)


async def _end_of(side: Side, partition: TopicPartition) -> int | None:
    """None: its leader does not say, which keeps nothing else from being known."""
    try:
        return await side.offset_at(partition, LATEST_TIMESTAMP, read_committed=False)
    except ClientError:
        return None

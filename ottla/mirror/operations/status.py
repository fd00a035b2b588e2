"""How far each partition's copy is: records and seconds behind, and what the mirror processes say of it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from ottla.client.errors import ClientError
from ottla.client.transport import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, FetchPartition, FetchRequest
from ottla.client.types import TopicPartition
from ottla.core.errors import DecodeError
from ottla.mirror.config import FlowConfig
from ottla.mirror.core.exact import Standing
from ottla.mirror.engine.exact_topics import standings
from ottla.mirror.engine.reports import PartitionReport, Reports
from ottla.mirror.engine.side import Side
from ottla.mirror.operations.observing import Observer
from ottla.records.header import iterate_headers

_LOOK_BYTES: Final = 1 << 20
_AT_REST: Final = frozenset({Standing.RETURNING.value, Standing.PROMOTED.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatus:
    """One partition of a flow."""

    flow: str
    source: TopicPartition
    target: TopicPartition
    position: int | None  # of the source, up to where it is decided; None: copying has not begun
    source_start: int | None  # the log start, where it was looked up because copying has not begun
    source_end: int | None  # the last stable offset, of an exact flow the high watermark; None: it cannot be reached
    behind_s: float | None  # the age of the oldest record that is not copied; None as `behind`
    report: PartitionReport | None
    standing: str = ""  # of an exact flow's topic: mirror, promoting, promoted, …
    reason: str = ""  # why such a topic is not copied

    @property
    def is_at_rest(self) -> bool:
        """Whether this direction has nothing to copy, as the other one is at work or the copy was promoted."""
        return self.standing in _AT_REST

    @property
    def behind(self) -> int | None:
        """In offsets; markers of transactions count as well. None: not known, or at rest."""
        if self.is_at_rest:
            return None
        begun = self.source_start if self.position is None else self.position
        return None if begun is None or self.source_end is None else max(0, self.source_end - begun)


async def status_of(observer: Observer, flow: FlowConfig, reports: Reports) -> list[PartitionStatus]:
    """Of all partitions of a flow, by name."""
    found: list[PartitionStatus] = []
    names = observer.wanted(flow)
    source, target = observer.sides.get(flow.source), observer.sides[flow.target]
    partitions: list[TopicPartition] = []
    for name, remote in names.items():
        described = target.topics.get(remote) if source is None else source.topics.get(name)
        if described is not None:
            partitions += (TopicPartition(name, index) for index in range(len(described.partitions)))
    found_topics = {} if source is None or not flow.exact else await standings(flow, source, target)
    states = await asyncio.gather(*(_source_state(source, flow, observer, one) for one in partitions))
    for partition, (position, start, end, behind_s) in zip(partitions, states, strict=True):
        topic = found_topics.get(partition.topic)
        standing = topic.standing.value if topic is not None else ""
        found.append(
            PartitionStatus(
                flow=flow.name,
                source=partition,
                target=TopicPartition(names[partition.topic], partition.partition),
                position=position,
                source_start=start,
                source_end=end,
                behind_s=None if standing in _AT_REST else behind_s,
                report=reports.of(flow.name, partition),
                standing=standing,
                reason=topic.reason if topic is not None else "",
            )
        )
    return found


async def _source_state(
    source: Side | None, flow: FlowConfig, observer: Observer, partition: TopicPartition
) -> tuple[int | None, int | None, int | None, float | None]:
    copy = observer.copy_of(flow, partition)
    position = None if copy is None else copy.map.position
    if source is None:
        return position, None, None, None
    end = await source.offset_at(partition, LATEST_TIMESTAMP, read_committed=not flow.exact)
    start = None
    if position is None:
        start = await source.offset_at(partition, EARLIEST_TIMESTAMP, read_committed=True)
    at = start if position is None else position
    return position, start, end, 0.0 if at is None or at >= end else await _age_at(source, partition, at, flow)


async def _age_at(source: Side, partition: TopicPartition, offset: int, flow: FlowConfig) -> float | None:
    """How long the record at an offset has been waiting; None when that cannot be told."""
    node_id, _ = source.leader(partition)
    request = FetchRequest(0, 1, _LOOK_BYTES, not flow.exact, [FetchPartition(partition, offset, _LOOK_BYTES)])
    try:
        [result] = await source.transport.fetch(node_id, request)
        if result.error is None:
            for _, header in iterate_headers(result.batches, allow_partial=True):
                if not header.is_control and header.next_offset > offset:
                    return max(0.0, time.time() - header.max_timestamp / 1000)
    except (ClientError, DecodeError):
        return None
    return 0.0

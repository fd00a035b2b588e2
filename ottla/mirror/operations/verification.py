"""Originals and copies compared: each record of the source that was to be copied stands where the map says, as it was.

Only what both sides still hold is compared: from their log starts on, up to where the copy was decided when it began.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ottla.client.transport import EARLIEST_TIMESTAMP, FetchPartition, FetchRequest
from ottla.client.types import TopicPartition
from ottla.core.types import Buffer
from ottla.mirror.core.progress import CopiedPartition
from ottla.mirror.engine.side import Side
from ottla.records.aborted import AbortedFilter
from ottla.records.batch import Record, decode_records, iterate_headers

_FETCH_BYTES: Final = 4 << 20
_KEPT: Final = 10  # differences that are told one by one


@dataclass(slots=True)
class Verdict:
    """Of one partition."""

    source: TopicPartition
    target: TopicPartition
    compared: int = 0
    left_out: int = 0  # records of the source that are in no run: loops
    missing: int = 0  # on the target
    differing: int = 0
    foreign: int = 0  # records of the target that are no copies
    differences: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether the copy is what it should be."""
        return self.missing == self.differing == 0

    def tell(self, difference: str) -> None:
        """Keep the first few."""
        if len(self.differences) < _KEPT:
            self.differences.append(difference)


async def verify(
    source: Side, target: Side, original: TopicPartition, copy: TopicPartition, copied: CopiedPartition, compacted: bool
) -> Verdict:
    """Read both sides once. In a compacted topic a record that is gone on one side is no difference."""
    verdict = Verdict(original, copy)
    end = copied.map.position or 0
    source_start = await source.offset_at(original, EARLIEST_TIMESTAMP, read_committed=True)
    target_start = await target.offset_at(copy, EARLIEST_TIMESTAMP, read_committed=True)
    copies = records_of(target, copy, target_start, copied.map.target_end)
    held = await anext(copies, None)
    async for record in records_of(source, original, source_start, end):
        at = copied.map.to_target(record.offset)
        run = None if at is None else copied.map.copy_at(at)
        if at is None or run is None or not run.source <= record.offset < run.source_end:
            verdict.left_out += 1
            continue
        if at < target_start:
            continue
        while held is not None and held.offset < at:
            if copied.map.copy_at(held.offset) is None:
                verdict.foreign += 1
            elif not compacted:
                verdict.tell(f"target offset {held.offset}: no longer in the source, or twice")
            held = await anext(copies, None)
        if held is None or held.offset != at:
            if not compacted:
                verdict.missing += 1
                verdict.tell(f"source offset {record.offset}: missing at target offset {at}")
            continue
        verdict.compared += 1
        if (held.key, held.value, held.headers, held.timestamp) != (
            record.key,
            record.value,
            record.headers,
            record.timestamp,
        ):
            verdict.differing += 1
            verdict.tell(f"source offset {record.offset}: not the same as target offset {at}")
        held = await anext(copies, None)
    return verdict


async def records_of(side: Side, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Record]:
    """The committed records of a partition between two offsets, in order. Raises ClientError."""
    position = start
    while position < end:
        data, left_out = await side.patiently(partial(_fetch, side, partition, position))
        for where, header in iterate_headers(data, allow_partial=True):
            records = decode_records(data, where)
            if not left_out(header, records):
                for record in records:
                    if position <= record.offset < end:
                        yield record
            position = max(position, header.next_offset)
        if not data:
            return


async def _fetch(side: Side, partition: TopicPartition, offset: int) -> tuple[Buffer, AbortedFilter]:
    node_id, _ = side.leader(partition)
    request = FetchRequest(500, 1, _FETCH_BYTES, True, [FetchPartition(partition, offset, _FETCH_BYTES)])
    [result] = await side.transport.fetch(node_id, request)
    if result.error is not None:
        raise result.error
    return result.batches, AbortedFilter(result.aborted_transactions)

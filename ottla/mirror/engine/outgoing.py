"""Fetched batches made into those that are written: handed on whole, or several small ones in one.

A produced batch costs a request, a record of one that is made anew a few microseconds. So batches go on as they are,
compressed, unless they are so small that one request for several of them is cheaper.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ottla.core.types import Buffer
from ottla.mirror.core.plan import Action, Step, wanted_records
from ottla.mirror.core.provenance import Path
from ottla.records.batch import encode_batch
from ottla.records.joining import join_batches
from ottla.records.record import Record

SMALL_RECORDS: Final = 32
SMALL_BYTES: Final = 48 << 10
JOINED_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One batch to write. `spans`: source offset and count of its records, in their order."""

    batch: Buffer
    spans: tuple[tuple[int, int], ...]
    path: Path

    @property
    def count(self) -> int:
        """Its records."""
        return sum(count for _, count in self.spans)


def outgoing(data: Buffer, steps: Iterable[Step], position: int, single: range) -> Iterator[Outgoing]:
    """The batches to write for these steps; `single`: source offsets of records that get a batch each."""
    view = memoryview(data)
    group: list[Step] = []
    size = 0
    for step in steps:
        if step.action is Action.LEAVE_OUT:
            continue
        header = step.header
        alone = bool(single) and header.base_offset < single.stop and single.start < header.next_offset
        small = not alone and header.record_count <= SMALL_RECORDS and header.size_bytes <= SMALL_BYTES
        if group and not (small and _fit(group[0], step) and size + header.size_bytes <= JOINED_BYTES):
            yield from _joined(view, group, position)
            group, size = [], 0
        if alone:
            yield from _one_by_one(view, step, position)
        elif small:
            group.append(step)
            size += header.size_bytes
        else:
            yield from _joined(view, [step], position)
    if group:
        yield from _joined(view, group, position)


def _fit(first: Step, step: Step) -> bool:
    return first.path == step.path and first.header.compression == step.header.compression


def _joined(view: memoryview, group: list[Step], position: int) -> Iterator[Outgoing]:
    first = group[0]
    if len(group) == 1 and first.action is Action.PASS:
        header = first.header
        batch = view[first.start : first.start + header.size_bytes]
        yield Outgoing(batch, ((header.base_offset, header.record_count),), first.path)
        return
    if all(step.action is Action.PASS for step in group):
        spans = tuple((step.header.base_offset, step.header.record_count) for step in group)
        yield Outgoing(join_batches(view, [step.start for step in group]), spans, first.path)
        return
    records = [record for step in group for record in wanted_records(view, step, position)]
    if records:
        yield _made_anew(records, first)


def _one_by_one(view: memoryview, step: Step, position: int) -> Iterator[Outgoing]:
    for record in wanted_records(view, step, position):
        yield _made_anew([record], step)


def _made_anew(records: list[Record], step: Step) -> Outgoing:
    return Outgoing(encode_batch(records, compression=step.header.compression), tuple(_spans(records)), step.path)


def _spans(records: list[Record]) -> Iterator[tuple[int, int]]:
    start = end = records[0].offset
    for record in records:
        if record.offset != end:
            yield start, end - start
            start = record.offset
        end = record.offset + 1
    yield start, end - start

"""Reading a log's files: which segment, which position, and what to do when it is not in the page cache.

The same walk runs on the loop, over the handles and indexes that are at hand and bytes of the page cache, and in a
job, which opens what is missing and may block.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ottla.core.ports import Disk, File
from ottla.core.types import Buffer
from ottla.partitions.index import OffsetIndex
from ottla.partitions.reading import ReadBytes, check, collect, locate
from ottla.partitions.segment import Segment
from ottla.partitions.segment_files import load_index


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader asks for: batches in [offset, end_offset)."""

    offset: int
    end_offset: int
    max_bytes: int
    minimum_one: bool


@dataclass(slots=True)
class Found:
    """Whole batches, and where the next one begins."""

    buffer: Buffer
    next_offset: int  # -1 when there is no batch
    segment: Segment
    next_position: int


Source = Callable[[Segment], tuple[ReadBytes, OffsetIndex] | None]


def floor(segments: Sequence[Segment], offset: int) -> int:
    """Place of the segment that holds `offset`, or of the first one."""
    return max(bisect_right(segments, offset, key=_base_offset) - 1, 0)


def _base_offset(segment: Segment) -> int:
    return segment.base_offset


def read_segments(
    segments: Sequence[Segment], wanted: Wanted, cursor: tuple[Segment, int] | None, source: Source
) -> Found | None:
    """Read what is wanted from one segment: the first of `segments` that has any of it. None: not at hand."""
    for segment in segments:
        if segment.base_offset >= wanted.end_offset:
            break
        limit = segment.written
        if not limit:
            continue
        at_hand = source(segment)
        if at_hand is None:
            return None
        read, index = at_hand
        path = segment.path()
        if cursor is not None and cursor[0] is segment:
            position: int | None = cursor[1]
        else:
            start = min(index.lookup(wanted.offset), limit)
            position = locate(read, path, start, limit, wanted.offset, segment.base_offset)
        if position is None:
            return None
        if position >= limit:
            continue
        found = collect(
            read,
            path,
            position,
            limit,
            wanted.end_offset,
            segment.next_offset,
            wanted.max_bytes,
            wanted.minimum_one,
        )
        if found is None:
            return None
        buffer, next_offset = _sound(segment, position, wanted.offset, *found)
        return Found(buffer, next_offset, segment, position + len(buffer))
    return Found(b"", -1, segments[-1], 0)


def _sound(segment: Segment, position: int, offset: int, buffer: Buffer, next_offset: int) -> tuple[Buffer, int]:
    """What was there before this process was may have decayed. Whoever reads from the start on checks it for others.

    What of it can be given to a reader, and the offset after that; CorruptContents when that is nothing.
    """
    checked, size = segment.checked, len(buffer)
    if checked < segment.unknown and position < segment.unknown and position + size > checked:
        sound = check(buffer, segment.path(), position, checked, segment.unknown, offset, segment.next_offset)
        if sound is not None:
            size, next_offset = sound
            buffer = memoryview(buffer)[:size]
        if position <= checked:
            segment.checked = position + size
    return buffer, next_offset


class ColdRead:
    """The walk as a job. What it opened and loaded is kept for the loop to adopt."""

    __slots__ = ("cursor", "disk", "opened", "segments", "wanted")

    def __init__(
        self, disk: Disk, segments: Sequence[Segment], wanted: Wanted, cursor: tuple[Segment, int] | None
    ) -> None:
        self.disk, self.segments, self.wanted, self.cursor = disk, segments, wanted, cursor
        self.opened: dict[Segment, tuple[File, OffsetIndex]] = {}

    def __call__(self) -> Found:
        found = read_segments(self.segments, self.wanted, self.cursor, self._source)
        if found is None:
            raise OSError(f"{self.segments[0].path()} is shorter than it was")
        return found

    def _source(self, segment: Segment) -> tuple[ReadBytes, OffsetIndex]:
        file = self.disk.files.open(segment.path())
        index = segment.index
        if index is None:
            index = load_index(self.disk.files, segment)
        self.opened[segment] = file, index
        return file.pread, index

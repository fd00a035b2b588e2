"""Looking up offsets by time: the first record at or after a timestamp, and the record with the largest one.

Indexes lead to a batch, and only the records of that batch are looked at.
"""

from collections.abc import Sequence

from ottla.core.ports import Files
from ottla.partitions.index import OffsetIndex, TimeIndex
from ottla.partitions.results import NO_OFFSET, TimestampOffset
from ottla.partitions.segment import Segment
from ottla.partitions.segment_files import load_index, load_time_index, walk_headers
from ottla.records.scan import find_timestamp, scan_batch


def find_by_timestamp(
    files: Files, segments: Sequence[Segment], timestamp: int, start_offset: int, end_offset: int
) -> TimestampOffset:
    """The first record in [start, end) with that timestamp or a later one. Blocks: a job."""
    for segment in segments:
        if segment.max_timestamp < timestamp or segment.next_offset <= start_offset or not segment.written:
            continue
        if segment.base_offset >= end_offset:
            break
        index, time_index = _indexes(files, segment)
        position = index.lookup(max(time_index.lookup(timestamp), start_offset))
        file = files.open(segment.path())
        try:
            for at, header in walk_headers(file, segment.path(), position, segment.written):
                if header.base_offset >= end_offset:
                    break
                if header.max_timestamp < timestamp or header.last_offset < start_offset or header.is_control:
                    continue
                found = find_timestamp(file.pread(header.size_bytes, at), timestamp, start_offset)
                if found is not None and found.offset < end_offset:
                    return TimestampOffset(found.timestamp, found.offset, header.partition_leader_epoch)
        finally:
            file.close()
    return NO_OFFSET


def find_max_timestamp(
    files: Files, segments: Sequence[Segment], start_offset: int, end_offset: int
) -> TimestampOffset:
    """The first record with the largest timestamp. Blocks: a job."""
    timestamps = [segment.max_timestamp for segment in segments if segment.written]
    best = max(timestamps, default=-1)
    if best < 0:
        return NO_OFFSET
    found = find_by_timestamp(files, segments, best, start_offset, end_offset)
    if found.offset >= 0:
        return found
    # The largest timestamp lies outside of [start, end): look at what is inside.
    latest = NO_OFFSET
    for segment in segments:
        if not segment.written or segment.next_offset <= start_offset or segment.base_offset >= end_offset:
            continue
        file = files.open(segment.path())
        try:
            for at, header in walk_headers(file, segment.path(), 0, segment.written):
                if header.is_control or header.max_timestamp <= latest.timestamp:
                    continue
                for entry in scan_batch(file.pread(header.size_bytes, at)):
                    if entry.timestamp > latest.timestamp and start_offset <= entry.offset < end_offset:
                        latest = TimestampOffset(entry.timestamp, entry.offset, header.partition_leader_epoch)
        finally:
            file.close()
    return latest


def _indexes(files: Files, segment: Segment) -> tuple[OffsetIndex, TimeIndex]:
    index, time_index = segment.index, segment.time_index
    return (
        load_index(files, segment) if index is None else index,
        load_time_index(files, segment) if time_index is None else time_index,
    )

"""What a start takes from index files instead of reading the log.

They are saved before a producer snapshot is: up to its offset they are complete and true. What is beyond may be torn,
or speak of batches that a crash took and others replaced. An index that is not there, or does not fit its segment,
costs time: the segment is read then.

The last entry of a closed segment names its last batch. Where it lies behind the end of the file, records are gone: the
gap before the next segment tells nothing, as compaction may have left it.
"""

from typing import Final

from ottla.core.errors import CorruptBatch
from ottla.core.ports import File, Files
from ottla.partitions.index import OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, OffsetIndex, TimeIndex
from ottla.partitions.reading import damage
from ottla.partitions.segment import INDEX_SUFFIX, TIME_INDEX_SUFFIX, Segment, file_name
from ottla.partitions.segment_files import INDEX_INTERVAL_BYTES, walk_headers
from ottla.records.header import HEADER_BYTES, BatchHeader, read_header

_SUFFIXES: Final = (INDEX_SUFFIX, TIME_INDEX_SUFFIX)


def trust(files: Files, segment: Segment, next_offset: int, names: set[str]) -> None:
    """A segment that ends below the snapshot: its numbers come from the last entries and the few batches behind them.

    `names`: of the files in its directory. Without usable indexes all headers are read, and the indexes made anew.
    Raises CorruptLog when the file ends before its last batch, or what is read of it cannot be.
    """
    index, time_index = OffsetIndex(segment.base_offset), TimeIndex(segment.base_offset)
    if _has_indexes(segment, names):
        index.data[:] = _end(files, segment.path(INDEX_SUFFIX), OFFSET_ENTRY_BYTES)
        time_index.data[:] = _end(files, segment.path(TIME_INDEX_SUFFIX), TIME_ENTRY_BYTES)
    segment.size = 0
    file = files.open(segment.path())
    try:
        resumed = _stand_behind_last_entry(file, segment, index, time_index)
        for position, header in walk_headers(file, segment.path(), segment.size, segment.written):
            if not segment.next_offset <= header.base_offset <= header.last_offset < next_offset:  # no CRC covers these
                raise damage(
                    segment.path(),
                    position,
                    f"a batch with offsets {header.base_offset} to {header.last_offset}, where {segment.next_offset} "
                    f"was due and the next segment begins at {next_offset}",
                )
            segment.add(header.size_bytes, header.last_offset, header.max_timestamp, INDEX_INTERVAL_BYTES)
    finally:
        file.close()
    if len(index):
        _check_end(segment, *index.entry(0), next_offset)
    segment.next_offset = next_offset
    segment.seal()
    if resumed or not segment.index:
        segment.index = segment.time_index = None  # the files serve


def resume(files: Files, file: File, segment: Segment, trusted_end: int, names: set[str]) -> None:
    """Take over the entries of batches that end before `trusted_end`, and stand behind the last of these batches.

    The files hold no other entries afterwards, durably: what is appended next may contradict them.
    """
    index, time_index = OffsetIndex(segment.base_offset), TimeIndex(segment.base_offset)
    segment.size = 0
    if _has_indexes(segment, names):
        index.data[:] = files.read_bytes(segment.path(INDEX_SUFFIX))
        time_index.data[:] = files.read_bytes(segment.path(TIME_INDEX_SUFFIX))
        if index.usable(segment.written) and time_index.usable():
            index.truncate(trusted_end)
            time_index.truncate(index.entry(len(index) - 1)[0] + 1 if len(index) else segment.base_offset)
            if _stand_behind_last_entry(file, segment, index, time_index):
                segment.index, segment.time_index = index, time_index
    assert segment.index is not None
    assert segment.time_index is not None
    segment.index_flushed, segment.time_index_flushed = len(segment.index.data), len(segment.time_index.data)
    for suffix, size in zip(_SUFFIXES, (segment.index_flushed, segment.time_index_flushed), strict=True):
        if file_name(segment.base_offset, suffix) in names:
            _cut(files, segment.path(suffix), size)


def _has_indexes(segment: Segment, names: set[str]) -> bool:
    return all(file_name(segment.base_offset, suffix) in names for suffix in _SUFFIXES)


def _end(files: Files, path: str, length: int) -> bytes:
    """The last entry of an index file, if it has whole entries only."""
    file = files.open(path)
    try:
        size = file.size()
        return file.pread(length, size - length) if size and size % length == 0 else b""
    finally:
        file.close()


def _stand_behind_last_entry(file: File, segment: Segment, index: OffsetIndex, time_index: TimeIndex) -> bool:
    """Account for all batches up to the last indexed one; False, and nothing done, when it is not where they say."""
    if not len(index) or not len(time_index):
        return False
    offset, position = index.entry(len(index) - 1)
    header = _header_at(file, position) if position < segment.written else None
    first = _header_at(file, 0)
    if header is None or first is None or header.last_offset != offset:
        return False
    if position + header.size_bytes > segment.written:  # cut off within: who reads the headers says so
        return False
    segment.first_timestamp = first.max_timestamp
    segment.max_timestamp, segment.max_timestamp_offset = time_index.entry(len(time_index) - 1)
    segment.last_offset, segment.last_position = offset, position
    segment.size, segment.next_offset = position + header.size_bytes, header.next_offset
    segment.bytes_since_index = header.size_bytes
    return True


def _check_end(segment: Segment, offset: int, position: int, next_offset: int) -> None:
    """What the last entry says and the file does not hold is missing, if it fits in between.

    An entry in which a bit flipped does not fit: its offset or its position is one that there is, or cannot be.
    """
    if position >= segment.written and segment.next_offset <= offset < next_offset:
        raise damage(segment.path(), segment.written, f"the file ends before offset {offset}, which was there")


def _header_at(file: File, position: int) -> BatchHeader | None:
    try:
        return read_header(file.pread(HEADER_BYTES, position))
    except CorruptBatch:
        return None


def _cut(files: Files, path: str, size: int) -> None:
    file = files.open(path)
    try:
        if file.size() != size:
            file.truncate(size)
            file.sync()
    finally:
        file.close()

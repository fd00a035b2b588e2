"""One segment: a range of the log in a file of batches, with its indexes and the numbers that decide when it ends."""

from typing import Final

from ottla.partitions.config import LogConfig
from ottla.partitions.index import OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, OffsetIndex, TimeIndex
from ottla.records.header import BatchHeader

LOG_SUFFIX: Final = ".log"
INDEX_SUFFIX: Final = ".index"
TIME_INDEX_SUFFIX: Final = ".timeindex"
TRANSACTION_INDEX_SUFFIX: Final = ".txnindex"
SNAPSHOT_SUFFIX: Final = ".snapshot"
CLEANED_SUFFIX: Final = ".cleaned"
SWAP_SUFFIX: Final = ".swap"
DELETED_SUFFIX: Final = ".deleted"

SEGMENT_SUFFIXES: Final = (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX, SNAPSHOT_SUFFIX)

MAX_RELATIVE_OFFSET: Final = 2**31 - 1
_MAX_POSITION: Final = 2**31 - 1
_NO_TIMESTAMP: Final = -1


def file_name(base_offset: int, suffix: str) -> str:
    """E.g. ``00000000000000000042.log``."""
    return f"{base_offset:020d}{suffix}"


class Segment:
    """What the loop knows of a segment. `size` counts queued bytes too; `written` only what the file holds."""

    __slots__ = (
        "base_offset",
        "bytes_since_index",
        "checked",
        "created",
        "directory",
        "failed",
        "first_timestamp",
        "index",
        "index_flushed",
        "last_offset",
        "last_position",
        "max_timestamp",
        "max_timestamp_offset",
        "modified_ms",
        "next_offset",
        "size",
        "time_index",
        "time_index_flushed",
        "unknown",
        "written",
    )

    def __init__(self, directory: str, base_offset: int, *, created: bool = False) -> None:
        self.directory, self.base_offset = directory, base_offset
        self.next_offset = base_offset
        self.size = self.written = 0
        self.created = created  # whether the files exist
        self.failed = False  # a write or sync failed: its pages are not trusted, though the next sync succeeds
        self.index: OffsetIndex | None = OffsetIndex(base_offset)
        self.time_index: TimeIndex | None = TimeIndex(base_offset)
        self.index_flushed = self.time_index_flushed = 0  # bytes that the files hold
        self.bytes_since_index = 0
        self.last_offset = self.last_position = -1  # of the last batch
        self.first_timestamp = _NO_TIMESTAMP
        self.max_timestamp = _NO_TIMESTAMP
        self.max_timestamp_offset = base_offset
        self.modified_ms = 0
        self.unknown = 0  # so many bytes from the start on were there before this process was
        self.checked = 0  # so many of them were read and found right

    def path(self, suffix: str = LOG_SUFFIX) -> str:
        return f"{self.directory}/{self.base_offset:020d}{suffix}"

    def add(self, size_bytes: int, last_offset: int, max_timestamp: int, index_interval_bytes: int) -> None:
        """Account for a batch at the end of the segment; index it when the last entry is far enough away."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp, self.max_timestamp_offset = max_timestamp, last_offset
        if self.bytes_since_index > index_interval_bytes:
            assert self.index is not None and self.time_index is not None
            self.index.append(last_offset, self.size)
            self.time_index.append(self.max_timestamp, self.max_timestamp_offset)
            self.bytes_since_index = 0
        self.bytes_since_index += size_bytes
        self.last_offset, self.last_position = last_offset, self.size
        self.size += size_bytes
        self.next_offset = last_offset + 1

    def full_for(self, header: BatchHeader, size_bytes: int, last_offset: int, config: LogConfig, now_ms: int) -> bool:
        """Whether a batch must go to a new segment: by size, age, index size or the range of a relative offset."""
        size = self.size
        if not size:
            return False
        if size + size_bytes > min(config.segment_bytes, _MAX_POSITION):
            return True
        if last_offset - self.base_offset > MAX_RELATIVE_OFFSET:
            return True
        index, time_index = self.index, self.time_index
        assert index is not None and time_index is not None
        if (
            len(index.data) + OFFSET_ENTRY_BYTES > config.segment_index_bytes
            or len(time_index.data) + TIME_ENTRY_BYTES > config.segment_index_bytes
        ):
            return True
        if self.first_timestamp >= 0:
            return header.max_timestamp - self.first_timestamp > config.segment_ms
        return bool(self.modified_ms) and now_ms - self.modified_ms > config.segment_ms

    def seal(self) -> None:
        """No more appends: the time index must name the largest timestamp, as Kafka's does.

        And the offset index the last batch: if the file ends before it one day, that shows (`trusted_indexes`).
        """
        index, position = self.index, self.last_position
        if index is not None and position >= 0 and (not len(index) or index.entry(len(index) - 1)[1] < position):
            index.append(self.last_offset, position)
        if self.time_index is not None and self.max_timestamp >= 0:
            self.time_index.append(self.max_timestamp, self.max_timestamp_offset)

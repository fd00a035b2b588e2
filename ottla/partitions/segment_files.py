"""The index files beside a `.log` file: loading them, rebuilding what cannot be used, writing them."""

from collections.abc import Iterator
from typing import Final

from ottla.core.errors import CorruptBatch
from ottla.core.ports import File, Files
from ottla.partitions.index import OffsetIndex, TimeIndex
from ottla.partitions.reading import damage
from ottla.partitions.segment import INDEX_SUFFIX, TIME_INDEX_SUFFIX, Segment
from ottla.records.header import HEADER_BYTES, BatchHeader, read_header

CHUNK_BYTES: Final = 1 << 20
INDEX_INTERVAL_BYTES: Final = 4096


def load_index(files: Files, segment: Segment) -> OffsetIndex:
    """The offset index of a sealed segment, from its file or built anew from the log."""
    index = OffsetIndex(segment.base_offset, read_optional(files, segment.path(INDEX_SUFFIX)))
    return index if index.usable(segment.written) else rebuild(files, segment)[0]


def load_time_index(files: Files, segment: Segment) -> TimeIndex:
    """The time index of a sealed segment, from its file or built anew from the log."""
    index = TimeIndex(segment.base_offset, read_optional(files, segment.path(TIME_INDEX_SUFFIX)))
    return index if len(index) and index.usable() else rebuild(files, segment)[1]


def rebuild(files: Files, segment: Segment) -> tuple[OffsetIndex, TimeIndex]:
    """Both indexes from the headers of the log file; they are not written."""
    scratch = Segment(segment.directory, segment.base_offset)
    file = files.open(segment.path())
    try:
        for position, header in walk_headers(file, segment.path(), 0, segment.written):
            del position
            scratch.add(header.size_bytes, header.last_offset, header.max_timestamp, INDEX_INTERVAL_BYTES)
    finally:
        file.close()
    scratch.seal()
    assert scratch.index is not None
    assert scratch.time_index is not None
    return scratch.index, scratch.time_index


def walk_headers(file: File, path: str, position: int, limit: int) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each batch in [position, limit); CorruptLog where there is none, or its end is missing."""
    while position < limit:
        data = file.pread(min(CHUNK_BYTES, limit - position), position)
        at = 0
        while at + HEADER_BYTES <= len(data):
            try:
                header = read_header(data, at)
            except CorruptBatch as error:
                raise damage(path, position + at, str(error)) from error
            if header.magic != 2:
                raise damage(path, position + at, "no batch begins here")
            if position + at + header.size_bytes > limit:
                raise damage(path, position + at, f"the file ends within the batch of offset {header.base_offset}")
            yield position + at, header
            at += header.size_bytes
        if not at:
            raise damage(path, position, "the file ends within a header")
        position += at


def read_optional(files: Files, path: str) -> bytes:
    """Nothing when there is no such file."""
    try:
        return files.read_bytes(path)
    except FileNotFoundError:
        return b""


def replace_file(files: Files, path: str, content: bytes) -> None:
    """New content under `path`, or the old one; the new one is durable once the directory is synced."""
    file = files.open(path + ".tmp", create=True)
    try:
        file.truncate(0)
        file.pwritev([content], 0)
        file.sync()
    finally:
        file.close()
    files.rename(path + ".tmp", path)

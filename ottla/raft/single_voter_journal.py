"""The journal's file: frames, each checked by a CRC and each written by one sync.

    crc32c u32 | magic u32 | kind u8 | term u64 | first index u64 | count u32 | position u64 | length u32 | body

A file starts with HEADER and SNAPSHOT frames, complete before the file got its name, then ENTRIES frames follow. Only
one write is under way at a time, so what a crash tears is the last frame: a broken frame with a valid one behind it is
damage. `position` is where the frame stands in the file, so that old bytes elsewhere cannot be taken for a frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from crc32c import crc32c

from ottla.core.errors import CorruptLog, StorageError
from ottla.raft.quorum import Entry, Snapshot

FORMAT_VERSION: Final = 1

_MAGIC: Final = 0x4F74_4C6A
_PREFIX: Final = Struct(">II")
_REST: Final = Struct(">BQQIQI")
_HEADER: Final = Struct(">HQQQ")  # format version, snapshot's index, its term, its length
_LENGTH: Final = Struct(">I")
_OVERHEAD: Final = _PREFIX.size + _REST.size
_MAGIC_BYTES: Final = _MAGIC.to_bytes(4, "big")
SNAPSHOT_CHUNK_BYTES: Final = 1 << 20


class FrameKind(IntEnum):
    """What a frame carries."""

    HEADER = 1
    SNAPSHOT = 2
    ENTRIES = 3


_KINDS: Final = frozenset(int(kind) for kind in FrameKind)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as read."""

    kind: FrameKind
    term: int
    first_index: int
    count: int
    body: bytes
    end: int  # the position behind it


@dataclass(frozen=True, slots=True)
class JournalContent:
    """All that a journal's file holds."""

    snapshot: Snapshot | None
    entries: Sequence[Entry]
    last_term: int
    snapshot_end: int
    valid_end: int  # what lies behind it is a torn tail
    size: int

    @property
    def torn_bytes(self) -> int:
        """How many bytes an unfinished write left behind."""
        return self.size - self.valid_end


def encode_entries(term: int, first_index: int, entries: Sequence[bytes], position: int) -> bytes:
    """One frame. Without entries it only makes the term durable."""
    body = b"".join(part for entry in entries for part in (_LENGTH.pack(len(entry)), entry))
    return _encode(FrameKind.ENTRIES, term, first_index, len(entries), body, position)


def encode_start(snapshot: Snapshot | None) -> bytes:
    """What a new file starts with."""
    snapshot = snapshot or Snapshot(0, 0, b"")
    header = _HEADER.pack(FORMAT_VERSION, snapshot.index, snapshot.term, len(snapshot.data))
    out = bytearray(_encode(FrameKind.HEADER, snapshot.term, snapshot.index, 0, header, 0))
    for start in range(0, len(snapshot.data), SNAPSHOT_CHUNK_BYTES):
        chunk = snapshot.data[start : start + SNAPSHOT_CHUNK_BYTES]
        out += _encode(FrameKind.SNAPSHOT, snapshot.term, snapshot.index, 0, chunk, len(out))
    return bytes(out)


def decode(data: bytes, path: str) -> JournalContent:
    """Everything in the file. Raises CorruptLog for damage, StorageError for a format of a newer version."""
    snapshot, position = _read_start(data, path)
    start = position
    index, term = (snapshot.index, snapshot.term) if snapshot else (0, 0)
    entries: list[Entry] = []
    while (frame := _read(data, position)) is not None:
        if frame.kind is not FrameKind.ENTRIES or frame.first_index != index + 1 or frame.term < term:
            raise CorruptLog(path, position, "entries are out of order", _ADVICE)
        entries += _entries(frame, path, position)
        index, term, position = index + frame.count, frame.term, frame.end
    if (later := _find_frame(data, position)) is not None:
        raise CorruptLog(path, position, f"entries there are unreadable, but valid ones follow at {later}", _ADVICE)
    return JournalContent(snapshot, entries, term, start, position, len(data))


_ADVICE: Final = (
    "The metadata log must not be cut short, as its records may have been acknowledged: restore the file from a copy, "
    "or start this node with an empty data directory"
)


def _encode(kind: FrameKind, term: int, first_index: int, count: int, body: bytes, position: int) -> bytes:
    rest = _REST.pack(kind, term, first_index, count, position, len(body))
    checked = _MAGIC_BYTES + rest + body
    return crc32c(checked).to_bytes(4, "big") + checked


def _read(data: bytes, position: int) -> Frame | None:
    """The frame at `position`; None when there is no valid one."""
    if len(data) - position < _OVERHEAD:
        return None
    crc, magic = _PREFIX.unpack_from(data, position)
    kind, term, first_index, count, own_position, length = _REST.unpack_from(data, position + _PREFIX.size)
    end = position + _OVERHEAD + length
    if magic != _MAGIC or own_position != position or end > len(data) or kind not in _KINDS:
        return None
    if crc32c(memoryview(data)[position + 4 : end]) != crc:
        return None
    return Frame(FrameKind(kind), term, first_index, count, data[position + _OVERHEAD : end], end)


def _find_frame(data: bytes, position: int) -> int | None:
    while (found := data.find(_MAGIC_BYTES, position)) >= 0:
        if found >= 4 and _read(data, found - 4) is not None:
            return found - 4
        position = found + 1
    return None


def _read_start(data: bytes, path: str) -> tuple[Snapshot | None, int]:
    frame = _read(data, 0)
    if frame is None or frame.kind is not FrameKind.HEADER:
        raise CorruptLog(path, 0, "the file's header is unreadable", _ADVICE)
    version, index, term, length = _HEADER.unpack(frame.body)
    if version > FORMAT_VERSION:
        raise StorageError(
            f"{path} has format {version}, of a newer version of Ottla; this one reads up to {FORMAT_VERSION}: "
            "start the newer version"
        )
    chunks: list[bytes] = []
    position, missing = frame.end, length
    while missing:
        chunk = _read(data, position)
        if chunk is None or chunk.kind is not FrameKind.SNAPSHOT or len(chunk.body) > missing:
            raise CorruptLog(path, position, "the snapshot is unreadable", _ADVICE)
        chunks.append(chunk.body)
        position, missing = chunk.end, missing - len(chunk.body)
    return (Snapshot(index, term, b"".join(chunks)) if index else None), position


def _entries(frame: Frame, path: str, position: int) -> Iterator[Entry]:
    offset = 0
    for number in range(frame.count):
        if len(frame.body) - offset < _LENGTH.size:
            raise CorruptLog(path, position, "an entry's length is wrong", _ADVICE)
        (length,) = _LENGTH.unpack_from(frame.body, offset)
        offset += _LENGTH.size
        if len(frame.body) - offset < length:
            raise CorruptLog(path, position, "an entry's length is wrong", _ADVICE)
        yield Entry(frame.first_index + number, frame.term, frame.body[offset : offset + length])
        offset += length

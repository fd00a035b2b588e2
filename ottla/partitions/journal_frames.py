"""The shared journal's file: frames that say which bytes belong where in which segment.

    frame   crc32c u32 | magic u32 | epoch u64 | position u64 | entries u32 | body length u32 | body
    entry   topic id 16 | segment's base offset u64 | position in the segment u64 | length u32 | directory length u8
            | directory | bytes

A file is written from its beginning again and again; each time has a larger epoch. The frames of one file that count
are those of the epoch of its first frame, up to the first place where none stands. That first frame is empty: it lies
within one sector of a file that has its blocks, which a disk overwrites whole or not at all. One frame is written at a
time, so a crash tears the last one only: an unreadable frame with a valid one of the same epoch behind it is damage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from crc32c import crc32c

from ottla.core.errors import CorruptLog
from ottla.core.types import Buffer, Uuid

MAGIC: Final = 0x4F74_4A6E
_MAGIC_BYTES: Final = MAGIC.to_bytes(4, "big")
_FRAME: Final = Struct(">IIQQII")
_ENTRY: Final = Struct(">16sQQIB")
FRAME_BYTES: Final = _FRAME.size
ENTRY_BYTES: Final = _ENTRY.size
_CRC_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Redo:
    """Bytes that belong at a position of a segment."""

    topic_id: Uuid
    directory: str
    base_offset: int
    position: int
    data: Buffer


def entry_header(topic_id: Uuid, directory: bytes, base_offset: int, position: int, length: int) -> bytes:
    """What stands before the bytes of one entry."""
    return _ENTRY.pack(topic_id, base_offset, position, length, len(directory)) + directory


def frame_header(epoch: int, position: int, entries: int, body: Sequence[Buffer], body_bytes: int) -> bytes:
    """What stands before the body of a frame at `position` of its file."""
    header = _FRAME.pack(0, MAGIC, epoch, position, entries, body_bytes)
    crc = crc32c(memoryview(header)[_CRC_BYTES:])
    for part in body:
        crc = crc32c(part, crc)
    return crc.to_bytes(_CRC_BYTES, "big") + header[_CRC_BYTES:]


def read_epoch(content: bytes) -> int:
    """The epoch of a file from its first bytes; 0 when no frame begins there. The frame itself is not checked."""
    if len(content) < FRAME_BYTES:
        return 0
    _, magic, epoch, position, _, _ = _FRAME.unpack_from(content)
    return int(epoch) if magic == MAGIC and position == 0 else 0


def read_frames(content: bytes, path: str) -> Iterator[list[Redo]]:
    """The entries of each frame that counts, in order. Raises CorruptLog when one in the middle is unreadable."""
    position, epoch = 0, read_epoch(content)
    while (frame := _frame_at(content, position, epoch)) is not None:
        entries, position = frame
        yield entries
    later = _find_frame(content, position, epoch)
    if epoch and later is not None:
        raise CorruptLog(
            path,
            position,
            f"a frame there is unreadable, but a valid one follows at byte {later}",
            "It may hold the only copy of records that were acknowledged shortly before the node stopped: restore the "
            "file, or move it away to start without those records",
        )


def _frame_at(content: bytes, position: int, epoch: int) -> tuple[list[Redo], int] | None:
    if len(content) - position < FRAME_BYTES:
        return None
    crc, magic, own_epoch, own_position, count, length = _FRAME.unpack_from(content, position)
    end = position + FRAME_BYTES + length
    if magic != MAGIC or own_epoch != epoch or own_position != position or end > len(content):
        return None
    view = memoryview(content)
    if crc32c(view[position + _CRC_BYTES : end]) != crc:
        return None
    entries = []
    at = position + FRAME_BYTES
    for _ in range(count):
        topic_id, base_offset, place, size, name_bytes = _ENTRY.unpack_from(content, at)
        at += ENTRY_BYTES
        directory = bytes(view[at : at + name_bytes]).decode()
        at += name_bytes
        entries.append(Redo(Uuid(topic_id), directory, base_offset, place, view[at : at + size]))
        at += size
    return entries, end


def _find_frame(content: bytes, position: int, epoch: int) -> int | None:
    while (found := content.find(_MAGIC_BYTES, position + _CRC_BYTES)) >= 0:
        if _frame_at(content, found - _CRC_BYTES, epoch) is not None:
            return found - _CRC_BYTES
        position = found
    return None

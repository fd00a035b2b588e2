"""Frames: what every file of the journal consists of.

    header crc u32 | magic u32 | kind u8 | file u64 | position u64 | length u32 | body crc u32 | body

The CRCs are CRC-32C; the header's own lets a length be trusted where the body is not whole. `file` is a segment's
number or a snapshot's index, `position` is where the frame stands: what an earlier use of the same blocks, another file
or a misdirected write left there is never taken for a frame.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from crc32c import crc32c

from ottla.core.types import Buffer

FORMAT_VERSION: Final = 1
SECTOR_BYTES: Final = 512
"""What a disk writes whole or not at all."""

_MAGIC: Final = b"OtRj"
_HEADER: Final = Struct(">I4sBQQII")
_CRC_BYTES: Final = 4
HEADER_BYTES: Final = _HEADER.size


class FrameKind(IntEnum):
    """What a frame carries."""

    SEGMENT = 1  # opens a segment
    RECORDS = 2  # what one `persist` made durable
    SNAPSHOT = 3  # opens a snapshot
    CHUNK = 4  # a part of its data


_KINDS: Final = frozenset(int(kind) for kind in FrameKind)


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """A header that is whole and stands where it belongs."""

    kind: FrameKind
    length: int
    body_crc: int

    def fits(self, body: Buffer) -> bool:
        """Whether this is the body that was written."""
        return len(body) == self.length and crc32c(body) == self.body_crc


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame as read."""

    kind: FrameKind
    body: bytes
    end: int  # the position behind it


def encode_frame(kind: FrameKind, file: int, position: int, body: Buffer) -> bytes:
    """The header that goes before `body`."""
    header = _HEADER.pack(0, _MAGIC, kind, file, position, len(body), crc32c(body))
    return crc32c(memoryview(header)[_CRC_BYTES:]).to_bytes(_CRC_BYTES, "big") + header[_CRC_BYTES:]


def read_header(content: Buffer, at: int, file: int, position: int) -> FrameHeader | None:
    """The header at `at` of `content`, which is `position` in its file; None where no valid one stands."""
    if len(content) - at < HEADER_BYTES:
        return None
    crc, magic, kind, own_file, own_position, length, body_crc = _HEADER.unpack_from(content, at)
    if magic != _MAGIC or own_file != file or own_position != position or kind not in _KINDS:
        return None
    if crc32c(memoryview(content)[at + _CRC_BYTES : at + HEADER_BYTES]) != crc:
        return None
    return FrameHeader(FrameKind(kind), length, body_crc)


def read_frame(content: bytes, file: int, position: int) -> Frame | None:
    """The frame at `position` of a file's whole content; None where no valid one stands."""
    header = read_header(content, position, file, position)
    if header is None:
        return None
    start = position + HEADER_BYTES
    body = content[start : start + header.length]
    return Frame(header.kind, body, start + header.length) if header.fits(body) else None


def find_header(content: bytes, file: int, position: int) -> int | None:
    """Where the next valid header stands after `position`; None when there is none."""
    while (found := content.find(_MAGIC, position + _CRC_BYTES)) >= 0:
        start = found - _CRC_BYTES
        if start > position and read_header(content, start, file, start) is not None:
            return start
        position = found - _CRC_BYTES + 1
    return None


def is_torn(content: bytes, file: int, position: int) -> bool:
    """Whether the unreadable frame at `position`, the last one of a file that was zeros, is an unfinished write.

    A disk writes whole sectors, and a file system that fails stops somewhere. So of an unfinished write some sector is
    missing, or its end, and there are zeros as before. A frame that has something in each sector and at its end (its
    body does not end with a zero) was written, and perhaps acknowledged, and has been damaged since. Where the bytes
    that were written are zeros themselves, this takes damage for an unfinished write.
    """
    header = read_header(content, position, file, position)
    if header is not None:
        end = position + HEADER_BYTES + header.length
        if end > len(content) or not content[end - 1]:
            return True
    else:
        end = position + HEADER_BYTES
        if not any(content[end:]):
            return True
    while position < end:
        after = min((position // SECTOR_BYTES + 1) * SECTOR_BYTES, end)
        if not any(content[position:after]):
            return True
        position = after
    return False

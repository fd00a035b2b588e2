"""Whole batches out of a segment's file, with whatever can read bytes: the page cache on the loop, a thread when cold.

Only headers are looked at, to find where batches begin and end. A header that cannot be one is damage and raises
`CorruptLog`. Contents that this process has not written itself are checked by their CRC, once for each way through a
file (`check`): not every client checks it, and one that does can only complain.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final

from crc32c import crc32c

from ottla.core.errors import CorruptContents, CorruptLog
from ottla.core.types import Buffer
from ottla.records.header import ATTRIBUTES_POSITION, HEADER_BYTES

ReadBytes = Callable[[int, int], Buffer | None]
"""(length, position) → bytes, or None when they cannot be had here."""

_OFFSET_AND_LENGTH: Final = Struct(">qi")
_LAST_OFFSET_DELTA: Final = Struct(">i")
_LAST_OFFSET_DELTA_AT: Final = 23
_CRC: Final = Struct(">I")
_CRC_AT: Final = 17
_MAGIC_AT: Final = 16
_PREFIX_BYTES: Final = 12
_LOCATE_BYTES: Final = 8192

DAMAGE_ADVICE: Final = (
    "Bytes that were acknowledged are damaged here. Check the disk, and `ottla log verify` the file. Restore it from a "
    "replica or a backup; to go on without what follows, stop the node and move the partition's directory away."
)


def damage(path: str, position: int, reason: str) -> CorruptLog:
    return CorruptLog(path, position, reason, DAMAGE_ADVICE)


def locate(read: ReadBytes, path: str, position: int, limit: int, offset: int) -> int | None:
    """Position of the first batch that ends at `offset` or later, from a batch at `position` on.

    `limit` when there is none before it; None when bytes cannot be had.
    """
    while position < limit:
        data = read(min(_LOCATE_BYTES, limit - position), position)
        if data is None:
            return None
        at = 0
        while at + HEADER_BYTES <= len(data):
            base_offset, length = _OFFSET_AND_LENGTH.unpack_from(data, at)
            if length < HEADER_BYTES - _PREFIX_BYTES or data[at + _MAGIC_AT] != 2:
                raise damage(path, position + at, "no batch begins here")
            if base_offset + _LAST_OFFSET_DELTA.unpack_from(data, at + _LAST_OFFSET_DELTA_AT)[0] >= offset:
                return position + at
            at += _PREFIX_BYTES + length
        if not at:
            if limit - position < HEADER_BYTES:
                raise damage(path, position, "the file ends within a header")
            return None
        position += at
    return limit


def collect(
    read: ReadBytes, path: str, position: int, limit: int, end_offset: int, max_bytes: int, minimum_one: bool
) -> tuple[Buffer, int] | None:
    """Batches from `position` on that begin before `end_offset`, and the offset after them.

    At most `max_bytes`, but the first batch whole when `minimum_one`. The offset is -1 when there is no batch; None
    when bytes cannot be had.
    """
    want = min(max(max_bytes, HEADER_BYTES), limit - position)
    data = read(want, position)
    if data is None:
        return None
    have = len(data)
    unpack = _OFFSET_AND_LENGTH.unpack_from
    at, last = 0, -1
    while at + HEADER_BYTES <= have:
        base_offset, length = unpack(data, at)
        if length < HEADER_BYTES - _PREFIX_BYTES or data[at + _MAGIC_AT] != 2:
            raise damage(path, position + at, "no batch begins here")
        if base_offset >= end_offset:
            break
        after = at + _PREFIX_BYTES + length
        if after > have:
            if last >= 0 or (not minimum_one and after > max_bytes):
                break
            if position + after > limit:
                raise damage(path, position, f"a batch of {after} bytes does not end before the file does")
            data = read(after, position)
            if data is None or len(data) < after:
                return None
            have = after
        last, at = at, after
    if last < 0:
        return None if have < min(want, HEADER_BYTES) else (b"", -1)
    if at > max_bytes and not minimum_one:
        return b"", -1
    next_offset = unpack(data, last)[0] + _LAST_OFFSET_DELTA.unpack_from(data, last + _LAST_OFFSET_DELTA_AT)[0] + 1
    return (data if at == have else memoryview(data)[:at]), next_offset


def check(batches: Buffer, path: str, position: int, start: int, end: int) -> int:
    """How many bytes of these whole batches, at `position` of the file, come before one that is not what its CRC says.

    Only those that begin in [start, end) of the file are looked at. Raises CorruptContents where the first one is it.
    """
    view, size, at = memoryview(batches), len(batches), 0
    while at < size and position + at < end:
        after = at + _PREFIX_BYTES + _OFFSET_AND_LENGTH.unpack_from(view, at)[1]
        if position + at >= start:
            said, found = _CRC.unpack_from(view, at + _CRC_AT)[0], crc32c(view[at + ATTRIBUTES_POSITION : after])
            if found != said:
                if at:
                    return at
                reason = f"the CRC of a batch is {found:#010x}, its header says {said:#010x}"
                raise CorruptContents(path, position, reason, DAMAGE_ADVICE)
        at = after
    return size


def base_offset(batches: Buffer, at: int) -> int:
    """Of the batch that begins there."""
    found: int = _OFFSET_AND_LENGTH.unpack_from(batches, at)[0]
    return found

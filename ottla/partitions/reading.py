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


def _misplaced(path: str, position: int, base_offset: int, last_offset: int, due: str) -> CorruptContents:
    """The CRC does not cover the base offset."""
    reason = f"a batch has offsets {base_offset} to {last_offset}, where {due}"
    return CorruptContents(path, position, reason, DAMAGE_ADVICE)


def locate(read: ReadBytes, path: str, position: int, limit: int, offset: int, due: int) -> int | None:
    """Position of the first batch that ends at `offset` or later, from a batch at `position` on.

    `limit` when there is none before it; None when bytes cannot be had. The first one passed over ends at `due` or
    later, and the others behind one another: CorruptContents for one that does not, as it may be what is sought.
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
            last_offset = base_offset + _LAST_OFFSET_DELTA.unpack_from(data, at + _LAST_OFFSET_DELTA_AT)[0]
            if last_offset >= offset:
                return position + at
            if last_offset < due:
                raise _misplaced(path, position + at, base_offset, last_offset, f"{due} was due")
            due = last_offset + 1
            at += _PREFIX_BYTES + length
        if not at:
            if limit - position < HEADER_BYTES:
                raise damage(path, position, "the file ends within a header")
            return None
        position += at
    return limit


def collect(
    read: ReadBytes,
    path: str,
    position: int,
    limit: int,
    end_offset: int,
    segment_end_offset: int,
    max_bytes: int,
    minimum_one: bool,
) -> tuple[Buffer, int] | None:
    """Batches from `position` on that begin before `end_offset`, and the offset after them.

    At most `max_bytes`, but the first batch whole when `minimum_one`. The offset is -1 when there is no batch; None
    when bytes cannot be had. Raises CorruptContents where the first one begins past the end of its segment: nobody
    would ever get further.
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
            if last < 0 and base_offset >= segment_end_offset:
                last_offset = base_offset + _LAST_OFFSET_DELTA.unpack_from(data, at + _LAST_OFFSET_DELTA_AT)[0]
                due = f"the segment ends before {segment_end_offset}"
                raise _misplaced(path, position, base_offset, last_offset, due)
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


def check(
    batches: Buffer, path: str, position: int, start: int, end: int, offset: int, end_offset: int
) -> tuple[int, int] | None:
    """How many bytes of these whole batches come before one that is not what was written, and the offset after them.

    They are at `position` of the file, and those that begin in [start, end) of it are held against their CRC. It does
    not cover the base offset: so the first one has to end at `offset` or later, each before the next one begins, and
    the last one before `end_offset`, that of the segment. None when all is well; raises CorruptContents where the first
    one is it.
    """
    view, size, at, due = memoryview(batches), len(batches), 0, offset
    while at < size and position + at < end:
        base_offset, length = _OFFSET_AND_LENGTH.unpack_from(view, at)
        after = at + _PREFIX_BYTES + length
        last_offset = base_offset + _LAST_OFFSET_DELTA.unpack_from(view, at + _LAST_OFFSET_DELTA_AT)[0]
        following = _OFFSET_AND_LENGTH.unpack_from(view, after)[0] if after < size else end_offset
        error: CorruptContents | None = None
        if not due <= last_offset < following:
            between = f"{due} was due and what comes next begins at {following}"
            error = _misplaced(path, position + at, base_offset, last_offset, between)
        elif position + at >= start:
            said, found = _CRC.unpack_from(view, at + _CRC_AT)[0], crc32c(view[at + ATTRIBUTES_POSITION : after])
            if found != said:
                reason = f"the CRC of a batch is {found:#010x}, its header says {said:#010x}"
                error = CorruptContents(path, position + at, reason, DAMAGE_ADVICE)
        if error is not None:
            if at:
                return at, due
            raise error
        at, due = after, last_offset + 1
    return None

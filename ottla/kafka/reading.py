"""Primitives for the hand-written decoders, which read a frame in place instead of copying it first.

Like those of `ottla.protocol.wire`, they check every length against the bytes left and let an access beyond the end
raise `struct.error` or `IndexError`; `MALFORMED` is turned into DecodeError by the outermost caller.
"""

from struct import Struct
from typing import Final

from ottla.core.unsigned_varint import read_unsigned_varint
from ottla.protocol.wire import bad_length, read_string_length

INT16: Final = Struct(">h")
INT32: Final = Struct(">i")

Frame = bytes | bytearray


def read_string(frame: Frame, position: int) -> tuple[str | None, int]:
    """A nullable string behind two bytes of length."""
    (length,) = INT16.unpack_from(frame, position)
    position += 2
    if length < 0:
        return None, position
    end = position + length
    if end > len(frame):
        raise bad_length("string", length, position)
    return frame[position:end].decode(), end


def read_compact_string(frame: Frame, position: int) -> tuple[str | None, int]:
    """A nullable string behind a varint of its length plus one."""
    length, position = read_string_length(frame, position)
    if length == 0:
        return None, position
    end = position + length - 1
    if end > len(frame):
        raise bad_length("string", length - 1, position)
    return frame[position:end].decode(), end


def read_count(frame: Frame, position: int, smallest_bytes: int) -> tuple[int, int]:
    """The length of an array, checked against the bytes left when an element takes at least `smallest_bytes`."""
    (count,) = INT32.unpack_from(frame, position)
    return _checked(count, position + 4, len(frame), smallest_bytes)


def read_compact_count(frame: Frame, position: int, smallest_bytes: int) -> tuple[int, int]:
    """As `read_count`, behind a varint of the length plus one. A null array counts as -1."""
    count, position = read_unsigned_varint(frame, position)
    return _checked(count - 1, position, len(frame), smallest_bytes)


def _checked(count: int, position: int, size: int, smallest_bytes: int) -> tuple[int, int]:
    if not 0 <= count <= (size - position) // smallest_bytes:
        raise bad_length("array", count, position)
    return count, position


def skip_tagged_fields(frame: Frame, position: int) -> int:
    """The position behind a section of tagged fields that nobody wants to know."""
    count, position = read_unsigned_varint(frame, position)
    for _ in range(count):
        _tag, position = read_unsigned_varint(frame, position)
        size, position = read_unsigned_varint(frame, position)
        if size > len(frame) - position:
            raise bad_length("tagged field", size, position)
        position += size
    return position

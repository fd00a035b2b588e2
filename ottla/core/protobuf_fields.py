"""Large byte fields of protobuf messages: put behind the rest of a message, and taken out of it as views.

protobuf copies such a field when it is set, when it is encoded, when it is parsed and when it is looked at; batches of
records are megabytes, and memory that is touched for the first time costs more than the copy. A message may hold its
fields in any order, so what goes over the wire is the same message (https://protobuf.dev/programming-guides/encoding).
"""

from typing import Final, NamedTuple

from ottla.core.errors import DecodeError
from ottla.core.types import Buffer
from ottla.core.unsigned_varint import read_unsigned_varint, write_unsigned_varint

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES: Final = 10


class Split(NamedTuple):
    """A message without one of its fields, and what that field held, as views, in order."""

    rest: bytes
    found: list[memoryview]


def field_head(number: int, size: int) -> bytes:
    """What stands before the `size` bytes of a field that is bytes, a string or a message."""
    head = bytearray()
    write_unsigned_varint(head, number << 3 | _BYTES)
    write_unsigned_varint(head, size)
    return bytes(head)


def split_field(message: Buffer, number: int) -> Split:
    """Take out the field of this number, which is bytes or messages. ValueError when this is no protobuf."""
    view = memoryview(message)
    rest: list[memoryview] = []
    found: list[memoryview] = []
    position, end = 0, len(view)
    while position < end:
        start = position
        try:
            key, position = read_unsigned_varint(view, position)
            begin, position = _contents(view, key & 7, position)
        except (IndexError, DecodeError) as error:
            raise ValueError("a number is cut off, or longer than it may be") from error
        if position > end:
            raise ValueError(f"field {key >> 3} is cut off")
        if key >> 3 == number and key & 7 == _BYTES:
            found.append(view[begin:position])
        else:
            rest.append(view[start:position])
    return Split(b"".join(rest), found)


def _contents(view: memoryview, wire_type: int, position: int) -> tuple[int, int]:
    """Where what a field holds begins, and the position behind it, which may be past the end of the message."""
    if wire_type == _BYTES:
        size, position = read_unsigned_varint(view, position)
        return position, position + size
    if wire_type == _VARINT:  # of up to 64 bits
        for at in range(position, position + _MAX_VARINT_BYTES):
            if view[at] < 0x80:
                return position, at + 1
        raise DecodeError(f"a number of more than 64 bits at byte {position}")
    if wire_type in _FIXED:
        return position, position + _FIXED[wire_type]
    raise ValueError(f"a field of wire type {wire_type}")

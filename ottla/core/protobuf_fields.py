"""Large byte fields of protobuf messages: put behind the rest of a message, and taken out of it as views.

protobuf copies such a field when it is set, when it is encoded, when it is parsed and when it is looked at; batches of
records are megabytes, and memory that is touched for the first time costs more than the copy. A message may hold its
fields in any order, so what goes over the wire is the same message (https://protobuf.dev/programming-guides/encoding).
"""

from typing import Final, NamedTuple

from ottla.core.types import Buffer

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES: Final = 10


class Split(NamedTuple):
    """A message without one of its fields, and what that field held, as views, in order."""

    rest: bytes
    found: list[memoryview]


def field_head(number: int, size: int) -> bytes:
    """What stands before the `size` bytes of a field that is bytes, a string or a message."""
    return _varint(number << 3 | _BYTES) + _varint(size)


def split_field(message: Buffer, number: int) -> Split:
    """Take out the field of this number, which is bytes or messages. ValueError when this is no protobuf."""
    view = memoryview(message)
    rest: list[memoryview] = []
    found: list[memoryview] = []
    position, end = 0, len(view)
    while position < end:
        start = position
        key, position = _read_varint(view, position)
        wire_type = key & 7
        if wire_type == _BYTES:
            size, begin = _read_varint(view, position)
            position = begin + size
        elif wire_type == _VARINT:
            _, position = _read_varint(view, position)
        elif wire_type in _FIXED:
            position += _FIXED[wire_type]
        else:
            raise ValueError(f"a field of wire type {wire_type}")
        if position > end:
            raise ValueError(f"field {key >> 3} is cut off")
        if key >> 3 == number and wire_type == _BYTES:
            found.append(view[begin:position])
        else:
            rest.append(view[start:position])
    return Split(b"".join(rest), found)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    for at in range(position, min(position + _MAX_VARINT_BYTES, len(view))):
        byte = view[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
    raise ValueError("a number is cut off, or longer than 64 bits")

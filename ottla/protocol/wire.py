"""Primitives of Kafka's wire format, for the generated codecs and for those written by hand.

Readers take a buffer and a position and return the value and the position behind it. Every length is checked against
the bytes left before anything is allocated. They raise `DecodeError`, except that running off the end of the bytes
shows as the `struct.error` or `IndexError` of the access itself, which saves a comparison in each access: whoever calls
them turns `MALFORMED` into `DecodeError` once, at its outermost entry. Compact forms and tagged fields: KIP-482.
"""

from struct import Struct, pack, unpack_from
from struct import error as struct_error
from typing import Final

from ottla.core.errors import DecodeError
from ottla.core.types import Buffer, Uuid
from ottla.core.unsigned_varint import read_unsigned_varint as read_unsigned_varint
from ottla.core.unsigned_varint import write_unsigned_varint as write_unsigned_varint

# What an access beyond the end, or bytes which are no UTF-8, raise.
MALFORMED: Final = (struct_error, IndexError, UnicodeDecodeError)

# The structs and strings that the arrays of one message may have in total, four numbers counting as one. The smallest
# structs take two bytes on the wire and more than a hundred in memory, so that the bytes left alone would be a weak
# bound for a large message.
MAX_ELEMENTS: Final = 1 << 20

MAX_STRING_BYTES: Final = 32_767

INT16: Final = Struct(">h")
INT32: Final = Struct(">i")

_SMALL: Final = {letter: tuple(Struct(f">{count}{letter}") for count in range(17)) for letter in "bhiq"}


def read_string_length(buffer: Buffer, position: int) -> tuple[int, int]:
    """The length plus one of a compact string, which Kafka limits as it limits strings behind two bytes of length."""
    length, position = read_unsigned_varint(buffer, position)
    if length > MAX_STRING_BYTES + 1:
        raise bad_length("string", length - 1, position)
    return length, position


def write_string_length(out: bytearray, length: int) -> None:
    """The length plus one of a compact string; ValueError beyond 32,767 bytes of text."""
    if length > MAX_STRING_BYTES + 1:
        raise ValueError(f"a string of {length - 1} bytes")
    write_unsigned_varint(out, length)


def read_string(buffer: Buffer, position: int) -> tuple[str | None, int]:
    """A nullable string behind two bytes of length."""
    (length,) = INT16.unpack_from(buffer, position)
    position += 2
    if length < 0:
        return None, position
    end = position + length
    if end > len(buffer):
        raise bad_length("string", length, position)
    return str(buffer[position:end], "utf-8"), end


def read_compact_string(buffer: Buffer, position: int) -> tuple[str | None, int]:
    """A nullable string behind a varint of its length plus one."""
    length, position = read_string_length(buffer, position)
    if length == 0:
        return None, position
    end = position + length - 1
    if end > len(buffer):
        raise bad_length("string", length - 1, position)
    return str(buffer[position:end], "utf-8"), end


def read_strings(buffer: bytes, position: int, count: int, quota: list[int]) -> tuple[list[str], int]:
    """`count` strings, none of them null, behind two bytes of length each."""
    quota[0] -= count
    if quota[0] < 0:
        raise too_many_elements()
    strings = []
    for _ in range(count):
        value, position = read_string(buffer, position)
        if value is None:
            raise DecodeError(f"a null in an array of strings at byte {position}")
        strings.append(value)
    return strings, position


def read_compact_strings(buffer: bytes, position: int, count: int, quota: list[int]) -> tuple[list[str], int]:
    """`count` strings, none of them null, behind a varint of their length plus one."""
    quota[0] -= count
    if quota[0] < 0:
        raise too_many_elements()
    strings = []
    for _ in range(count):
        value, position = read_compact_string(buffer, position)
        if value is None:
            raise DecodeError(f"a null in an array of strings at byte {position}")
        strings.append(value)
    return strings, position


def write_string(out: bytearray, value: str | None) -> None:
    """A nullable string behind two bytes of length; `struct.error` beyond 32,767 bytes."""
    if value is None:
        out += b"\xff\xff"
        return
    piece = value.encode()
    out += INT16.pack(len(piece))
    out += piece


def write_compact_string(out: bytearray, value: str | None) -> None:
    """A nullable string behind a varint of its length plus one; ValueError beyond 32,767 bytes."""
    if value is None:
        out.append(0)
        return
    piece = value.encode()
    write_string_length(out, len(piece) + 1)
    out += piece


def write_strings(out: bytearray, values: list[str]) -> None:
    """Strings behind two bytes of length each."""
    for value in values:
        piece = value.encode()
        out += INT16.pack(len(piece))
        out += piece


def write_compact_strings(out: bytearray, values: list[str]) -> None:
    """Strings behind a varint of their length plus one."""
    for value in values:
        piece = value.encode()
        write_string_length(out, len(piece) + 1)
        out += piece


def skip_tagged_fields(buffer: Buffer, position: int) -> int:
    """The position behind a section of tagged fields, none of which the reader knows."""
    count, position = read_unsigned_varint(buffer, position)
    limit = len(buffer)
    for _ in range(count):
        _tag, position = read_unsigned_varint(buffer, position)
        size, position = read_unsigned_varint(buffer, position)
        position += size
        if position > limit:
            raise bad_length("tagged field", size, position - size)
    return position


def write_tagged_field(out: bytearray, tag: int, content: bytearray) -> None:
    """One tagged field; the caller has written how many there are, and writes them in the order of their tags."""
    write_unsigned_varint(out, tag)
    write_unsigned_varint(out, len(content))
    out += content


def read_numbers(letter: str, buffer: bytes, position: int, count: int, quota: list[int]) -> list[int]:
    """`count` numbers of the type with that `struct` letter. The caller checked that the bytes are there."""
    quota[0] -= count >> 2  # a number takes a quarter of the memory of a small struct
    if quota[0] < 0:
        raise too_many_elements()
    if count < 17:
        return list(_SMALL[letter][count].unpack_from(buffer, position))
    return list(unpack_from(f">{count}{letter}", buffer, position))


def pack_numbers(letter: str, numbers: list[int]) -> bytes:
    count = len(numbers)
    return _SMALL[letter][count].pack(*numbers) if count < 17 else pack(f">{count}{letter}", *numbers)


def read_uuids(buffer: bytes, position: int, count: int) -> list[Uuid]:
    """`count` UUIDs. The caller checked that the bytes are there."""
    return [Uuid(buffer[start : start + 16]) for start in range(position, position + 16 * count, 16)]


def pack_uuids(uuids: list[Uuid]) -> bytes:
    packed = b"".join(uuids)
    if len(packed) != 16 * len(uuids):
        raise ValueError("a UUID is not 16 bytes long")
    return packed


def bad_length(what: str, length: int, position: int) -> DecodeError:
    """The error for a length or count that is negative or beyond the bytes left."""
    return DecodeError(f"{what}: length {length} at byte {position} does not fit the bytes left")


def too_many_elements() -> DecodeError:
    """The error for a message whose arrays hold more than `MAX_ELEMENTS`."""
    return DecodeError(f"more than {MAX_ELEMENTS} array elements in one message")


def unexpected_null(what: str, version: int) -> DecodeError:
    """The error for a null where the version knows none."""
    return DecodeError(f"{what}: null in version {version}")

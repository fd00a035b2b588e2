"""Variable-length integers as records use them: zigzag, seven bits a byte, least significant first.

The codec of records spells the one- and two-byte cases out where it needs them; this module holds the rest.
"""

from typing import Final

from ottla.core.errors import CorruptBatch

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

_MAX_BYTES: Final = 10  # 64 bits


def encode_varint(value: int) -> bytes:
    """The shortest form of a signed 64-bit integer."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    if rest < 0x80:
        return bytes((rest,))
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def decode_varint(data: bytes | bytearray | memoryview, position: int) -> tuple[int, int]:
    """Value and position after it. IndexError at the end of the data; CorruptBatch beyond 64 bits."""
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= 7 * _MAX_BYTES:
            raise CorruptBatch("a variable-length integer is longer than 64 bits")
    if result > 0xFFFFFFFFFFFFFFFF:
        raise CorruptBatch("a variable-length integer is longer than 64 bits")
    return (result >> 1) ^ -(result & 1), position


SMALL: Final = tuple(encode_varint(value) for value in range(4096))
"""The encoded form of the numbers that stand in most records: lengths and deltas."""

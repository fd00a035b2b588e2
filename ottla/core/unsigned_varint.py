"""Unsigned integers of up to 32 bits, seven bits a byte, least significant first: lengths, counts and tags.

Kafka's compact forms (KIP-482) and protobuf have them alike.
"""

from ottla.core.errors import DecodeError
from ottla.core.types import Buffer


def read_unsigned_varint(buffer: Buffer, position: int) -> tuple[int, int]:
    """The value and the position behind it. IndexError at the end of the bytes; DecodeError beyond 32 bits."""
    byte = buffer[position]
    if byte < 0x80:
        return byte, position + 1
    value = byte & 0x7F
    shift = 7
    while shift < 35:
        position += 1
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > 0xFFFFFFFF:
                break
            return value, position + 1
        shift += 7
    raise DecodeError(f"a varint of more than 32 bits at byte {position}")


def write_unsigned_varint(out: bytearray, value: int) -> None:
    """In its shortest form."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)

"""The numbers and texts of the progress topic's records: unsigned varints, and texts with their length in front."""

from typing import Final

from ottla.core.errors import DecodeError

_MAX_BITS: Final = 63


def write_number(data: bytearray, value: int) -> None:
    """Append `value`, seven bits a byte, least significant first. ValueError unless it is 0 to 2⁶³−1."""
    if not 0 <= value < 1 << _MAX_BITS:
        raise ValueError(f"{value} is not between 0 and 2^63-1")
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)


def read_number(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position` and the position after it; DecodeError when it is cut off or too large."""
    value = shift = 0
    try:
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > _MAX_BITS:
                break
    except IndexError:
        raise DecodeError("the bytes end within a number") from None
    if value >> _MAX_BITS:
        raise DecodeError("a number of more than 63 bits")
    return value, position


def write_text(data: bytearray, text: str) -> None:
    """Append the length in bytes and the text in UTF-8."""
    encoded = text.encode()
    write_number(data, len(encoded))
    data += encoded


def read_text(data: bytes, position: int) -> tuple[str, int]:
    """The text at `position` and the position after it; DecodeError when it is cut off or no UTF-8."""
    length, position = read_number(data, position)
    end = position + length
    if end > len(data):
        raise DecodeError(f"a text of {length} bytes is cut off")
    try:
        return data[position:end].decode(), end
    except UnicodeDecodeError as error:
        raise DecodeError(f"a text that is no UTF-8: {error}") from None

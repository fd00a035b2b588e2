"""Single records: their form in memory, and the codec of the part of a batch that follows its header.

Encode and decode are the hottest loops of every client, so they are written flat: the lengths and deltas of usual
records take one or two bytes, and those cases are spelled out in place (`bench/micro/records.py` has the figures).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from ottla.core.errors import InvalidRecord
from ottla.records.varint import SMALL, decode_varint, encode_varint

Headers = tuple[tuple[str, bytes | None], ...]


class Record(NamedTuple):
    """One record. Immutable; a named tuple, because that is made in a third of a frozen dataclass's time.

    `offset` and `timestamp` (ms) are -1 in a record that has none yet.
    """

    offset: int = -1
    timestamp: int = -1
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()


_SMALL_END: Final = len(SMALL)
_NULL = encode_varint(-1)
_MIN_RECORD_BYTES: Final = 7  # length, attributes, two deltas, two null lengths, no headers

_new_record = tuple.__new__


def encode_records(records: Iterable[Record], base_timestamp: int) -> bytes:
    """The records one after the other, with offset deltas 0, 1, 2, …; ValueError when one cannot be expressed."""
    parts: list[bytes] = []
    append = parts.append
    small = SMALL
    for offset_delta, (_, timestamp, key, value, headers) in enumerate(records):
        delta = timestamp - base_timestamp
        body = (
            b"\0"
            + (small[delta] if 0 <= delta < _SMALL_END else encode_varint(delta))
            + (small[offset_delta] if offset_delta < _SMALL_END else encode_varint(offset_delta))
        )
        if key is None:
            body += _NULL
        else:
            length = len(key)
            body += (small[length] if length < _SMALL_END else encode_varint(length)) + key
        if value is None:
            body += _NULL
        else:
            length = len(value)
            body += (small[length] if length < _SMALL_END else encode_varint(length)) + value
        body += _encode_headers(headers) if headers else b"\0"
        length = len(body)
        append(small[length] if length < _SMALL_END else encode_varint(length))
        append(body)
    return b"".join(parts)


def _encode_headers(headers: Headers) -> bytes:
    parts = [encode_varint(len(headers))]
    for name, value in headers:
        encoded_name = name.encode()
        parts += (encode_varint(len(encoded_name)), encoded_name)
        if value is None:
            parts.append(_NULL)
        else:
            parts += (encode_varint(len(value)), value)
    return b"".join(parts)


def decode_payload(
    payload: bytes, count: int, base_offset: int, base_timestamp: int, fixed_timestamp: int | None
) -> list[Record]:
    """All `count` records of a decompressed payload; InvalidRecord unless they fill it exactly.

    All records bear `fixed_timestamp` when it is given (log append time).
    """
    end = len(payload)
    if count < 0 or count * _MIN_RECORD_BYTES > end:
        raise InvalidRecord(f"{count} records cannot stand in {end} bytes")
    records: list[Record] = []
    append = records.append
    position = 0
    try:
        for _ in range(count):
            size = payload[position]
            position += 1
            if size > 0x7F:
                byte = payload[position]
                if byte < 0x80:
                    size += (byte << 7) - 0x80
                    position += 1
                    size >>= 1
                else:
                    size, position = decode_varint(payload, position - 1)
            else:
                size >>= 1
            record_end = position + size
            position += 1  # attributes, unused
            delta = payload[position]
            position += 1
            if delta > 0x7F:
                byte = payload[position]
                if byte < 0x80:
                    position += 1
                    delta += (byte << 7) - 0x80
                    delta = (delta >> 1) ^ -(delta & 1)
                else:
                    delta, position = decode_varint(payload, position - 1)
            else:
                delta = (delta >> 1) ^ -(delta & 1)
            timestamp = base_timestamp + delta if fixed_timestamp is None else fixed_timestamp
            delta = payload[position]
            position += 1
            if delta > 0x7F:
                byte = payload[position]
                if byte < 0x80:
                    delta += (byte << 7) - 0x80
                    position += 1
                    delta = (delta >> 1) ^ -(delta & 1)
                else:
                    delta, position = decode_varint(payload, position - 1)
            else:
                delta = (delta >> 1) ^ -(delta & 1)
            length = payload[position]
            position += 1
            if length == 1:
                key = None
            else:
                if length > 0x7F:
                    byte = payload[position]
                    if byte < 0x80:
                        position += 1
                        length += (byte << 7) - 0x80
                        length = (length >> 1) ^ -(length & 1)
                    else:
                        length, position = decode_varint(payload, position - 1)
                else:
                    length = (length >> 1) ^ -(length & 1)
                if length >= 0:
                    start = position
                    position += length
                    key = payload[start:position]
                else:
                    key = None
            length = payload[position]
            position += 1
            if length == 1:
                value = None
            else:
                if length > 0x7F:
                    byte = payload[position]
                    if byte < 0x80:
                        position += 1
                        length += (byte << 7) - 0x80
                        length = (length >> 1) ^ -(length & 1)
                    else:
                        length, position = decode_varint(payload, position - 1)
                else:
                    length = (length >> 1) ^ -(length & 1)
                if length >= 0:
                    start = position
                    position += length
                    value = payload[start:position]
                else:
                    value = None
            if payload[position]:
                headers, position = _decode_headers(payload, position, record_end)
            else:
                headers = ()
                position += 1
            if position != record_end or record_end > end:
                raise InvalidRecord("a record does not end where its length says")
            append(_new_record(Record, (base_offset + delta, timestamp, key, value, headers)))
    except IndexError:
        raise InvalidRecord("the records are cut off") from None
    if position != end:
        raise InvalidRecord(f"{end - position} bytes follow the {count} records that the header of the batch counts")
    return records


def _decode_headers(payload: bytes, position: int, record_end: int) -> tuple[Headers, int]:
    count, position = decode_varint(payload, position)
    if count < 0 or count * 2 > record_end - position:
        raise InvalidRecord(f"{count} headers cannot stand in a record of this size")
    headers = []
    for _ in range(count):
        length, position = decode_varint(payload, position)
        if not 0 <= length <= record_end - position:
            raise InvalidRecord(f"the name of a header has an impossible length: {length}")
        name = payload[position : position + length].decode(errors="replace")  # as Java reads it
        position += length
        length, position = decode_varint(payload, position)
        value = None
        if length >= 0:
            if length > record_end - position:
                raise InvalidRecord(f"the value of a header has an impossible length: {length}")
            value = payload[position : position + length]
            position += length
        headers.append((name, value))
    return tuple(headers), position

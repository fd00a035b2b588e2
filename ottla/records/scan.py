"""Walking over the records of a batch without building them: for key checks, lookups by timestamp and compaction.

Values and headers are passed over and not checked; each entry says where its record lies, so that compaction copies it
as it is.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ottla.core.errors import InvalidRecord
from ottla.core.types import Buffer
from ottla.records.compression import MAX_DECOMPRESSED_BYTES
from ottla.records.header import BatchHeader
from ottla.records.payload import read_payload
from ottla.records.varint import decode_varint


class Entry(NamedTuple):
    """One record in a payload: what the log asks about it, and its bytes `payload[start:end]`, length included.

    `body` is the position of its attributes byte, behind the length.
    """

    offset: int
    timestamp: int
    key: bytes | None
    has_value: bool
    start: int
    body: int
    end: int


_new_entry = tuple.__new__


def scan_batch(
    buffer: Buffer, position: int = 0, *, max_bytes: int = MAX_DECOMPRESSED_BYTES, check_crc: bool = True
) -> Iterator[Entry]:
    """The entries of the batch at `position`; CorruptBatch as soon as something is wrong."""
    header, payload = read_payload(buffer, position, max_bytes=max_bytes, check_crc=check_crc)
    return scan_payload(header, payload)


def scan_payload(header: BatchHeader, payload: bytes) -> Iterator[Entry]:
    """The entries of a decompressed payload; InvalidRecord unless the header's count of records fills it exactly."""
    base_offset, base_timestamp = header.base_offset, header.base_timestamp
    fixed_timestamp = header.max_timestamp if header.is_log_append_time else None
    payload_end = len(payload)
    position = 0
    try:
        for _ in range(header.record_count):
            start = position
            size = payload[position]
            position += 1
            if size > 0x7F:
                byte = payload[position]
                if byte < 0x80:
                    position += 1
                    size = (size + (byte << 7) - 0x80) >> 1
                else:
                    size, position = decode_varint(payload, start)
            else:
                size >>= 1
            body = position
            end = body + size
            position += 1  # attributes, unused
            timestamp = payload[position]
            position += 1
            if timestamp > 0x7F:
                timestamp, position = decode_varint(payload, position - 1)
            else:
                timestamp = (timestamp >> 1) ^ -(timestamp & 1)
            timestamp = timestamp + base_timestamp if fixed_timestamp is None else fixed_timestamp
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
            length = payload[position]
            position += 1
            if length & 1:  # negative, whatever follows: no key
                key = None
                while payload[position - 1] > 0x7F:
                    position += 1
            else:
                if length > 0x7F:
                    length, position = decode_varint(payload, position - 1)
                else:
                    length >>= 1
                key = payload[position : position + length]
                position += length
            has_value = not payload[position] & 1  # odd numbers encode negative lengths
            if position + 1 >= end or end > payload_end:  # the count of headers follows
                raise InvalidRecord("a record does not end where its length says")
            yield _new_entry(Entry, (base_offset + delta, timestamp, key, has_value, start, body, end))
            position = end
    except IndexError:
        raise InvalidRecord("the records are cut off") from None
    if position != payload_end:
        raise InvalidRecord(f"{payload_end - position} bytes follow the last record")


def find_timestamp(buffer: Buffer, timestamp: int, start_offset: int = 0, position: int = 0) -> Entry | None:
    """The first record at `start_offset` or later that has this timestamp or a later one; None when there is none."""
    for entry in scan_batch(buffer, position):
        if entry.timestamp >= timestamp and entry.offset >= start_offset:
            return entry
    return None

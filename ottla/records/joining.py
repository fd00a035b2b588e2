"""Several batches made into one, as when many small ones are to be written by one request.

Of each record only the two deltas to the header, of timestamp and of offset, are written anew; what follows them is
copied as it lies. That costs a third of decoding and encoding the records (`bench/micro/records.py`).
"""

from collections.abc import Sequence
from typing import Final

from ottla.core.errors import InvalidRecord
from ottla.core.types import Buffer
from ottla.records.compression import MAX_DECOMPRESSED_BYTES
from ottla.records.header import (
    MAGIC,
    NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    BatchHeader,
)
from ottla.records.payload import assemble_batch, read_payload
from ottla.records.varint import SMALL, decode_varint, encode_varint

_SMALL_END: Final = len(SMALL)


def join_batches(buffer: Buffer, positions: Sequence[int], *, max_bytes: int = MAX_DECOMPRESSED_BYTES) -> bytes:
    """The records of the batches at these positions, in one batch of no producer, at consecutive offsets from 0 on.

    Their timestamps must be their own (no log append time); the codec is that of the first batch. CorruptBatch when one
    is damaged.
    """
    parts: list[bytes] = []
    count = 0
    first: BatchHeader | None = None
    max_timestamp = -1
    for position in positions:
        header, payload = read_payload(buffer, position, max_bytes=max_bytes)
        if first is None:
            first = header
        shift = header.base_timestamp - first.base_timestamp
        _append(parts, payload, header.record_count, shift, count)
        count += header.record_count
        max_timestamp = max(max_timestamp, header.max_timestamp)
    if first is None or count == 0:
        raise ValueError("a batch has at least one record")
    joined = BatchHeader(
        0,
        0,
        NO_LEADER_EPOCH,
        MAGIC,
        0,
        0,
        count - 1,
        first.base_timestamp,
        max_timestamp,
        NO_PRODUCER_ID,
        NO_PRODUCER_EPOCH,
        NO_SEQUENCE,
        count,
    )
    return assemble_batch(joined, b"".join(parts), first.compression)


def _append(parts: list[bytes], payload: bytes, count: int, shift: int, first: int) -> None:
    """The payload's records, their timestamps later by `shift`, numbered from `first` on."""
    append = parts.append
    small = SMALL
    end = len(payload)
    position = 0
    try:
        for number in range(first, first + count):
            size = payload[position]
            position += 1
            if size > 0x7F:
                byte = payload[position]
                if byte < 0x80:
                    size = (size + (byte << 7) - 0x80) >> 1
                    position += 1
                else:
                    size, position = decode_varint(payload, position - 1)
            else:
                size >>= 1
            record_end = position + size
            position += 1  # attributes, unused
            delta = payload[position]
            position += 1
            if delta > 0x7F:
                delta, position = decode_varint(payload, position - 1)
            else:
                delta = (delta >> 1) ^ -(delta & 1)
            while payload[position] > 0x7F:  # the offset's delta
                position += 1
            position += 1
            if not position < record_end <= end:
                raise InvalidRecord("a record does not end where its length says")
            delta += shift
            timestamp = small[delta] if 0 <= delta < _SMALL_END else encode_varint(delta)
            offset = small[number] if number < _SMALL_END else encode_varint(number)
            size = 1 + len(timestamp) + len(offset) + record_end - position
            append(small[size] if size < _SMALL_END else encode_varint(size))
            append(b"\0" + timestamp + offset)
            append(payload[position:record_end])
            position = record_end
    except IndexError:
        raise InvalidRecord("the records are cut off") from None
    if position != end:
        raise InvalidRecord(f"{end - position} bytes follow the last record")

"""Whole record batches: records into bytes, bytes into records.

The header's part, all that a broker's hot path needs, lies in `ottla.records.header` and is offered here as well.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from ottla.core.errors import InvalidRecord
from ottla.core.types import Buffer
from ottla.records.compression import MAX_DECOMPRESSED_BYTES, Compression
from ottla.records.header import (
    CONTROL_FLAG,
    HEADER_BYTES,
    LOG_APPEND_TIME_FLAG,
    MAGIC,
    NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    TRANSACTIONAL_FLAG,
    BatchHeader,
    iterate_headers,
    patch_base_offset,
    patch_log_append_time,
    read_header,
    validate,
)
from ottla.records.payload import assemble_batch, read_payload
from ottla.records.record import Headers, Record, decode_payload, encode_records
from ottla.records.varint import decode_varint

__all__ = [
    "HEADER_BYTES",
    "MAGIC",
    "BatchHeader",
    "Compression",
    "Headers",
    "Record",
    "assemble_batch",
    "decode_records",
    "encode_batch",
    "iterate_headers",
    "iterate_records",
    "patch_base_offset",
    "patch_log_append_time",
    "read_header",
    "read_payload",
    "validate",
]

_RECORDS_IN_A_PIECE: Final = 128


def encode_batch(
    records: Sequence[Record],
    *,
    base_offset: int = 0,
    compression: Compression = Compression.NONE,
    compression_level: int | None = None,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    leader_epoch: int = NO_LEADER_EPOCH,
    is_transactional: bool = False,
    is_control: bool = False,
    log_append_time_ms: int | None = None,
) -> bytes:
    """A batch of these records at the offsets that follow `base_offset`, whatever offsets they bear themselves.

    With `log_append_time_ms` all records bear that time, otherwise each its own. ValueError for a batch of no records.
    """
    if not records:
        raise ValueError("a batch has at least one record")
    base_timestamp = records[0].timestamp
    attributes = 0
    if is_transactional:
        attributes |= TRANSACTIONAL_FLAG
    if is_control:
        attributes |= CONTROL_FLAG
    if log_append_time_ms is None:
        max_timestamp = max([record[1] for record in records])
    else:
        attributes |= LOG_APPEND_TIME_FLAG
        max_timestamp = log_append_time_ms
    header = BatchHeader(
        base_offset,
        0,
        leader_epoch,
        MAGIC,
        0,
        attributes,
        len(records) - 1,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        len(records),
    )
    return assemble_batch(header, encode_records(records, base_timestamp), compression, compression_level)


def decode_records(
    buffer: Buffer, position: int = 0, *, max_bytes: int = MAX_DECOMPRESSED_BYTES, check_crc: bool = True
) -> list[Record]:
    """The records of the batch at `position`, decompressed to at most `max_bytes`; keys and values are copies.

    CorruptBatch when the batch is damaged, InvalidRecord (one of its kind) when only its records are malformed.
    `check_crc=False` is for those who validated the batch already.
    """
    header, payload = read_payload(buffer, position, max_bytes=max_bytes, check_crc=check_crc)
    fixed_timestamp = header.max_timestamp if header.attributes & LOG_APPEND_TIME_FLAG else None
    return decode_payload(payload, header.record_count, header.base_offset, header.base_timestamp, fixed_timestamp)


def iterate_records(
    buffer: Buffer, position: int = 0, *, max_bytes: int = MAX_DECOMPRESSED_BYTES, check_crc: bool = True
) -> Iterator[Record]:
    """As `decode_records`, a few at a time: a batch of a few kilobytes may hold millions of them."""
    header, payload = read_payload(buffer, position, max_bytes=max_bytes, check_crc=check_crc)
    fixed_timestamp = header.max_timestamp if header.attributes & LOG_APPEND_TIME_FLAG else None
    start, left = 0, header.record_count
    if left <= _RECORDS_IN_A_PIECE:  # it is one, whose end need not be looked for
        yield from decode_payload(payload, left, header.base_offset, header.base_timestamp, fixed_timestamp)
        return
    while left > 0:
        count = min(left, _RECORDS_IN_A_PIECE)
        end = start
        try:
            for _ in range(count):
                length = payload[end]
                if length < 0x80 and not length & 1:
                    end += 1 + (length >> 1)
                    continue
                length, end = decode_varint(payload, end)
                if length < 0:
                    raise InvalidRecord(f"a record of {length} bytes")
                end += length
        except IndexError:
            raise InvalidRecord("the records are cut off") from None
        piece = payload[start:end]
        yield from decode_payload(piece, count, header.base_offset, header.base_timestamp, fixed_timestamp)
        start, left = end, left - count
    if start != len(payload):
        raise InvalidRecord(f"{len(payload) - start} bytes follow the {header.record_count} records of the batch")

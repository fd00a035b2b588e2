"""Between `Record` messages and record batches: the work that the structured form costs the broker.

It is done on the loop, so its size is bounded; whoever moves more uses the batch form.
"""

from collections.abc import Iterable
from struct import error as struct_error

from ottla.broker.fetch_messages import FetchedPartition
from ottla.core.errors import ApiError, CorruptBatch, ErrorCode
from ottla.core.types import Buffer
from ottla.records.aborted import AbortedFilter
from ottla.records.batch import Compression, Record, decode_records, encode_batch, iterate_headers
from ottla.v1 import records_pb2

# About 10 ms of work each.
MAX_STRUCTURED_REQUEST_BYTES = 4 << 20
MAX_STRUCTURED_RESPONSE_BYTES = 1 << 20
MAX_STRUCTURED_BATCH_BYTES = 16 << 20  # decompressed
MAX_STRUCTURED_BATCH_RECORDS = 100_000  # about 1 KB of memory each; compressed, millions fit into a few kilobytes

_NO_PRODUCER = records_pb2.ProducerSequence(producer_id=-1, producer_epoch=-1, base_sequence=-1)


def batch_of(records: records_pb2.RecordSet, now_ms: int, *, is_transactional: bool = False) -> bytes:
    """One record batch; raises ApiError for a set that is empty, too large or cannot be expressed."""
    if not records.records:
        raise ApiError(ErrorCode.INVALID_RECORD, "a record set holds at least one record")
    if records.ByteSize() > MAX_STRUCTURED_REQUEST_BYTES:
        raise ApiError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"structured records of one request may take {MAX_STRUCTURED_REQUEST_BYTES} bytes: send fewer, or a batch",
        )
    try:
        compression = Compression(records.compression)
    except ValueError:
        message = f"there is no compression {records.compression}"
        raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, message) from None
    producer = records.producer if records.HasField("producer") else _NO_PRODUCER
    try:
        return encode_batch(
            [_record_of(it, now_ms) for it in records.records],
            compression=compression,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            base_sequence=producer.base_sequence,
            is_transactional=is_transactional,
        )
    except (ValueError, struct_error) as error:  # the latter: a number that the header has no room for
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from None


def _record_of(message: records_pb2.Record, now_ms: int) -> Record:
    return Record(
        -1,
        message.timestamp_ms if message.HasField("timestamp_ms") else now_ms,
        message.key if message.HasField("key") else None,
        message.value if message.HasField("value") else None,
        tuple((header.key, header.value if header.HasField("value") else None) for header in message.headers),
    )


def next_offset_of(data: Buffer, fetch_offset: int) -> int:
    """The offset after the last batch."""
    after = fetch_offset
    for _, header in iterate_headers(data):
        after = header.next_offset
    return max(after, fetch_offset)


def records_of(data: Buffer, fetched: FetchedPartition, fetch_offset: int) -> tuple[Iterable[records_pb2.Record], int]:
    """The records from an offset on, without control and aborted ones; and where to read on."""
    left_out = AbortedFilter(fetched.aborted)
    messages: list[records_pb2.Record] = []
    next_offset = fetch_offset
    for position, header in iterate_headers(data):
        if header.next_offset <= fetch_offset:
            continue
        if header.record_count > MAX_STRUCTURED_BATCH_RECORDS:
            raise CorruptBatch(
                f"the batch at offset {header.base_offset} has {header.record_count} records, more than the "
                f"{MAX_STRUCTURED_BATCH_RECORDS} that are given as messages: fetch it as a batch"
            )
        records = decode_records(data, position, max_bytes=MAX_STRUCTURED_BATCH_BYTES, check_crc=False)
        next_offset = header.next_offset
        if not left_out(header, records):
            messages += [_message_of(record) for record in records if record.offset >= fetch_offset]
    return messages, next_offset


def _message_of(record: Record) -> records_pb2.Record:
    return records_pb2.Record(
        key=record.key,
        value=record.value,
        headers=[records_pb2.Header(key=name, value=value) for name, value in record.headers],
        timestamp_ms=record.timestamp,
        offset=record.offset,
    )

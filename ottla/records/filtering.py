"""Rebuilding a batch with some of its records, as compaction does.

Records that stay are copied as they are: their offsets and timestamps are relative to the header, whose base offset,
last offset delta and producer fields are kept, so that readers and idempotent producers see the same log with holes.
A batch that keeps a tombstone is given the time from which tombstones may go, its delete horizon (KIP-534).
"""

from collections.abc import Callable

from ottla.core.errors import InvalidRecord
from ottla.core.types import Buffer
from ottla.records.compression import MAX_DECOMPRESSED_BYTES, Compression
from ottla.records.header import DELETE_HORIZON_FLAG, NO_TIMESTAMP, BatchHeader
from ottla.records.payload import assemble_batch, read_payload
from ottla.records.scan import Entry, scan_payload
from ottla.records.varint import INT64_MAX, INT64_MIN, decode_varint, encode_varint


def filter_batch(
    buffer: Buffer,
    position: int = 0,
    *,
    keep: Callable[[Entry], bool],
    new_delete_horizon_ms: int | None = None,
    is_empty_transaction_marker: bool = False,
    retain_empty: bool = False,
    max_bytes: int = MAX_DECOMPRESSED_BYTES,
) -> bytes | None:
    """The batch at `position` with the records that `keep` wants; None when nothing of it is to stay.

    `new_delete_horizon_ms` is set in a batch that has no delete horizon yet and keeps a tombstone, or is the marker of
    a transaction of which nothing else is left (`is_empty_transaction_marker`). With `retain_empty` a batch of which no
    record stays leaves its header behind: it still says its producer's last sequence. A batch that is to stay as it is
    comes back byte for byte. CorruptBatch when the batch is damaged or expands beyond `max_bytes`.
    """
    header, payload = read_payload(buffer, position, max_bytes=max_bytes)
    entries = list(scan_payload(header, payload))
    kept = [entry for entry in entries if keep(entry)]
    if not kept:
        return _empty_batch(header) if retain_empty else None
    horizon = None
    if new_delete_horizon_ms is not None and not header.has_delete_horizon:
        has_tombstone = not header.is_control and any(not entry.has_value for entry in kept)
        if has_tombstone or is_empty_transaction_marker:
            horizon = new_delete_horizon_ms
    if len(kept) == len(entries) and horizon is None:
        return bytes(memoryview(buffer)[position : position + header.size_bytes])
    compression = header.compression
    header.record_count = len(kept)
    if not header.is_log_append_time:
        header.max_timestamp = max(entry.timestamp for entry in kept)
    if horizon is None:
        parts = [payload[entry.start : entry.end] for entry in kept]
    else:
        parts = [_rebased(payload, entry, horizon) for entry in kept]
        header.base_timestamp = horizon
        header.attributes |= DELETE_HORIZON_FLAG
    return assemble_batch(header, b"".join(parts), compression)


def _rebased(payload: bytes, entry: Entry, base_timestamp: int) -> bytes:
    """The record with its timestamp relative to another base."""
    delta = entry.timestamp - base_timestamp
    if not INT64_MIN <= delta <= INT64_MAX:
        raise InvalidRecord(f"the timestamp {entry.timestamp} is out of range")
    _, rest = decode_varint(payload, entry.body + 1)
    body = b"".join((payload[entry.body : entry.body + 1], encode_varint(delta), payload[rest : entry.end]))
    return encode_varint(len(body)) + body


def _empty_batch(header: BatchHeader) -> bytes:
    """A header that holds the place of a batch in the log: offsets and producer as they were, no record."""
    header.record_count = 0
    header.base_timestamp = NO_TIMESTAMP
    header.attributes &= ~DELETE_HORIZON_FLAG
    return assemble_batch(header, b"", Compression.NONE)

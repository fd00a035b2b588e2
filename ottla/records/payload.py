"""From a header and its uncompressed records to a batch, and back."""

from ottla.core.types import Buffer
from ottla.records.compression import COMPRESSION_MASK, MAX_DECOMPRESSED_BYTES, Compression, compress, decompress
from ottla.records.header import (
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    MAGIC,
    BatchHeader,
    patch_crc,
    read_header,
    validate,
)


def assemble_batch(
    header: BatchHeader, payload: Buffer, compression: Compression, compression_level: int | None = None
) -> bytes:
    """Header and uncompressed payload as a batch, which gets its length, codec and CRC here."""
    if compression is not Compression.NONE:
        payload = compress(compression, payload, compression_level)
    batch = bytearray(HEADER_BYTES + len(payload))
    HEADER.pack_into(
        batch,
        0,
        header.base_offset,
        len(batch) - LOG_OVERHEAD_BYTES,
        header.partition_leader_epoch,
        MAGIC,
        0,
        header.attributes & ~COMPRESSION_MASK | compression,
        header.last_offset_delta,
        header.base_timestamp,
        header.max_timestamp,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.record_count,
    )
    batch[HEADER_BYTES:] = payload
    patch_crc(batch)
    return bytes(batch)


def read_payload(
    buffer: Buffer, position: int = 0, *, max_bytes: int = MAX_DECOMPRESSED_BYTES, check_crc: bool = True
) -> tuple[BatchHeader, bytes]:
    """Header and decompressed records of the batch at `position`.

    CorruptBatch when the batch is damaged or expands beyond `max_bytes`.
    """
    header = validate(buffer, position) if check_crc else _complete_header(buffer, position)
    view = memoryview(buffer)[position + HEADER_BYTES : position + header.size_bytes]
    if not header.record_count and not view:  # compaction left only the header, which may name a codec
        return header, b""
    return header, decompress(header.compression, view, max_bytes)


def _complete_header(buffer: Buffer, position: int) -> BatchHeader:
    header = read_header(buffer, position)
    if header.magic != MAGIC or header.size_bytes > len(buffer) - position:
        validate(buffer, position)  # raises, with the reason
    return header

"""The codecs of a record batch: gzip, snappy, lz4 and zstd, each in the framing that Kafka's Java client writes.

Decompression never trusts a size that a client states: the space that it may need is derived from the compressed bytes
themselves (`ottla.records.frames`), a result beyond the caller's limit is refused before anything is allocated, and the
decompressor writes into a buffer that cannot grow. cramjam is imported with the first batch that needs it; gzip is
zlib's, which stops at a limit by itself and measured faster both ways.
"""

import zlib
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType
from typing import Final

from ottla.core.errors import CorruptBatch
from ottla.core.types import Buffer
from ottla.records import frames

MAX_DECOMPRESSED_BYTES: Final = 128 * 1024 * 1024
"""How much a batch may expand to when the caller sets no limit of its own."""

COMPRESSION_MASK: Final = 0x07


class Compression(IntEnum):
    """The codec of a batch, as the low bits of its attributes number it."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


_BY_ID: Final = tuple(Compression)


def compression_of(attributes: int) -> Compression:
    """The codec that a batch's attributes name; CorruptBatch when there is none of this number."""
    codec = attributes & COMPRESSION_MASK
    if codec >= len(_BY_ID):
        raise CorruptBatch(f"unknown compression codec {codec}")
    return _BY_ID[codec]


def compress(codec: Compression, data: Buffer, level: int | None = None) -> bytes:
    """The data in the codec's framing; `level` is the codec's own scale, None its default.

    Levels mean nothing to snappy, nor to lz4: cramjam compresses its blocks in one way only.
    """
    if codec is Compression.NONE:
        return bytes(data)
    return _COMPRESS[codec](data, level)


def decompress(codec: Compression, data: Buffer, limit: int = MAX_DECOMPRESSED_BYTES) -> bytes:
    """The data that was compressed; CorruptBatch when it is damaged or would exceed `limit` bytes."""
    if codec is Compression.NONE:
        if len(data) > limit:
            raise too_large(limit)
        return bytes(data)
    return _DECOMPRESS[codec](data, limit)


def too_large(limit: int) -> CorruptBatch:
    """The error for records that expand beyond what the caller allows."""
    return CorruptBatch(f"the records expand to more than the {limit} bytes that are allowed")


def _cramjam() -> ModuleType:
    import cramjam

    return cramjam


# ── gzip ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_GZIP_WBITS: Final = 31  # the largest window, with gzip's header and trailer
_GZIP_STEP_BYTES: Final = 1 << 20  # zlib grows its result by copying; in steps no more than the limit is ever held


def _gzip_compress(data: Buffer, level: int | None) -> bytes:
    compressor = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, _GZIP_WBITS)
    return compressor.compress(data) + compressor.flush()


def _gzip_decompress(data: Buffer, limit: int) -> bytes:
    """Members that follow one another are one stream, as in RFC 1952."""
    parts: list[bytes] = []
    size = 0
    rest: Buffer = data
    decompressor = zlib.decompressobj(_GZIP_WBITS)
    while True:
        try:
            part = decompressor.decompress(rest, min(limit - size + 1, _GZIP_STEP_BYTES))
        except zlib.error as error:
            raise CorruptBatch(f"gzip: {error}") from error
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
        if decompressor.eof:
            rest = decompressor.unused_data
            if not rest:
                return part if len(parts) == 1 else b"".join(parts)
            decompressor = zlib.decompressobj(_GZIP_WBITS)
        elif not part:
            raise CorruptBatch("gzip: the stream is cut off")
        else:
            rest = decompressor.unconsumed_tail


# ── snappy ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _snappy_compress(data: Buffer, _level: int | None) -> bytes:
    compress_raw = _cramjam().snappy.compress_raw
    return frames.xerial_frame(data, lambda block: bytes(compress_raw(block)))


def _snappy_decompress(data: Buffer, limit: int) -> bytes:
    blocks = frames.snappy_blocks(data)
    size = sum(block.size for block in blocks)
    if size > limit:
        raise too_large(limit)
    decompress_raw_into = _cramjam().snappy.decompress_raw_into
    output = bytearray(size)
    position = 0
    with memoryview(output) as view:
        for block in blocks:
            written = _call("snappy", decompress_raw_into, block.data, view[position : position + block.size])
            if written != block.size:
                raise CorruptBatch(f"snappy: a block of {block.size} bytes expanded to {written}")
            position += written
    return bytes(output)


# ── lz4 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lz4_compress(data: Buffer, _level: int | None) -> bytes:
    """Independent blocks of 64 KiB: Java's reader refuses the linked ones that cramjam's own frames have."""
    compress_block = _cramjam().lz4.compress_block
    return frames.lz4_frame(data, lambda block: bytes(compress_block(block, store_size=False)))


def _lz4_decompress(data: Buffer, limit: int) -> bytes:
    return _into_bounded("lz4", data, frames.lz4_bound(data), limit)


# ── zstd ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_ZSTD_LEVEL: Final = 3


def _zstd_compress(data: Buffer, level: int | None) -> bytes:
    return bytes(_cramjam().zstd.compress(data, level=_ZSTD_LEVEL if level is None else level))


def _zstd_decompress(data: Buffer, limit: int) -> bytes:
    return _into_bounded("zstd", data, frames.zstd_bound(data, limit), limit)


def _into_bounded(name: str, data: Buffer, bound: int, limit: int) -> bytes:
    """Decompress frames that cannot expand to more than `bound` bytes."""
    output = bytearray(min(bound, limit))
    written = _call(name, getattr(_cramjam(), name).decompress_into, data, output)
    return bytes(memoryview(output)[:written])


def _call(name: str, function: Callable[..., int], data: Buffer, output: bytearray | memoryview) -> int:
    try:
        return function(data, output)
    except _cramjam().DecompressionError as error:
        raise CorruptBatch(f"{name}: {error}") from error


_COMPRESS: dict[Compression, Callable[[Buffer, int | None], bytes]] = {
    Compression.GZIP: _gzip_compress,
    Compression.SNAPPY: _snappy_compress,
    Compression.LZ4: _lz4_compress,
    Compression.ZSTD: _zstd_compress,
}
_DECOMPRESS: dict[Compression, Callable[[Buffer, int], bytes]] = {
    Compression.GZIP: _gzip_decompress,
    Compression.SNAPPY: _snappy_decompress,
    Compression.LZ4: _lz4_decompress,
    Compression.ZSTD: _zstd_decompress,
}

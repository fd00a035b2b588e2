"""The framings around compressed blocks: xerial's for snappy, lz4's and zstd's frames.

Two things are done here, both without decompressing anything: the framings that Kafka's Java client writes are written,
and frames are walked block by block to learn how much they can expand to at most. Sources: snappy-java's
SnappyOutputStream, the LZ4 frame format 1.6, RFC 8878 (zstd).
"""

from collections.abc import Callable
from struct import Struct, error
from typing import Final, NamedTuple

from ottla.core.errors import CorruptBatch
from ottla.core.types import Buffer

_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = _XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"  # version 1, readable by version 1
_XERIAL_BLOCK_BYTES: Final = 32 * 1024
_SNAPPY_MAX_RATIO: Final = 22  # a copy of three bytes yields 64

_LZ4_MAGIC: Final = 0x184D2204
_LZ4_HEADER: Final = (
    b"\x04\x22\x4d\x18\x60\x40\x82"  # version 1, independent blocks of 64 KiB, no checksums; header checksum
)
_LZ4_BLOCK_BYTES: Final = 64 * 1024
_LZ4_UNCOMPRESSED: Final = 0x80000000
_LZ4_MAX_RATIO: Final = 255
_LZ4_MAX_BLOCK_BYTES: Final = {4: 64 << 10, 5: 256 << 10, 6: 1 << 20, 7: 4 << 20}

_ZSTD_MAGIC: Final = 0xFD2FB528
_ZSTD_BLOCK_BYTES: Final = 128 * 1024
_ZSTD_MAX_WINDOW_BYTES: Final = 8 * 1024 * 1024  # what RFC 8878 asks every decoder to support
_ZSTD_RLE_BLOCK, _ZSTD_COMPRESSED_BLOCK, _ZSTD_RESERVED_BLOCK = 1, 2, 3

_SKIPPABLE_MAGIC, _SKIPPABLE_MASK = 0x184D2A50, 0xFFFFFFF0  # lz4 and zstd agree on it

_INT32: Final = Struct(">i")
_UINT32_LITTLE: Final = Struct("<I")
_UINT64_LITTLE: Final = Struct("<Q")


class SnappyBlock(NamedTuple):
    """One raw snappy block, and the size that it says it has when decompressed."""

    data: "memoryview"  # as a name, mypyc looks for it in this module
    size: int


def xerial_frame(data: Buffer, compress_block: Callable[[memoryview], bytes]) -> bytes:
    """The data as SnappyOutputStream writes it."""
    parts = [_XERIAL_HEADER]
    view = memoryview(data)
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = compress_block(view[start : start + _XERIAL_BLOCK_BYTES])
        parts += (_INT32.pack(len(block)), block)
    return b"".join(parts)


def snappy_blocks(data: Buffer) -> list[SnappyBlock]:
    """The blocks of xerial's framing, or the one block of raw snappy.

    Both are on the wire: librdkafka writes raw snappy, Java and the Python clients xerial's framing.
    """
    view = memoryview(data)
    if bytes(view[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return [SnappyBlock(view, _snappy_size(view))]
    blocks = []
    position = len(_XERIAL_HEADER)
    if len(view) < position:
        raise CorruptBatch("snappy: the header of the stream is cut off")
    while position < len(view):
        if bytes(view[position : position + len(_XERIAL_MAGIC)]) == _XERIAL_MAGIC:  # streams that were concatenated
            position += len(_XERIAL_HEADER)
            continue
        if len(view) - position < 4:
            raise CorruptBatch("snappy: the stream is cut off")
        length = _INT32.unpack_from(view, position)[0]
        position += 4
        if not 0 <= length <= len(view) - position:
            raise CorruptBatch(f"snappy: a block says {length} bytes, {len(view) - position} are there")
        block = view[position : position + length]
        blocks.append(SnappyBlock(block, _snappy_size(block)))
        position += length
    return blocks


def _snappy_size(block: memoryview) -> int:
    """The size that a raw block states, refused when its bytes could not possibly expand to it."""
    size = 0
    for index, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if size > len(block) * _SNAPPY_MAX_RATIO:
                raise CorruptBatch(f"snappy: a block of {len(block)} bytes says that it expands to {size}")
            return size
    raise CorruptBatch("snappy: the size of a block is malformed")


def lz4_frame(data: Buffer, compress_block: Callable[[memoryview], bytes]) -> bytes:
    """The data as Kafka's Java client writes it: one frame of independent blocks of 64 KiB."""
    parts = [_LZ4_HEADER]
    view = memoryview(data)
    for start in range(0, len(view), _LZ4_BLOCK_BYTES):
        raw = view[start : start + _LZ4_BLOCK_BYTES]
        block = compress_block(raw)
        if len(block) < len(raw):
            parts += (_UINT32_LITTLE.pack(len(block)), block)
        else:
            parts += (_UINT32_LITTLE.pack(len(raw) | _LZ4_UNCOMPRESSED), bytes(raw))
    parts.append(b"\x00\x00\x00\x00")
    return b"".join(parts)


def lz4_bound(data: Buffer) -> int:
    """At most so many bytes come out of these lz4 frames; CorruptBatch when they are malformed."""
    view = memoryview(data)
    bound = position = 0
    try:
        while position < len(view):
            magic = _UINT32_LITTLE.unpack_from(view, position)[0]
            position += 4
            if magic & _SKIPPABLE_MASK == _SKIPPABLE_MAGIC:
                position += 4 + _UINT32_LITTLE.unpack_from(view, position)[0]
                continue
            if magic != _LZ4_MAGIC:
                raise CorruptBatch(f"lz4: not a frame: {magic:#010x}")
            position, frame_bound = _lz4_frame_bound(view, position)
            bound += frame_bound
    except (error, IndexError) as cause:
        raise CorruptBatch("lz4: the frame is cut off") from cause
    return bound


def _lz4_frame_bound(view: memoryview, position: int) -> tuple[int, int]:
    flags, block_descriptor = view[position], view[position + 1]
    block_bytes = _LZ4_MAX_BLOCK_BYTES.get(block_descriptor >> 4 & 7, 0)
    if flags >> 6 != 1 or not block_bytes:
        raise CorruptBatch("lz4: the header of the frame is malformed")
    position += 2
    content_size = None
    if flags & 0x08:
        content_size = _UINT64_LITTLE.unpack_from(view, position)[0]
        position += 8
    position += 1 + (4 if flags & 0x01 else 0)  # header checksum, dictionary id
    checksum_bytes = 4 if flags & 0x10 else 0
    bound = 0
    while size := _UINT32_LITTLE.unpack_from(view, position)[0]:
        length = size & ~_LZ4_UNCOMPRESSED
        position += 4 + length + checksum_bytes
        if position > len(view):
            raise CorruptBatch(f"lz4: a block of {length} bytes is cut off")
        bound += min(block_bytes, length if size & _LZ4_UNCOMPRESSED else length * _LZ4_MAX_RATIO)
    return position + 4 + (4 if flags & 0x04 else 0), bound if content_size is None else min(bound, content_size)


def zstd_bound(data: Buffer, limit: int) -> int:
    """At most so many bytes come out of these zstd frames.

    A frame whose window is larger than decoders must support is refused, when the window exceeds `limit` as well:
    a decoder allocates it before it sees any data. CorruptBatch when the frames are malformed.
    """
    view = memoryview(data)
    bound = position = 0
    try:
        while position < len(view):
            magic = _UINT32_LITTLE.unpack_from(view, position)[0]
            position += 4
            if magic & _SKIPPABLE_MASK == _SKIPPABLE_MAGIC:
                position += 4 + _UINT32_LITTLE.unpack_from(view, position)[0]
                continue
            if magic != _ZSTD_MAGIC:
                raise CorruptBatch(f"zstd: not a frame: {magic:#010x}")
            position, frame_bound = _zstd_frame_bound(view, position, limit)
            bound += frame_bound
    except (error, IndexError) as cause:
        raise CorruptBatch("zstd: the frame is cut off") from cause
    return bound


def _zstd_frame_bound(view: memoryview, position: int, limit: int) -> tuple[int, int]:
    descriptor = view[position]
    position += 1
    single_segment = descriptor & 0x20
    window = 0
    if not single_segment:
        exponent, mantissa = view[position] >> 3, view[position] & 7
        window = (1 << (10 + exponent)) * (8 + mantissa) // 8
        position += 1
    position += (0, 1, 2, 4)[descriptor & 3]  # dictionary id
    size_bytes = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    content_size = None
    if size_bytes:
        content_size = int.from_bytes(view[position : position + size_bytes], "little") + (size_bytes == 2) * 256
        position += size_bytes
    if single_segment:
        window = content_size or 0
    if window > max(limit, _ZSTD_MAX_WINDOW_BYTES):
        raise CorruptBatch(f"zstd: a window of {window} bytes is more than the {limit} that are allowed")
    bound = 0
    last = False
    while not last:
        block = int.from_bytes(view[position : position + 3], "little")
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        if kind == _ZSTD_RESERVED_BLOCK or position + 3 > len(view):
            raise CorruptBatch("zstd: a block is malformed or cut off")
        position += 3 + (1 if kind == _ZSTD_RLE_BLOCK else size)
        bound += _ZSTD_BLOCK_BYTES if kind == _ZSTD_COMPRESSED_BLOCK else size
    if position > len(view):
        raise CorruptBatch("zstd: a block is cut off")
    return position + (4 if descriptor & 0x04 else 0), bound if content_size is None else min(bound, content_size)

"""The codecs: framings on the wire, and bombs that must not go off."""

import subprocess
import sys
import tracemalloc
import zlib
from time import process_time

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import CorruptBatch
from ottla.records import frames
from ottla.records.compression import Compression, compress, decompress

codecs = pytest.mark.parametrize("codec", list(Compression), ids=lambda codec: codec.name.lower())
compressing = pytest.mark.parametrize("codec", list(Compression)[1:], ids=lambda codec: codec.name.lower())
MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


@codecs
@given(st.binary(max_size=2000) | st.builds(bytes.__mul__, st.binary(max_size=40), st.integers(0, 10_000)))
def test_what_is_compressed_is_decompressed(codec: Compression, data: bytes) -> None:
    assert decompress(codec, compress(codec, memoryview(data)), len(data)) == data


@codecs
def test_limit_is_exact(codec: Compression) -> None:
    data = b"0123456789" * 30_000
    compressed = compress(codec, data)
    assert decompress(codec, compressed, len(data)) == data
    with pytest.raises(CorruptBatch):
        decompress(codec, compressed, len(data) - 1)


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.ZSTD])
def test_levels_are_taken(codec: Compression, level: int) -> None:
    data = b"".join(b'{"id": %d, "square": %d}' % (number, number * number) for number in range(5000))
    compressed = compress(codec, data, level)
    assert decompress(codec, compressed) == data
    assert compressed != compress(codec, data)


@compressing
def test_cut_off_or_overlong_data_is_corrupt(codec: Compression) -> None:
    compressed = compress(codec, b"0123456789" * 20_000)
    for cut in (0, 1, 4, 8, 15, 18, len(compressed) // 2, len(compressed) - 1):
        if codec is Compression.SNAPPY and cut == 16:
            continue
        with pytest.raises(CorruptBatch):
            decompress(codec, compressed[:cut])
    with pytest.raises(CorruptBatch):
        decompress(codec, compressed + b"\xff\xff\xff\xff")


def test_snappy_is_read_raw_as_librdkafka_writes_it() -> None:
    data = b"abc" * 1000
    assert decompress(Compression.SNAPPY, bytes(cramjam.snappy.compress_raw(data))) == data


def test_snappy_is_written_in_xerial_blocks_of_32_kib() -> None:
    compressed = compress(Compression.SNAPPY, bytes(100_000))
    assert compressed.startswith(b"\x82SNAPPY\0\0\0\0\1\0\0\0\1")
    assert [block.size for block in frames.snappy_blocks(compressed)] == [32768, 32768, 32768, 1696]


def test_concatenated_streams_are_one() -> None:
    for codec in list(Compression)[1:]:
        assert decompress(codec, compress(codec, b"one") + compress(codec, b"two")) == b"onetwo"


def test_lz4_blocks_are_independent_because_java_refuses_linked_ones() -> None:
    compressed = compress(Compression.LZ4, bytes(100_000))
    assert compressed[:7] == b"\x04\x22\x4d\x18\x60\x40\x82"
    assert bytes(cramjam.lz4.decompress(compressed)) == bytes(100_000)


def test_lz4_with_linked_blocks_and_checksums_is_read() -> None:
    data = b"0123456789" * 50_000
    assert decompress(Compression.LZ4, bytes(cramjam.lz4.compress(data))) == data


@compressing
def test_bound_of_a_small_frame_is_small(codec: Compression) -> None:
    """A few bytes never make the reader allocate its whole limit."""
    compressed = compress(codec, b"x" * 50)
    tracemalloc.start()
    try:
        assert decompress(codec, compressed, GIBIBYTE) == b"x" * 50
        assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
    finally:
        tracemalloc.stop()


def gzip_bomb() -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = compressor.compress(b"") + compressor.flush(zlib.Z_FULL_FLUSH)
    repeated = compressor.compress(bytes(16 * MEBIBYTE)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return start + repeated * 128


def snappy_bomb() -> bytes:
    block = bytes(cramjam.snappy.compress_raw(bytes(MEBIBYTE)))
    return frames._XERIAL_HEADER + (len(block).to_bytes(4, "big") + block) * 2048


def lz4_bomb() -> bytes:
    block = bytes(cramjam.lz4.compress_block(bytes(4 * MEBIBYTE), store_size=False))
    header = bytes.fromhex("04224d18607073")
    return header + (len(block).to_bytes(4, "little") + block) * 512 + bytes(4)


def zstd_bomb() -> bytes:
    rle_block = ((128 * 1024) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return bytes.fromhex("28b52ffd0058") + rle_block * 16384 + b"\x01\0\0"


BOMBS = {
    Compression.GZIP: gzip_bomb,
    Compression.SNAPPY: snappy_bomb,
    Compression.LZ4: lz4_bomb,
    Compression.ZSTD: zstd_bomb,
}


@compressing
def test_bomb_of_two_gibibytes_is_refused_in_bounded_space_and_time(codec: Compression) -> None:
    bomb = BOMBS[codec]()
    limit = 8 * MEBIBYTE
    tracemalloc.start()
    started = process_time()
    try:
        with pytest.raises(CorruptBatch):
            decompress(codec, bomb, limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert process_time() - started < 2  # the whole of it would take longer
    assert peak < limit + 2 * len(bomb) + 3 * MEBIBYTE


@compressing
def test_bombs_are_real(codec: Compression) -> None:
    """Small enough, one of the same make goes off where the limit admits it."""
    size = 4 * MEBIBYTE
    assert decompress(codec, compress(codec, bytes(size)), size) == bytes(size)
    assert len(compress(codec, bytes(size))) < size / 15


def test_memory_of_the_process_is_bounded_by_the_limit_too() -> None:
    """What native code allocates is invisible to tracemalloc: look at the process itself."""
    script = """
import resource, sys
sys.path.insert(0, ".")
from tests.unit.records.test_compression import BOMBS
from ottla.core.errors import CorruptBatch
from ottla.records.compression import decompress
bombs = {codec: make() for codec, make in BOMBS.items()}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for codec, bomb in bombs.items():
    try:
        decompress(codec, bomb, 64 << 20)
    except CorruptBatch:
        continue
    raise SystemExit(f"{codec} was not refused")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(output) * unit < 3 * (64 << 20)


def test_size_that_raw_snappy_cannot_reach_is_refused_before_it_is_allocated() -> None:
    claim = b"\xff\xff\xff\xff\x07" + b"\0" * 20
    tracemalloc.start()
    try:
        with pytest.raises(CorruptBatch, match="says that it expands"):
            decompress(Compression.SNAPPY, claim, 4 * GIBIBYTE)
        assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
    finally:
        tracemalloc.stop()


def test_zstd_window_beyond_what_decoders_must_support_is_refused() -> None:
    frame = bytes.fromhex("28b52ffd00") + bytes([17 << 3]) + b"\x01\0\0"  # 128 MiB
    with pytest.raises(CorruptBatch, match="window"):
        decompress(Compression.ZSTD, frame, MEBIBYTE)


def test_cramjam_is_not_loaded_before_it_is_needed() -> None:
    script = "import sys, ottla.records.batch as b; b.encode_batch([b.Record()]); print('cramjam' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "False"

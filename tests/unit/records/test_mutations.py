"""No bytes make the reader raise anything but its own errors, or allocate beyond its limit."""

import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import CorruptBatch
from ottla.records.batch import (
    Compression,
    Record,
    decode_records,
    encode_batch,
    iterate_headers,
    iterate_records,
    read_header,
    validate,
)
from ottla.records.compression import compress, decompress
from ottla.records.control import control_type, read_end_transaction_marker
from ottla.records.filtering import filter_batch
from ottla.records.header import patch_crc
from ottla.records.scan import scan_batch
from tests.unit.records.vectors import JAVA

LIMIT = 1 << 16
SEEDS = [batch for batch in JAVA.values() if len(batch) < 4000]
codecs = pytest.mark.parametrize("codec", list(Compression)[1:], ids=lambda codec: codec.name.lower())

edits = st.lists(
    st.tuples(
        st.integers(0, 1 << 16), st.sampled_from(["set", "flip", "cut", "insert", "repeat"]), st.integers(0, 255)
    ),
    min_size=1,
    max_size=6,
)


def mutate(original: bytes, changes: list[tuple[int, str, int]]) -> bytes:
    data = bytearray(original)
    for where, how, byte in changes:
        at = where % (len(data) + 1)
        match how:
            case "set":
                data[at : at + 1] = bytes([byte])
            case "flip":
                data[at : at + 1] = bytes(b ^ (1 << byte % 8) for b in data[at : at + 1])
            case "cut":
                del data[at : at + 1 + byte]
            case "insert":
                data[at:at] = bytes([byte]) * (byte % 9)
            case "repeat":
                data[at:at] = data[at : at + byte]
    return bytes(data)


def read_everything(data: bytes) -> None:
    """All that reads a batch, each on its own, so that the error of one does not hide the others."""
    readers: list[Callable[[], object]] = [
        lambda: read_header(data),
        lambda: validate(data),
        lambda: list(iterate_headers(data)),
        lambda: list(iterate_headers(data, allow_partial=True)),
        lambda: decode_records(data, max_bytes=LIMIT),
        lambda: decode_records(data, max_bytes=LIMIT, check_crc=False),
        lambda: list(iterate_records(data, max_bytes=LIMIT, check_crc=False)),
        lambda: list(scan_batch(data, max_bytes=LIMIT, check_crc=False)),
        lambda: filter_batch(data, keep=lambda entry: entry.offset % 2 == 0, new_delete_horizon_ms=5, max_bytes=LIMIT),
    ]
    for reader in readers:
        try:
            reader()
        except CorruptBatch:
            continue


def with_right_crc(data: bytes) -> bytes:
    """The mutated bytes as a batch that passes length and CRC, so that what lies behind them is reached."""
    batch = bytearray(data)
    if len(batch) >= 61:
        batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
        batch[16] = 2
        patch_crc(batch)
    return bytes(batch)


@settings(max_examples=400)
@given(st.sampled_from(SEEDS), edits)
def test_mutated_batches_raise_only_corrupt_batch(seed: bytes, changes: list[tuple[int, str, int]]) -> None:
    mutated = mutate(seed, changes)
    read_everything(mutated)
    read_everything(with_right_crc(mutated))


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_random_bytes_raise_only_corrupt_batch(data: bytes) -> None:
    read_everything(data)
    read_everything(with_right_crc(data))


@codecs
@settings(max_examples=400)
@given(st.data())
def test_mutated_streams_raise_only_corrupt_batch_and_stay_within_the_limit(
    codec: Compression, data: st.DataObject
) -> None:
    plain = data.draw(st.sampled_from([b"", b"x" * 50, b"0123456789" * 1000, bytes(range(256)) * 30]))
    mutated = mutate(compress(codec, plain), data.draw(edits))
    with suppress(CorruptBatch):
        assert len(decompress(codec, mutated, LIMIT)) <= LIMIT


@codecs
@settings(max_examples=200)
@given(st.binary(max_size=100), st.booleans())
def test_random_streams_raise_only_corrupt_batch(codec: Compression, data: bytes, with_magic: bool) -> None:
    if with_magic:
        data = compress(codec, b"x")[: 6 if codec is not Compression.SNAPPY else 16] + data
    with suppress(CorruptBatch):
        assert len(decompress(codec, data, LIMIT)) <= LIMIT


@given(st.none() | st.binary(max_size=12), st.none() | st.binary(max_size=12))
def test_random_control_records_raise_only_corrupt_batch(key: bytes | None, value: bytes | None) -> None:
    batch = encode_batch([Record(key=key, value=value)], is_control=True)
    for reader in (lambda: control_type(key), lambda: read_end_transaction_marker(batch)):
        try:
            reader()
        except CorruptBatch:
            continue


def test_counts_and_lengths_that_lie_allocate_nothing() -> None:
    """Every place of a batch that states a number of things says the largest one, in turn."""
    seed = JAVA["transactional"]
    tracemalloc.start()
    try:
        for position in range(8, len(seed)):
            for width in (1, 4, 5, 9):
                data = bytearray(seed)
                data[position : position + width] = (b"\xff" * (width - 1) + b"\x7f")[: len(data) - position]
                read_everything(bytes(data))
                read_everything(with_right_crc(bytes(data)))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()

from collections.abc import Callable

import pytest

from ottla.core.errors import CorruptBatch, ErrorCode, UnsupportedMagic
from ottla.core.types import Buffer
from ottla.records.batch import (
    HEADER_BYTES,
    Compression,
    Record,
    decode_records,
    encode_batch,
    iterate_headers,
    patch_base_offset,
    patch_log_append_time,
    read_header,
    validate,
)
from tests.unit.records.vectors import JAVA

BATCH = encode_batch([Record(timestamp=5, value=b"a"), Record(timestamp=3, key=b"k")], base_offset=10, producer_id=7)
OLD_MESSAGE_V0 = bytes.fromhex("00000000000000050000000f000000000000ffffffff0000000161")
OLD_MESSAGE_V1 = bytes.fromhex("0000000000000005000000170000000001000000000000000001ffffffff0000000161")


def test_header_says_what_kafka_wrote() -> None:
    header = read_header(JAVA["transactional"])
    assert (header.base_offset, header.last_offset, header.next_offset, header.record_count) == (5, 9, 10, 5)
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.last_sequence) == (4711, 3, 99, 103)
    assert (header.partition_leader_epoch, header.size_bytes) == (7, len(JAVA["transactional"]))
    assert header.is_transactional and not header.is_control and not header.is_log_append_time
    assert header.compression is Compression.NONE


def test_last_sequence_wraps_to_zero_after_the_largest() -> None:
    header = read_header(encode_batch([Record()] * 3, producer_id=1, producer_epoch=0, base_sequence=0x7FFFFFFE))
    assert header.last_sequence == 0


def test_last_sequence_of_a_batch_without_producer_is_none() -> None:
    assert read_header(BATCH).last_sequence == -1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_validated_at_any_position(kind: Callable[[bytes], Buffer]) -> None:
    assert validate(kind(b"xxx" + BATCH + b"rest"), 3) == read_header(BATCH)


def test_every_byte_that_the_crc_covers_is_checked() -> None:
    for position in range(21, len(BATCH)):
        damaged = bytearray(BATCH)
        damaged[position] ^= 0x10
        with pytest.raises(CorruptBatch, match="CRC"):
            validate(damaged)


def test_batch_that_ends_beyond_the_limit_is_refused() -> None:
    validate(BATCH, 0, len(BATCH))
    for limit in range(len(BATCH)):
        with pytest.raises(CorruptBatch):
            validate(BATCH, 0, limit)


@pytest.mark.parametrize("length", [-(1 << 31), -1, 0, 48, 1 << 20, (1 << 31) - 1])
def test_impossible_length_is_refused(length: int) -> None:
    damaged = bytearray(BATCH)
    damaged[8:12] = length.to_bytes(4, "big", signed=True)
    with pytest.raises(CorruptBatch):
        validate(damaged)


def test_unknown_codec_is_refused_although_the_crc_is_right() -> None:
    damaged = bytearray(BATCH)
    damaged[22] |= 5
    patch_log_append_time(damaged, 0, 1)
    with pytest.raises(CorruptBatch, match="codec 5"):
        validate(damaged)


@pytest.mark.parametrize(("message", "magic"), [(OLD_MESSAGE_V0, 0), (OLD_MESSAGE_V1, 1)])
@pytest.mark.parametrize("padding", [0, 100])
def test_old_formats_are_recognised_and_refused_as_kafka_refuses_them(message: bytes, magic: int, padding: int) -> None:
    buffer = message + bytes(padding)
    header = read_header(buffer)
    assert (header.magic, header.base_offset, header.size_bytes) == (magic, 5, len(message))
    with pytest.raises(UnsupportedMagic, match=f"magic {magic}") as caught:
        validate(buffer)
    assert caught.value.code is ErrorCode.INVALID_RECORD


def test_corrupt_batch_is_answered_with_corrupt_message() -> None:
    with pytest.raises(CorruptBatch) as caught:
        validate(BATCH[:-1])
    assert caught.value.code is ErrorCode.CORRUPT_MESSAGE


def test_unknown_magic_is_corrupt() -> None:
    damaged = bytearray(BATCH)
    damaged[16] = 3
    for check in (read_header, validate):
        with pytest.raises(CorruptBatch, match="magic 3"):
            check(damaged)


def test_offset_and_leader_epoch_are_assigned_without_touching_the_crc() -> None:
    buffer = bytearray(b"??" + BATCH)
    patch_base_offset(memoryview(buffer), 2, 1 << 40, 12)
    header = validate(buffer, 2)
    assert (header.base_offset, header.partition_leader_epoch) == (1 << 40, 12)
    assert [record.offset for record in decode_records(buffer, 2)] == [1 << 40, (1 << 40) + 1]


def test_log_append_time_is_the_time_of_every_record() -> None:
    buffer = bytearray(BATCH)
    patch_log_append_time(memoryview(buffer), 0, 999)
    assert validate(buffer).is_log_append_time
    assert [record.timestamp for record in decode_records(buffer)] == [999, 999]


def test_headers_are_iterated_with_their_positions() -> None:
    buffer = BATCH + OLD_MESSAGE_V1 + BATCH
    positions = [(position, header.magic) for position, header in iterate_headers(buffer)]
    assert positions == [(0, 2), (len(BATCH), 1), (len(BATCH) + len(OLD_MESSAGE_V1), 2)]


def test_cut_off_last_batch_ends_a_fetch_response_and_is_an_error_elsewhere() -> None:
    for cut in range(1, len(BATCH)):
        buffer = BATCH + BATCH[:cut]
        assert [position for position, _ in iterate_headers(buffer, allow_partial=True)] == [0]
        with pytest.raises(CorruptBatch):
            list(iterate_headers(buffer))


def test_header_shorter_than_a_header_is_corrupt() -> None:
    for cut in range(HEADER_BYTES):
        with pytest.raises(CorruptBatch):
            read_header(BATCH[:cut])

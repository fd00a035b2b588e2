"""The primitives, also as far as hand-written codecs use them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import DecodeError
from ottla.protocol.wire import (
    MALFORMED,
    pack_numbers,
    pack_uuids,
    read_compact_string,
    read_numbers,
    read_string,
    read_unsigned_varint,
    skip_tagged_fields,
    write_compact_string,
    write_string,
    write_tagged_field,
    write_unsigned_varint,
)

texts = st.none() | st.text(max_size=200)


@given(st.integers(0, 0xFFFFFFFF))
def test_varint_round_trip(value: int) -> None:
    out = bytearray(b"x")
    write_unsigned_varint(out, value)
    assert len(out) == 1 + max(1, -(-value.bit_length() // 7))
    assert read_unsigned_varint(bytes(out), 1) == (value, len(out))


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff\x10", b"\x80\x80\x80\x80\x80\x00", b"\xff\xff\xff\xff\xff\xff\x01"]
)
def test_varint_of_more_than_32_bits_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="32 bits"):
        read_unsigned_varint(data, 0)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff\xff\xff\xff"])
def test_varint_that_is_cut_off(data: bytes) -> None:
    with pytest.raises(IndexError):
        read_unsigned_varint(data, 0)


@given(texts)
def test_strings_round_trip(text: str | None) -> None:
    classic, compact = bytearray(), bytearray()
    write_string(classic, text)
    write_compact_string(compact, text)
    assert read_string(bytes(classic), 0) == (text, len(classic))
    assert read_compact_string(bytes(compact), 0) == (text, len(compact))


@pytest.mark.parametrize("data", [b"\x00\x05abcd", b"\x7f\xffabcd"])
def test_string_beyond_the_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="does not fit the bytes left"):
        read_string(data, 0)
    with pytest.raises(DecodeError, match="does not fit the bytes left"):
        read_compact_string(b"\x06abcd", 0)


def test_string_of_wrong_utf8_is_malformed() -> None:
    with pytest.raises(MALFORMED):
        read_compact_string(b"\x03\xc3\x28", 0)


@given(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=40))
def test_numbers_round_trip(numbers: list[int]) -> None:
    packed = pack_numbers("i", numbers)
    assert packed == b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    assert read_numbers("i", b"xx" + packed, 2, len(numbers), [100]) == numbers


@given(st.lists(st.tuples(st.integers(0, 1 << 31), st.binary(max_size=200)), max_size=5), st.binary(max_size=3))
def test_tagged_fields_are_skipped_as_a_whole(fields: list[tuple[int, bytes]], behind: bytes) -> None:
    out = bytearray()
    write_unsigned_varint(out, len(fields))
    for tag, content in fields:
        write_tagged_field(out, tag, bytearray(content))
    assert skip_tagged_fields(bytes(out) + behind, 0) == len(out)


def test_tagged_field_beyond_the_bytes_is_refused() -> None:
    with pytest.raises(DecodeError, match="tagged field"):
        skip_tagged_fields(b"\x01\x00\x05abcd", 0)


def test_uuids_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        pack_uuids([b"short"])  # type: ignore[list-item]

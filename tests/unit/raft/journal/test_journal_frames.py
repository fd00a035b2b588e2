import pytest

from ottla.raft.journal.frames import (
    HEADER_BYTES,
    SECTOR_BYTES,
    FrameKind,
    encode_frame,
    find_header,
    is_torn,
    read_frame,
)

FILE = 7
BODY = b"b" * 1200 + b"\xff"


def frame(position: int, body: bytes = BODY, file: int = FILE) -> bytes:
    return encode_frame(FrameKind.RECORDS, file, position, body) + body


def placed(position: int, data: bytes, size: int = 4096) -> bytes:
    return (bytes(position) + data).ljust(size, b"\0")


def test_a_frame_is_read_where_it_stands() -> None:
    found = read_frame(placed(100, frame(100)), FILE, 100)
    assert found is not None
    assert (found.kind, found.body, found.end) == (FrameKind.RECORDS, BODY, 100 + HEADER_BYTES + len(BODY))


def test_a_frame_of_another_file_or_position_is_none() -> None:
    assert read_frame(placed(100, frame(100)), FILE + 1, 100) is None
    assert read_frame(placed(100, frame(99)), FILE, 100) is None


@pytest.mark.parametrize("at", range(HEADER_BYTES + 2))
def test_a_frame_with_a_flipped_bit_is_none(at: int) -> None:
    content = bytearray(placed(100, frame(100, b"ab")))
    content[100 + at] ^= 0x10
    assert read_frame(bytes(content), FILE, 100) is None


def test_a_frame_that_goes_beyond_its_file_is_none() -> None:
    assert read_frame(placed(0, frame(0))[:-1][: len(frame(0)) - 1], FILE, 0) is None
    assert read_frame(b"", FILE, 0) is None


def test_the_next_frame_is_found_also_with_an_unreadable_body() -> None:
    content = bytearray(placed(300, frame(300)))
    content[400] ^= 1
    assert find_header(bytes(content), FILE, 0) == 300
    assert find_header(bytes(content), FILE, 300) is None
    assert find_header(placed(300, b"OtRj" * 50), FILE, 0) is None


@pytest.mark.parametrize("missing", range(3))
def test_a_frame_of_which_a_sector_is_missing_is_torn(missing: int) -> None:
    content = bytearray(placed(100, frame(100)))
    start = max(missing * SECTOR_BYTES, 100)
    end = min((missing + 1) * SECTOR_BYTES, 100 + len(frame(100)))
    content[start:end] = bytes(end - start)
    assert is_torn(bytes(content), FILE, 100)


@pytest.mark.parametrize("length", [1, 3, HEADER_BYTES - 1, HEADER_BYTES, 500, 1200, HEADER_BYTES + 1200])
def test_a_frame_whose_end_is_missing_is_torn(length: int) -> None:
    assert is_torn(placed(100, frame(100)[:length]), FILE, 100)


@pytest.mark.parametrize("at", [0, 5, 20, HEADER_BYTES - 1, HEADER_BYTES, 700, HEADER_BYTES + 1200])
def test_a_frame_that_was_written_to_its_end_is_damaged_and_not_torn(at: int) -> None:
    content = bytearray(placed(100, frame(100)))
    content[100 + at] ^= 0x10
    assert read_frame(bytes(content), FILE, 100) is None
    assert not is_torn(bytes(content), FILE, 100)

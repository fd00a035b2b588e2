"""Frames are found whatever pieces the bytes arrive in."""

import random
import struct

import pytest

from ottla.core.errors import DecodeError
from ottla.kafka.frames import FrameReader

SHARED = memoryview(bytearray(256))


def feed(reader: FrameReader, data: bytes, piece: int) -> list[bytes]:
    """Hand over `data` as a transport does: at most `piece` bytes at a time, into the buffer that the reader names."""
    found: list[bytes] = []
    position = 0
    while position < len(data):
        buffer = reader.buffer()
        count = min(piece, len(buffer), len(data) - position)
        assert count
        buffer[:count] = data[position : position + count]
        reader.received(count)
        SHARED[:] = b"\xee" * len(SHARED)  # another connection reads into it
        position += count
        found += [bytes(frame) for frame in reader.frames]
        reader.frames.clear()
    return found


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 17, 100, 256])
def test_frames_in_any_pieces(piece: int) -> None:
    source = random.Random(piece)
    frames = [source.randbytes(source.choice([10, 11, 40, 252, 253, 1000])) for _ in range(50)]
    data = b"".join(struct.pack(">i", len(frame)) + frame for frame in frames)
    assert feed(FrameReader(SHARED, 1000), data, piece) == frames


def test_a_large_frame_is_received_into_its_own_buffer() -> None:
    reader = FrameReader(SHARED, 10_000)
    feed(reader, struct.pack(">i", 5000) + b"x" * 100, 104)
    target = reader.buffer()
    assert len(target) == 4900
    target[:] = b"y" * 4900
    reader.received(4900)
    [frame] = reader.frames
    assert frame == b"x" * 100 + b"y" * 4900
    frame[0] = 0  # the log patches it
    assert reader.buffer() is SHARED


def test_a_length_alone_reserves_no_memory_until_its_bytes_arrive() -> None:
    size = 100 << 20
    reader = FrameReader(SHARED, size)
    feed(reader, struct.pack(">i", size), 4)
    received, reserved = 0, []
    while received < 4 << 20:
        target = reader.buffer()
        reserved.append((received + len(target), max(received, 1 << 15)))
        reader.received(len(target))
        received += len(target)
    assert all(length <= 4 * arrived for length, arrived in reserved)


def test_a_frame_as_large_as_an_earlier_one_gets_its_buffer_at_once() -> None:
    reader = FrameReader(SHARED, 10 << 20)
    frame = random.Random(1).randbytes(3 << 20)
    data = struct.pack(">i", len(frame)) + frame
    assert feed(reader, data, 60_000) == [frame]
    feed(reader, data[:100], 100)
    assert len(reader.buffer()) == len(data) - 100


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (struct.pack(">i", -1), "-1 bytes"),
        (struct.pack(">i", 0), "0 bytes"),
        (struct.pack(">i", 9), "9 bytes"),
        (struct.pack(">i", 1001), "socket.request.max.bytes=1000"),
        (b"GET / HTTP/1.1", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS"),
        (b"PRI * HTTP/2.0", "gRPC"),
    ],
)
@pytest.mark.parametrize("piece", [1, 256])
def test_what_cannot_be_a_frame_is_refused_with_its_reason(prefix: bytes, reason: str, piece: int) -> None:
    with pytest.raises(DecodeError, match=reason):
        feed(FrameReader(SHARED, 1000), prefix, piece)


def test_frames_before_the_bad_one_are_kept() -> None:
    reader = FrameReader(SHARED, 1000)
    data = struct.pack(">i", 10) + b"0123456789" + b"\xff\xff\xff\xff"
    reader.buffer()[: len(data)] = data
    with pytest.raises(DecodeError):
        reader.received(len(data))
    assert [bytes(frame) for frame in reader.frames] == [b"0123456789"]

"""Cuts the bytes of a connection into frames: four bytes of length, then a request.

All connections of a loop read into one shared buffer, which is empty again before the next one reads; so a thousand
idle connections hold nothing. What is not complete goes into a buffer of its own, and the rest is received straight
into it. A length is four bytes that anybody can send, so that buffer is as long as the frame at once only up to the
largest frame that the connection has sent before; beyond, it grows with what arrives. So a large batch is not copied,
except on its way to the first of its size.
"""

from collections import deque
from struct import Struct
from typing import Final

from ottla.core.errors import DecodeError

SHARED_BYTES: Final = 1 << 16
_SIZE: Final = Struct(">i")
_PREFIX_BYTES: Final = 4
_UNPROVEN_BYTES: Final = 1 << 17
_GROWTH: Final = 4
_SMALLEST_FRAME: Final = 10  # api key, version, correlation id, length of the client id
_FOREIGN: Final = {b"GET ": "HTTP", b"POST": "HTTP", b"PUT ": "HTTP", b"HEAD": "HTTP", b"PRI ": "HTTP/2 (gRPC)"}


class FrameReader:
    """The frames of one connection; `frames` is emptied by the owner."""

    __slots__ = ("_filled", "_max_bytes", "_private", "_proven_bytes", "_shared", "_size", "frames")

    def __init__(self, shared: memoryview, max_bytes: int) -> None:
        self.frames: deque[bytearray] = deque()
        self._shared = shared
        self._max_bytes = max_bytes
        self._private: bytearray | None = None  # an incomplete frame, or an incomplete length
        self._size = 0  # of the frame in `_private`; 0: that is an incomplete length
        self._filled = 0
        self._proven_bytes = _UNPROVEN_BYTES

    def buffer(self) -> memoryview:
        """Where the next bytes go."""
        if self._private is None:
            return self._shared
        return memoryview(self._private)[self._filled :]

    def received(self, count: int) -> None:
        """`count` bytes were put into the buffer. Raises DecodeError after which nothing can be read any more."""
        private = self._private
        if private is None:
            self._cut(count)
            return
        self._filled += count
        if self._filled < len(private):
            return
        if self._filled < self._size:
            self._private = self._allocate(min(self._size, self._filled * _GROWTH), private)
            return
        self._private = None
        if self._size:
            self._proven_bytes = max(self._proven_bytes, self._size)
            self.frames.append(private)
        else:
            self._begin(self._checked_size(private, 0), b"")

    def _cut(self, end: int) -> None:
        shared = self._shared
        position = 0
        while end - position >= _PREFIX_BYTES:
            size = self._checked_size(shared, position)
            position += _PREFIX_BYTES
            if size > end - position:
                self._begin(size, shared[position:end])
                return
            self.frames.append(bytearray(shared[position : position + size]))
            position += size
        if position < end:
            self._begin(0, shared[position:end])

    def _begin(self, size: int, first: memoryview | bytes) -> None:
        self._size, self._filled = size, len(first)
        self._private = self._allocate(min(size, self._proven_bytes) if size else _PREFIX_BYTES, first)

    def _allocate(self, length: int, first: memoryview | bytes | bytearray) -> bytearray:
        try:
            private = bytearray(length)
        except MemoryError:
            raise DecodeError(f"no memory for a request of {self._size} bytes") from None
        private[: len(first)] = first
        return private

    def _checked_size(self, buffer: memoryview | bytearray, position: int) -> int:
        size: int = _SIZE.unpack_from(buffer, position)[0]
        if _SMALLEST_FRAME <= size <= self._max_bytes:
            return size
        raise DecodeError(self._explain(bytes(buffer[position : position + _PREFIX_BYTES]), size))

    def _explain(self, prefix: bytes, size: int) -> str:
        if prefix in _FOREIGN:
            return f"this is {_FOREIGN[prefix]}, not the Kafka protocol"
        if prefix[:2] == b"\x16\x03":
            return "this is TLS, which the listener does not speak"
        if size > self._max_bytes:
            return f"a request of {size} bytes is larger than socket.request.max.bytes={self._max_bytes}"
        return f"a request cannot have {size} bytes"

"""Cuts the bytes of a connection into frames: four bytes of length, then a request.

All connections of a loop read into one shared buffer, which is empty again before the next one reads; so a thousand
idle connections hold nothing. What is not complete goes into a buffer of its own, exactly as long as the frame, and the
rest is received straight into it: a large batch is never copied.
"""

from collections import deque
from struct import Struct
from typing import Final

from ottla.core.errors import DecodeError

SHARED_BYTES: Final = 1 << 16
_SIZE: Final = Struct(">i")
_PREFIX_BYTES: Final = 4
_SMALLEST_FRAME: Final = 10  # api key, version, correlation id, length of the client id
_FOREIGN: Final = {b"GET ": "HTTP", b"POST": "HTTP", b"PUT ": "HTTP", b"HEAD": "HTTP", b"PRI ": "HTTP/2 (gRPC)"}


class FrameReader:
    """The frames of one connection; `frames` is emptied by the owner."""

    __slots__ = ("_filled", "_max_bytes", "_private", "_shared", "_within_frame", "frames")

    def __init__(self, shared: memoryview, max_bytes: int) -> None:
        self.frames: deque[bytearray] = deque()
        self._shared = shared
        self._max_bytes = max_bytes
        self._private: bytearray | None = None  # an incomplete frame, or an incomplete length
        self._within_frame = False
        self._filled = 0

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
        self._private = None
        if self._within_frame:
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
            self._keep(bytearray(_PREFIX_BYTES), shared[position:end], within_frame=False)

    def _begin(self, size: int, first: memoryview | bytes) -> None:
        try:
            frame = bytearray(size)
        except MemoryError:
            raise DecodeError(f"no memory for a request of {size} bytes") from None
        self._keep(frame, first, within_frame=True)

    def _keep(self, private: bytearray, first: memoryview | bytes, *, within_frame: bool) -> None:
        private[: len(first)] = first
        self._private = private
        self._filled = len(first)
        self._within_frame = within_frame

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

"""Cuts the bytes of a connection into frames, with as little copying as can be.

All connections of a node read into one shared buffer. Frames that lie whole in it are handed over where they lie; one
that does not gets a buffer of its own, and the rest of it is received straight into that. Only a peer that has proved
who it is can make that buffer large, and beyond what it has sent before the buffer grows with what arrives.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final

from ottla.core.errors import DecodeError
from ottla.partitions.replication import wire

SHARED_BYTES: Final = 1 << 18
_PREFIX: Final = Struct(">I")
_LENGTH_BYTES: Final = 4
_UNPROVEN_BYTES: Final = 2 << 20
_GROWTH: Final = 4

OnFrame = Callable[[int, memoryview, bool], None]
"""(kind, body, whether the body's memory belongs to the callee now)"""


class FrameReader:
    """The frames of one connection. `stop` ends it: the owner closes the connection."""

    __slots__ = ("_filled", "_length", "_on_frame", "_private", "_proven_bytes", "_shared", "limit", "stopped")

    def __init__(self, shared: memoryview, on_frame: OnFrame, limit: int = wire.MAX_GREETING_BYTES) -> None:
        self.limit = limit  # of a frame's length; raised when the peer is known
        self.stopped = False
        self._shared, self._on_frame = shared, on_frame
        self._private: bytearray | None = None  # a frame's length and what follows it
        self._length = 0  # of the whole frame in `_private`; 0: its length is not complete yet
        self._filled = 0
        self._proven_bytes = _UNPROVEN_BYTES

    def stop(self) -> None:
        self.stopped = True

    def buffer(self) -> memoryview:
        """Where the next bytes go."""
        private = self._private
        return self._shared if private is None else memoryview(private)[self._filled :]

    def received(self, count: int) -> None:
        """`count` bytes were put into the buffer; raises DecodeError, after which nothing can be read any more."""
        private = self._private
        if private is None:
            self._cut(count)
            return
        self._filled += count
        if self._filled < len(private):
            return
        if not self._length:
            self._length = self._checked(private, 0)
        if self._filled < self._length:
            self._grow(private, min(self._length, max(self._filled * _GROWTH, self._proven_bytes)))
            return
        self._private = None
        self._proven_bytes = max(self._proven_bytes, self._length)
        self._on_frame(private[_LENGTH_BYTES], memoryview(private)[wire.PREFIX_BYTES :], True)

    def _cut(self, end: int) -> None:
        shared, on_frame = self._shared, self._on_frame
        position = 0
        while end - position >= _LENGTH_BYTES:
            length: int = _PREFIX.unpack_from(shared, position)[0]
            if not 0 < length <= self.limit:
                wire.check_length(length, self.limit)  # says what is wrong
            following = position + _LENGTH_BYTES + length
            if following > end:
                break
            on_frame(shared[position + _LENGTH_BYTES], shared[position + wire.PREFIX_BYTES : following], False)
            if self.stopped:
                return
            position = following
        if position == end:
            return
        rest = end - position
        self._length = self._checked(shared, position) if rest >= _LENGTH_BYTES else 0
        self._filled = rest
        size = min(self._length, max(self._proven_bytes, rest)) if self._length else _LENGTH_BYTES
        self._grow(shared[position:end], size)

    def _grow(self, first: memoryview | bytearray, size: int) -> None:
        try:
            private = bytearray(size)
        except MemoryError:
            raise DecodeError(f"no memory for a frame of {self._length} bytes") from None
        private[: len(first)] = first
        self._private = private

    def _checked(self, buffer: memoryview | bytearray, position: int) -> int:
        """Bytes of the whole frame, its length included."""
        length: int = _PREFIX.unpack_from(buffer, position)[0]
        wire.check_length(length, self.limit)
        return length + _LENGTH_BYTES

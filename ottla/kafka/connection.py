"""One connection: bytes in, answers out in the order of the requests, and back-pressure both ways.

    reading ──▶ frames ──▶ dispatch ──▶ slots, one for each request ──▶ written as a run when the first one is ready

Produce requests and commits of offsets overtake each other freely inside of the broker; any other request that has to
wait holds up the ones behind it, as it does in Kafka. A connection stops reading while frames wait for their turn:
because such a request is under way, because too many or too large requests are unanswered, or because the client does
not read its answers.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, cast

import structlog

from ottla.broker.context import RequestContext
from ottla.core.errors import DecodeError
from ottla.core.types import Buffer
from ottla.kafka.frames import FrameReader

if TYPE_CHECKING:
    from ottla.kafka.door import KafkaDoor

MAX_UNANSWERED: Final = 1024
MAX_UNANSWERED_BYTES: Final = 32 << 20
_WRITE_HIGH_WATER: Final = 1 << 20
_JOIN_BELOW_BYTES: Final = 1 << 14
_MAX_GATHERED: Final = 64


_log: Final = structlog.get_logger(__name__)


class Cancellable(Protocol):
    """A request that waits: a task, a fetch."""

    def cancel(self) -> object: ...


class Slot:
    """The place of one answer in the order of answers."""

    __slots__ = ("buffers", "request_bytes")

    def __init__(self, request_bytes: int) -> None:
        self.request_bytes = request_bytes
        self.buffers: list[Buffer] | None = None


class Connection(asyncio.BufferedProtocol):
    """The protocol object of one accepted socket."""

    __slots__ = (
        "_busy",
        "_closing",
        "_flushing",
        "_out",
        "_paused",
        "_reader",
        "_slots",
        "_transport",
        "_unanswered_bytes",
        "_unread",
        "_unread_bytes",
        "closed",
        "context",
        "door",
        "last_active",
        "peer",
    )

    def __init__(self, door: "KafkaDoor", listener: str, connection_id: int) -> None:
        self.context = RequestContext(listener=listener, api_version=0, connection_id=connection_id)
        self.peer = ""
        self.closed = False
        self.last_active = 0.0
        self.door = door
        self._reader = FrameReader(door.receive_buffer, door.limits.request_max_bytes)
        self._slots: deque[Slot] = deque()
        self._out: list[Buffer] = []  # answers whose turn has come
        self._flushing = False
        self._unanswered_bytes = 0
        self._busy: Cancellable | None = None
        self._unread = False  # the client does not read what was written
        self._unread_bytes = 0  # how much of it the door was told of
        self._paused = False  # reading
        self._closing = False

    # -- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.context.peer_host, self.context.peer_port = peer[:2]
            self.peer = f"{peer[0]}:{peer[1]}"
        self.last_active = self.door.now()
        self.context.content_since_ms = self.door.clock.monotonic_ms()
        self.door.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.last_active = self.door.now()
        try:
            self._reader.received(nbytes)
        except DecodeError as error:
            self._handle_frames()
            self.refuse(str(error))
        else:
            if self._reader.frames:
                self._handle_frames()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = self._closing = True
        self._slots.clear()
        self._reader.frames.clear()
        self._count_unread(0)
        self.door.lost(self)
        busy, self._busy = self._busy, None
        if busy is not None:
            busy.cancel()

    def pause_writing(self) -> None:
        self._unread = True
        self._count_unread(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._unread = False
        self._count_unread(0)
        self.proceed()

    def _count_unread(self, size_bytes: int) -> None:
        self.door.unread_bytes += size_bytes - self._unread_bytes
        self._unread_bytes = size_bytes

    # -- requests

    def _handle_frames(self) -> None:
        frames = self._reader.frames
        dispatch = self.door.dispatch
        while frames and not self._closing and not self._is_blocked():
            frame = frames.popleft()
            try:
                dispatch(self, frame)
            except DecodeError as error:
                self.refuse(str(error))
        if frames and not self._closing:
            if not self._paused:
                self._paused = True
                self._transport.pause_reading()
        elif self._paused and not self._closing:
            self._paused = False
            self._transport.resume_reading()

    def _is_blocked(self) -> bool:
        return (
            self._busy is not None
            or self._unread
            or len(self._slots) >= MAX_UNANSWERED
            or self._unanswered_bytes >= MAX_UNANSWERED_BYTES
        )

    def proceed(self) -> None:
        """Something that held up the frames may be over."""
        if self._paused and not self._is_blocked():
            self._handle_frames()

    def hold(self, waiting: Cancellable) -> None:
        """No further request until `release`; `waiting` is cancelled when the connection is lost before."""
        self._busy = waiting

    def release(self) -> None:
        self._busy = None
        self.proceed()

    def refuse(self, reason: str, *, silently: bool = False) -> None:
        """Close after what is already under way; with one line in the log, unless there was one."""
        if self._closing:
            return
        self._closing = True
        if not silently:
            _log.warning("connection closed", peer=self.peer, connection=self.context.connection_id, reason=reason)
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._reader.frames.clear()
        if not self._slots:
            self._transport.close()

    # -- answers

    def reserve(self, request_bytes: int) -> Slot:
        """A place in the order, for a request that is dispatched now."""
        slot = Slot(request_bytes)
        self._slots.append(slot)
        self._unanswered_bytes += request_bytes
        return slot

    def answer(self, slot: Slot, buffers: list[Buffer]) -> None:
        """The answer for that place: written now, or when those before it are ready. None at all is empty."""
        slot.buffers = buffers
        slots = self._slots
        if not slots or slots[0] is not slot:  # not its turn, or the connection is gone
            return
        out = self._out
        while slots:
            ready = slots[0].buffers
            if ready is None:
                break
            out += ready
            self._unanswered_bytes -= slots.popleft().request_bytes
        if not slots or len(out) > _MAX_GATHERED:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self.door.call_soon(self._flush_later)
        if self._closing:
            if not slots:
                self._transport.close()
        elif self._paused:
            self.proceed()

    def _flush_later(self) -> None:
        self._flushing = False
        if self._out and not self.closed:
            self._flush()

    def _flush(self) -> None:
        """One system call for what one turn of the loop has answered; a group commit answers many requests."""
        out, self._out = self._out, []
        if out:
            self._write(out)

    def answer_at_once(self, buffers: list[Buffer]) -> None:
        """The answer of a request that did not have to wait, and has no place yet."""
        if self._slots:
            slot = Slot(0)
            self._slots.append(slot)
            slot.buffers = buffers
        else:
            self._write(buffers)

    def _write(self, buffers: list[Buffer]) -> None:
        size = sum(map(len, buffers))
        self.door.traffic.sent_bytes += size
        if len(buffers) == 1:
            self._transport.write(buffers[0])
        elif size < _JOIN_BELOW_BYTES:
            self._transport.write(b"".join(buffers))
        else:
            self._transport.writelines(buffers)

    # -- the door's calls

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return not self._slots and self._busy is None and not self._reader.frames

    def close(self) -> None:
        """Close when everything under way is answered."""
        self._closing = True
        if not self._slots:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

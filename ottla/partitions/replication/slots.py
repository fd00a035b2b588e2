"""One follower's subscription to one partition: what was sent, what is acknowledged, what is sent next.

New batches come out of the log's tail in memory. Who is further behind is read to from the files: less at a time, less
of it unacknowledged, at the throttled rate, and off the loop when the page cache does not have it; so it stays below
the foreground.
"""

from collections import deque
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Final

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, DecodeError
from ottla.core.types import Buffer, NodeId
from ottla.partitions.replication import wire
from ottla.partitions.replication.leading import Leading, first_offset_of
from ottla.partitions.results import Isolation, ReadResult
from ottla.records.header import HEADER_BYTES, iterate_headers

if TYPE_CHECKING:
    from ottla.partitions.replication.serving import LeaderSession

CHUNK_BYTES: Final = 1 << 20  # of one frame; a batch that is larger goes whole
WINDOW_BYTES: Final = 8 << 20  # sent for one partition and not durable there yet
CATCH_UP_CHUNK_BYTES: Final = 512 << 10
CATCH_UP_WINDOW_BYTES: Final = 2 << 20
_AGAIN_MS: Final = 10.0
_JOIN_FROM_VIEWS: Final = 16
_BASE_OFFSET: Final = Struct(">q")
_LAST_OFFSET_DELTA: Final = Struct(">i")
_LAST_OFFSET_DELTA_AT: Final = 23


class Slot:
    """A `leading.Reader`."""

    __slots__ = (
        "_in_flight",
        "_queued",
        "_reading",
        "_session",
        "_told",
        "in_flight_bytes",
        "leading",
        "live",
        "next_offset",
        "node",
        "number",
        "sent_bytes",
    )

    def __init__(self, session: "LeaderSession", number: int, leading: Leading, node: NodeId, next_offset: int) -> None:
        self._session, self.number, self.leading, self.node = session, number, leading, node
        self.next_offset = next_offset
        self.live = True
        self.in_flight_bytes = 0
        self.sent_bytes = 0
        self._in_flight: deque[tuple[int, int]] = deque()  # (end offset, bytes) of each frame
        self._queued = self._reading = False
        self._told = (-1, -1)  # high watermark, log start

    # -- told by the partition

    def grown(self) -> None:
        if not self._queued and not self._reading:
            self._queued = True
            self._session.send_soon(self)

    def moved(self) -> None:
        self._session.tell_soon(self)

    def end(self, code: ErrorCode) -> None:
        if self.live:
            self.live = False
            self._session.ended(self, code)

    # -- what the connection sends

    def offsets(self) -> tuple[int, int, int] | None:
        """What a frame of OFFSETS says of it; None when nothing is new."""
        partition = self.leading.partition
        told = partition.high_watermark, partition.log_start_offset
        if told == self._told:
            return None
        self._told = told
        return self.number, *told

    def fill(self, out: list[Buffer]) -> int:
        """Put the next batches into `out`, in a frame; how many bytes. 0: nothing now."""
        self._queued = False
        if not self.live or self._reading:
            return 0
        log = self.leading.partition.log
        offset = self.next_offset
        if offset >= log.log_end_offset or self.in_flight_bytes >= WINDOW_BYTES:
            return 0
        tail = log.tail
        if offset < tail.base_offset:
            return self._catch_up(out)
        views, size = tail.read(offset, log.log_end_offset, CHUNK_BYTES, True)
        if not views:
            return 0
        next_offset = _end_of(views[-1])
        buffers: list[Buffer] = list(views) if len(views) < _JOIN_FROM_VIEWS else [b"".join(views)]
        return self._send(out, buffers, size, next_offset)

    @property
    def has_more(self) -> bool:
        return (
            self.live
            and not self._reading
            and self.next_offset < self.leading.partition.log.log_end_offset
            and self.in_flight_bytes < WINDOW_BYTES
        )

    def _send(self, out: list[Buffer], buffers: list[Buffer], size: int, next_offset: int) -> int:
        partition = self.leading.partition
        self._told = partition.high_watermark, partition.log_start_offset
        out.append(wire.data_prefix(self.number, *self._told, size))
        out += buffers
        self.next_offset = next_offset
        self._in_flight.append((next_offset, size))
        self.in_flight_bytes += size
        self.sent_bytes += size
        self._session.in_flight_bytes += size
        return size

    # -- catching up

    def _catch_up(self, out: list[Buffer]) -> int:
        session, partition, offset = self._session, self.leading.partition, self.next_offset
        if self.in_flight_bytes >= CATCH_UP_WINDOW_BYTES:
            return 0  # `acknowledged` comes back to it
        wait_ms = session.throttle_ms()
        if wait_ms:
            self._pause(wait_ms)
            return 0
        self._reading = True
        try:
            result = partition.read(
                max(offset, partition.log_start_offset),
                CATCH_UP_CHUNK_BYTES,
                isolation=Isolation.LOG_END,
                minimum_one_batch=True,
                done=partial(self._read_later, offset),
            )
        except ApiError as error:
            self._reading = False
            self._cannot_read(error)
            return 0
        if result is None:
            return 0
        self._reading = False
        return self._take(out, result)

    def _read_later(self, offset: int, result: ReadResult | ApiError) -> None:
        self._reading = False
        if not self.live or offset != self.next_offset:
            return
        if isinstance(result, ApiError):
            self._cannot_read(result)
            return
        out: list[Buffer] = []
        if self._take(out, result):
            self._session.send(out)
        self.grown()

    def _take(self, out: list[Buffer], result: ReadResult) -> int:
        if not result.size:
            self._pause(_AGAIN_MS)
            return 0
        first = first_offset_of(result.buffers[0])
        if self.next_offset < first <= self.leading.partition.log_start_offset:  # else it is a gap of a compacted log
            self._session.begin_anew(self, first)
            return 0
        self._session.took(result.size)
        next_offset = result.next_offset
        if next_offset < 0:  # it came from memory after all
            next_offset = max(header.next_offset for _, header in iterate_headers(result.buffers[-1]))
        return self._send(out, result.buffers, result.size, next_offset)

    def _pause(self, wait_ms: float) -> None:
        self._reading = True

        def go_on() -> None:
            self._reading = False
            if self.live:
                self.grown()

        self._session.call_later(wait_ms, go_on)

    def _cannot_read(self, error: ApiError) -> None:
        self.leading.unsubscribe(self.node, error.code, self)

    # -- what the follower tells

    def acknowledged(self, durable_end_offset: int, log_end_offset: int, log_start_offset: int) -> None:
        """It is durable there up to `durable_end_offset`. DecodeError when that cannot be."""
        if not 0 <= durable_end_offset <= log_end_offset <= self.next_offset:
            raise DecodeError(
                f"a follower has offsets to {log_end_offset}, durably to {durable_end_offset}; it got them to "
                f"{self.next_offset}"
            )
        in_flight, freed = self._in_flight, 0
        while in_flight and in_flight[0][0] <= durable_end_offset:
            freed += in_flight.popleft()[1]
        self.in_flight_bytes -= freed
        self._session.in_flight_bytes -= freed
        self.leading.reported(self.node, durable_end_offset, log_end_offset, log_start_offset)
        if freed and self.has_more:
            self.grown()


def _end_of(batch: memoryview) -> int:
    """The offset after a batch."""
    assert len(batch) >= HEADER_BYTES
    base: int = _BASE_OFFSET.unpack_from(batch)[0]
    delta: int = _LAST_OFFSET_DELTA.unpack_from(batch, _LAST_OFFSET_DELTA_AT)[0]
    return base + delta + 1

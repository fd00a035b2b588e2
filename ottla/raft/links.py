"""One stream that stands between two nodes: a task that reads, a task that writes, what waits, and how it ends."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

import grpc.aio

from ottla.core.errors import DecodeError
from ottla.core.types import NodeId
from ottla.raft.core.member import Member
from ottla.raft.handshake import Standing


class Stream(Protocol):
    """Either side's end of a gRPC stream of bytes. Both methods raise when it is broken."""

    async def read(self) -> Any:
        """The next frame, or `grpc.aio.EOF`."""

    async def write(self, frame: bytes, /) -> None:
        """Returns when flow control has let it pass."""


class Ending(Enum):
    """Why a link is no more."""

    RESET = auto()  # by the peer, or by what is between
    SILENT = auto()  # nothing was heard for too long
    MALFORMED = auto()  # the peer sends what is no frame
    REPLACED = auto()  # another stream stands
    CLOSED = auto()  # by this node


@dataclass(frozen=True, slots=True)
class End:
    """Why, and what is known besides."""

    ending: Ending
    detail: str = ""


class Outgoing:
    """What waits to be sent to one peer: encoded frames, bounded by bytes. It outlives a link that is replaced."""

    def __init__(self, max_bytes: int, batch_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._batch_bytes = batch_bytes
        self._frames: deque[bytes] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def put(self, frame: bytes) -> bool:
        """False: too much waits already, and the frame is dropped."""
        if self._bytes + len(frame) > self._max_bytes:
            return False
        self._frames.append(frame)
        self._bytes += len(frame)
        return True

    def take(self) -> bytes:
        """The oldest frames as one, of at most `batch_bytes` unless the first alone is longer; there must be one."""
        frames = self._frames
        first = frames.popleft()
        size = len(first)
        if not frames:
            self._bytes -= size
            return first
        batch = [first]
        while frames and size + len(frames[0]) <= self._batch_bytes:
            batch.append(frame := frames.popleft())
            size += len(frame)
        self._bytes -= size
        return b"".join(batch)

    def clear(self) -> None:
        self._frames.clear()
        self._bytes = 0


class Link:
    """The two tasks, from `run` until the first of: the stream breaks, `end` is called, `run` is cancelled."""

    def __init__(
        self,
        stream: Stream,
        peer: Member,
        standing: Standing,
        outgoing: Outgoing,
        deliver: Callable[["Link", bytes], None],
    ) -> None:
        self.peer = peer
        self.standing = standing
        self._stream = stream
        self._outgoing = outgoing
        self._deliver = deliver
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[End] = loop.create_future()
        self._waiting: asyncio.Future[None] | None = None  # the writer, for something to write
        self._keepalive = False
        self.quiet_for = 0  # rounds of `watch` in which nothing came
        self._wrote = self._heard = True

    def wake(self) -> None:
        """There is something to write."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def end(self, end: End) -> None:
        """Make `run` return, unless it does already."""
        if not self._ended.done():
            self._ended.set_result(end)

    def watch(self) -> None:
        """Called at a steady pace: count the rounds in which nothing was heard, and be heard in each."""
        self.quiet_for = 0 if self._heard else self.quiet_for + 1
        if not self._wrote:
            self._keepalive = True
            self.wake()
        self._wrote = self._heard = False

    async def run(self, first: bytes = b"") -> End:
        """Exchange messages; `first` goes before all others. Returns why it ended, with no task left."""
        tasks = [asyncio.ensure_future(self._write_all(first)), asyncio.ensure_future(self._read_all())]
        try:
            return await self._ended
        finally:
            self.end(End(Ending.CLOSED))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write_all(self, first: bytes) -> None:
        loop = asyncio.get_running_loop()
        outgoing, write = self._outgoing, self._stream.write
        try:
            if first:
                await write(first)
            while True:
                if outgoing:
                    frame = outgoing.take()
                elif self._keepalive:
                    frame = b""
                else:
                    self._waiting = loop.create_future()
                    await self._waiting
                    continue
                self._keepalive = False
                await write(frame)
                self._wrote = True
        except Exception as error:  # of many types, and each means that the stream is broken
            self.end(_reset(error))

    async def _read_all(self) -> None:
        read = self._stream.read
        try:
            while (frame := await read()) is not grpc.aio.EOF:
                self._heard = True
                if frame:
                    self._deliver(self, frame)
            self.end(End(Ending.RESET, "the peer ended it"))
        except DecodeError as error:
            self.end(End(Ending.MALFORMED, str(error)))
        except Exception as error:
            self.end(_reset(error))


class Peer:
    """What this node has to do with one other node."""

    __slots__ = ("dialling", "endpoint", "last_stream", "link", "node", "outgoing")

    def __init__(self, node: NodeId, outgoing: Outgoing) -> None:
        self.node = node
        self.endpoint = ""  # empty: it has to dial
        self.outgoing = outgoing
        self.link: Link | None = None
        self.dialling: asyncio.Task[None] | None = None
        self.last_stream = b""


def _reset(error: Exception) -> End:
    detail = error.details() if isinstance(error, grpc.aio.AioRpcError) else repr(error)
    return End(Ending.RESET, detail or "")

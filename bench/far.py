"""A port that leads to another one a long way off: what goes through, either way, comes half a round trip later.

    python -m bench.far PORT HOST:PORT ROUND_TRIP_MS

It is near until it gets SIGUSR1, so that a source can be filled first. Nothing is lost, and as much fits on the way as
is sent: a long fat link with TCP windows that suffice.
"""

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import uvloop

HELD_BYTES: Final = 256 << 20  # in one direction of one connection; who sends more waits


class Way:
    """How long it is now."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = 0.0
        self._far_s = delay_s

    def lengthen(self) -> None:
        """From now on it is far."""
        self.delay_s = self._far_s


class End(asyncio.Protocol):
    """One side of a connection; what it hears goes to `other`, later."""

    def __init__(self, way: Way, begin: "Callable[[End], None] | None" = None) -> None:
        self._way, self._begin = way, begin
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None
        self._held: deque[tuple[float, bytes]] = deque()  # heard, and when it is to be sent on
        self._held_bytes = 0
        self._timer: asyncio.Handle | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HELD_BYTES)
        if self._begin is not None:
            self._begin(self)
        self.wake()
        if self.other is not None:
            self.other.wake()

    def data_received(self, data: bytes) -> None:
        self._held.append((self._loop.time() + self._way.delay_s, data))
        self._held_bytes += len(data)
        if self._held_bytes > HELD_BYTES and self.transport is not None:
            self.transport.pause_reading()
        self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self.wake()

    def wake(self) -> None:
        """Send on what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        out = None if self.other is None else self.other.transport
        if out is None or out.is_closing():  # not there yet, or not there any more
            return
        now = self._loop.time()
        due: list[bytes] = []
        while self._held and self._held[0][0] <= now:
            due.append(self._held.popleft()[1])
        if due:
            self._held_bytes -= sum(map(len, due))
            out.writelines(due)
            if self.transport is not None and self._held_bytes <= HELD_BYTES // 2 and not self._ended:
                self.transport.resume_reading()
        if self._held:
            self._timer = self._loop.call_at(self._held[0][0], self.wake)
        elif self._ended:
            out.close()


async def _serve(port: int, host: str, to_port: int, delay_s: float) -> None:
    loop, way = asyncio.get_running_loop(), Way(delay_s)
    loop.add_signal_handler(signal.SIGUSR1, way.lengthen)
    tasks: set[asyncio.Task[object]] = set()

    def begin(near: End) -> None:
        far = End(way)
        near.other, far.other = far, near

        async def connect() -> None:
            try:
                await loop.create_connection(lambda: far, host, to_port)
            except OSError:
                assert near.transport is not None
                near.transport.abort()

        task: asyncio.Task[object] = loop.create_task(connect())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await loop.create_server(lambda: End(way, begin), "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    _, _port, _to, _round_trip_ms = sys.argv
    _host, _, _to_port = _to.rpartition(":")
    uvloop.run(_serve(int(_port), _host, int(_to_port), float(_round_trip_ms) / 2000))

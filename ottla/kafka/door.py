"""The Kafka door as a whole: its sockets, its connections, and the limits on them."""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from ottla.adapters.tls import ContextSource, TlsListener
from ottla.broker.broker import Broker
from ottla.kafka.connection import Connection
from ottla.kafka.dispatch import Dispatch
from ottla.kafka.frames import SHARED_BYTES

_log: Final = structlog.get_logger(__name__)
_BACKLOG: Final = 1024
_SWEEPS_PER_IDLE_TIME: Final = 10
_MAX_SWEEP_SECONDS: Final = 60.0


class Traffic:
    """What went through a door since its start; plain numbers, so that counting costs next to nothing."""

    __slots__ = ("connections", "received_bytes", "requests", "sent_bytes")

    def __init__(self) -> None:
        self.connections = 0
        self.requests: defaultdict[int, int] = defaultdict(int)  # by API key, known or not
        self.received_bytes = 0
        self.sent_bytes = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a door allows; Kafka's names in its configuration."""

    request_max_bytes: int = 100 << 20  # socket.request.max.bytes
    max_connections: int = 2**31 - 1  # max.connections
    max_idle_ms: int = 600_000  # connections.max.idle.ms; below 0: for ever


class KafkaDoor:
    """Serves the Kafka protocol on any number of listening sockets. Everything happens on one loop."""

    def __init__(self, broker: Broker, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.receive_buffer = memoryview(bytearray(SHARED_BYTES))
        self.dispatch = Dispatch(broker)
        self.clock = broker.clock
        self.connections: set[Connection] = set()
        self.traffic = Traffic()
        self.unread_bytes = 0  # answers that wait in memory for clients that do not read
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.call_soon = self._loop.call_soon
        self._servers: list[asyncio.Server | TlsListener] = []
        self._next_id = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._connection_closed = broker.when_connection_closes
        self._stopping = False

    async def listen(
        self, listener: str, sockets: Sequence[socket.socket], context: ContextSource | None = None
    ) -> None:
        """Serve on these bound sockets, under the listener's name; with TLS where a source of contexts is given."""

        def accept() -> Connection:
            return self._accept(listener)

        for bound in sockets:
            if context is not None:
                self._servers.append(TlsListener(self._loop, bound, accept, context, door=listener, backlog=_BACKLOG))
                continue
            server = await self._loop.create_server(accept, sock=bound, backlog=_BACKLOG, start_serving=True)
            self._servers.append(server)
        if self._sweeper is None and self.limits.max_idle_ms > 0:
            self._sweep()

    async def stop(self, grace_ms: int = 0) -> None:
        """Take no new connection, answer for up to `grace_ms` what is under way, then close the others."""
        self._stopping = True
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.close()
        if not await self._drained(grace_ms):
            for connection in tuple(self.connections):
                connection.abort()
            await self._drained(1000)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    async def _drained(self, grace_ms: int) -> bool:
        self._empty.clear()
        if self.connections:
            try:
                await asyncio.wait_for(self._empty.wait(), grace_ms / 1000)
            except TimeoutError:
                return False
        return True

    def _accept(self, listener: str) -> Connection:
        self._next_id += 1
        return Connection(self, listener, self._next_id)

    # -- the connections' calls

    def opened(self, connection: Connection) -> None:
        """A connection has its transport."""
        self.traffic.connections += 1
        if len(self.connections) >= self.limits.max_connections:
            connection.refuse(f"there are max.connections={self.limits.max_connections} already")
        self.connections.add(connection)

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()
        if not self._stopping:  # otherwise it was us who closed it
            for tell in self._connection_closed:
                tell(connection.context.connection_id)

    def _sweep(self) -> None:
        idle_seconds = self.limits.max_idle_ms / 1000
        oldest = self.now() - idle_seconds
        for connection in tuple(self.connections):
            if connection.last_active < oldest and connection.idle:
                _log.debug("connection closed: idle", peer=connection.peer, connection=connection.context.connection_id)
                connection.close()
        delay = min(idle_seconds / _SWEEPS_PER_IDLE_TIME, _MAX_SWEEP_SECONDS)
        self._sweeper = self._loop.call_later(delay, self._sweep)

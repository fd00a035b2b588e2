"""The port `Network` on an asyncio (uvloop) event loop: TCP, below it TLS where contexts are given."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from ssl import SSLError
from typing import Final, cast

import structlog

from ottla.adapters.tls import CLOSING_S, ContextSource, TlsListener, explain
from ottla.core.ports import Receiver
from ottla.core.types import Buffer

_HIGH_WATER_BYTES: Final = 2 << 20
_LOW_WATER_BYTES: Final = 256 << 10
_JOIN_BELOW_BYTES: Final = 16 << 10
_CONNECT_S: Final = 5.0
_BACKLOG: Final = 128
_MAX_TOLD: Final = 64

_log: Final = structlog.get_logger(__name__)


class AsyncioNetwork:
    """`server_ssl` and `client_ssl` (both or none) give the contexts for the next connection; the client's one names
    the authority that nodes must show, and checks that a certificate bears the name that was dialled.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        server_ssl: ContextSource | None = None,
        client_ssl: ContextSource | None = None,
    ) -> None:
        self._loop, self._server_ssl, self._client_ssl = loop, server_ssl, client_ssl
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[tuple[str, int, str]] = set()

    def connect(self, host: str, port: int, receiver: Receiver) -> None:
        self._run(self._connect(host, port, receiver))

    def listen(self, host: str, port: int, accept: Callable[[str], Receiver]) -> "AsyncioListener":
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        return self.serve(listening, accept)

    def serve(self, listening: socket.socket, accept: Callable[[str], Receiver]) -> "AsyncioListener":
        """As `listen`, on a socket that is bound already."""
        listening.setblocking(False)
        listener = AsyncioListener(listening)
        if self._server_ssl is None:
            self._run(listener.start(self._loop, accept))
        else:
            listener.start_tls(self._loop, accept, self._server_ssl)
        return listener

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, host: str, port: int, receiver: Receiver) -> None:
        def make() -> AsyncioChannel:
            return AsyncioChannel(receiver)

        try:
            async with asyncio.timeout(_CONNECT_S):
                if self._client_ssl is None:
                    await self._loop.create_connection(make, host, port)
                else:
                    context = self._client_ssl()
                    await self._loop.create_connection(make, host, port, ssl=context, ssl_shutdown_timeout=CLOSING_S)
        except (OSError, TimeoutError) as error:
            if isinstance(error, SSLError):
                self._tell(host, port, explain(error))
            receiver.closed(error)

    def _tell(self, host: str, port: int, reason: str) -> None:
        """Once: it is dialled again and again."""
        key = (host, port, reason)
        if key not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(key)
            _log.warning("no TLS connection to another node", host=host, port=port, reason=reason)


class AsyncioListener:
    """A listening socket."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self._server: asyncio.Server | TlsListener | None = None
        self.port: int = listening.getsockname()[1]
        self._closed = False

    async def start(self, loop: asyncio.AbstractEventLoop, accept: Callable[[str], Receiver]) -> None:
        server = await loop.create_server(lambda: AsyncioChannel(None, accept), sock=self._socket, backlog=_BACKLOG)
        if self._closed:
            server.close()
        self._server = server

    def start_tls(
        self, loop: asyncio.AbstractEventLoop, accept: Callable[[str], Receiver], context: ContextSource
    ) -> None:
        self._server = TlsListener(
            loop, self._socket, lambda: AsyncioChannel(None, accept), context, door="replication", backlog=_BACKLOG
        )

    def close(self) -> None:
        self._closed = True
        if self._server is not None:
            self._server.close()


class AsyncioChannel(asyncio.BufferedProtocol):
    """One connection: the protocol object of the transport, and the `Channel` of its receiver."""

    def __init__(self, receiver: Receiver | None, accept: Callable[[str], Receiver] | None = None) -> None:
        self._receiver, self._accept = receiver, accept
        self._transport: asyncio.Transport | None = None

    # -- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES, low=_LOW_WATER_BYTES)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            with suppress(OSError):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._receiver is None:
            assert self._accept is not None
            self._receiver = self._accept(_address(transport.get_extra_info("peername")))
        self._receiver.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        assert self._receiver is not None
        return self._receiver.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        assert self._receiver is not None
        self._receiver.received(nbytes)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """The receiver looks at `queued_bytes`."""

    def resume_writing(self) -> None:
        assert self._receiver is not None
        self._receiver.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._receiver is not None:
            self._receiver.closed(exc)

    # -- the receiver's calls

    @property
    def queued_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, buffers: Sequence[Buffer]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if len(buffers) == 1:
            transport.write(buffers[0])
        elif sum(map(len, buffers)) < _JOIN_BELOW_BYTES:
            transport.write(b"".join(buffers))
        else:
            transport.writelines(buffers)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _address(peer: object) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""

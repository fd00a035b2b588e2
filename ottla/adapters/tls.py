"""Listening with TLS on an event loop: each connection gets the context that is in force when it comes.

asyncio's own server keeps one context for ever, and says nothing of a handshake that fails. Here a stranger costs one
line in the log for each reason and minute, holds one of a few places for the time of a handshake, and never reaches the
protocol.
"""

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

ContextSource = Callable[[], ssl.SSLContext]

HANDSHAKE_S: Final = 10.0
CLOSING_S: Final = 5.0  # for the other end to say that it has read everything
MAX_HANDSHAKES: Final = 512
ACCEPTED_AT_ONCE: Final = 64  # connections, before others get their turn
PAUSE_S: Final = 1.0  # when there are no descriptors left
TOLD_AGAIN_S: Final = 60.0
MAX_TOLD: Final = 64  # hosts and reasons

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_log = structlog.get_logger(__name__)


class TlsListener:
    """One bound socket. `protocol` makes the protocol object of each connection whose handshake succeeded."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        context: ContextSource,
        *,
        door: str,
        backlog: int,
    ) -> None:
        self._loop, self._socket, self._protocol, self._context = loop, listening, protocol, context
        self._door = door  # what is told in the log
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False
        listening.setblocking(False)
        listening.listen(backlog)
        self._listen()

    def close(self) -> None:
        """Take no further connection, and end the handshakes under way; connections that are open stay."""
        if self._closed:
            return
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for accepted in self._handshakes.values():
            with suppress(OSError):  # a task that is cancelled before it began would leave the socket open
                accepted.shutdown(socket.SHUT_RDWR)

    async def wait_closed(self) -> None:
        """After `close`: until no handshake is under way."""
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _listen(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.error("no connection can be accepted for now", door=self._door, error=str(error))
                self._loop.remove_reader(self._socket.fileno())
                self._pause = self._loop.call_later(PAUSE_S, self._listen)
                return
            host = str(address[0])
            if len(self._handshakes) >= MAX_HANDSHAKES:
                accepted.close()
                self._tell(host, f"{MAX_HANDSHAKES} handshakes are under way already")
                continue
            task = self._loop.create_task(self._greet(accepted, host))
            self._handshakes[task] = accepted
            task.add_done_callback(self._handshakes.pop)

    async def _greet(self, accepted: socket.socket, host: str) -> None:
        with suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                accepted,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=CLOSING_S,
            )
        except ssl.SSLError as error:
            self._tell(host, explain(error))
        except (OSError, TimeoutError) as error:
            _log.debug("a TLS handshake was not finished", door=self._door, peer=host, error=str(error))

    def _tell(self, host: str, reason: str) -> None:
        now, key = time.monotonic(), (host, reason)
        if len(self._told) >= MAX_TOLD:
            self._told = {told: at for told, at in self._told.items() if now - at < TOLD_AGAIN_S}
        if len(self._told) < MAX_TOLD and now - self._told.get(key, -TOLD_AGAIN_S) >= TOLD_AGAIN_S:
            self._told[key] = now
            _log.warning("a TLS handshake failed", door=self._door, peer=host, reason=reason)


def explain(error: ssl.SSLError) -> str:
    """What OpenSSL's reason means to somebody who runs a node."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the other end's certificate is not accepted: {error.verify_message}"
    meaning = {
        "WRONG_VERSION_NUMBER": "these bytes are not TLS: the other end speaks without it",
        "HTTP_REQUEST": "these bytes are not TLS: the other end speaks HTTP without it",
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client shows no certificate, and ssl.client.auth requires one",
        "TLSV1_ALERT_UNKNOWN_CA": "the other end does not know the authority of this node's certificate",
        "UNSUPPORTED_PROTOCOL": "the other end speaks only versions of TLS before 1.2",
    }.get(reason)
    return meaning or reason.replace("_", " ").lower() or str(error)

"""`/metrics` (Prometheus) and `/health` on a port of their own.

Nothing of it is loaded until somebody connects: the sockets listen, and the first connection imports the server and
Prometheus's client and starts a thread. The figures are read on the node's loop, at the moment they are asked for, so
the node's work pays nothing for them.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

import structlog

if TYPE_CHECKING:
    from ssl import SSLContext
    from wsgiref.types import StartResponse, WSGIEnvironment

    from prometheus_client.metrics_core import Metric

BACKLOG = 16
READ_TIMEOUT_S = 5.0

_log = structlog.get_logger(__name__)


class Observed(Protocol):
    """What is served; both are called on the node's loop."""

    def health(self) -> dict[str, object]:
        """The body of `/health`; `"status": "ok"` is answered with 200, everything else with 503."""

    def metrics(self) -> "Sequence[Metric]":
        """The figures of this moment."""


class HttpDoor:
    """Serves one node's figures on already bound sockets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        observed: Observed,
        context: "Callable[[], SSLContext] | None" = None,
    ) -> None:
        """`context` gives that of the next connection, where it is to be TLS."""
        self._loop, self._sockets, self._observed, self._context = loop, sockets, observed, context
        self._servers: list[Any] = []

    def start(self) -> None:
        """Listen; the server itself comes with the first connection."""
        for listening in self._sockets:
            listening.listen(BACKLOG)
            self._loop.add_reader(listening.fileno(), self._first_connection, listening)

    def stop(self) -> None:
        """Stop listening; a request in progress ends with its thread."""
        for listening in self._sockets:
            self._loop.remove_reader(listening.fileno())
        for server in self._servers:
            # shutdown() waits for the server's thread, which may wait for the loop: not from here.
            Thread(target=_close, args=(server,), name="ottla-http-close", daemon=True).start()
        if not self._servers:
            for listening in self._sockets:
                listening.close()

    def _first_connection(self, listening: socket.socket) -> None:
        self._loop.remove_reader(listening.fileno())
        server = _make_server(listening, self._application, self._context)
        self._servers.append(server)
        Thread(target=server.serve_forever, name="ottla-http", daemon=True).start()

    def _application(self, environment: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        """Runs in a thread of its own for each request."""
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _answer(start, "405 Method Not Allowed", "only GET\n")
        match environment["PATH_INFO"]:
            case "/health":
                health = self._on_loop(self._observed.health)
                status = "200 OK" if health["status"] == "ok" else "503 Service Unavailable"
                return _answer(start, status, json.dumps(health) + "\n", "application/json")
            case "/metrics":
                from ottla.node.metrics import exposition

                body, content_type = exposition(
                    self._on_loop(self._observed.metrics), environment.get("HTTP_ACCEPT", "")
                )
                return _answer(start, "200 OK", body, content_type)
        return _answer(start, "404 Not Found", "here are /metrics and /health\n")

    def _on_loop(self, read: "Callable[[], Any]") -> Any:
        answer: Future[Any] = Future()

        def call() -> None:
            try:
                answer.set_result(read())
            except Exception as error:
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(call)
        return answer.result(READ_TIMEOUT_S)


def _answer(
    start: "StartResponse", status: str, body: str | bytes, content_type: str = "text/plain; charset=utf-8"
) -> Iterable[bytes]:
    content = body.encode() if isinstance(body, str) else body
    start(status, [("Content-Type", content_type), ("Content-Length", str(len(content)))])
    return [content]


def _make_server(listening: socket.socket, application: Any, context: "Callable[[], SSLContext] | None" = None) -> Any:
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    class Handler(WSGIRequestHandler):
        timeout = READ_TIMEOUT_S

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name for it
            """Say nothing: probes come every few seconds."""

        def address_string(self) -> str:
            return str(self.client_address[0])

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

        def finish_request(self, request: Any, client_address: Any) -> None:
            """In the request's own thread, which is where a handshake may take its time."""
            if context is None:
                super().finish_request(request, client_address)
                return
            request.settimeout(READ_TIMEOUT_S)
            with context().wrap_socket(request, server_side=True) as encrypted:
                super().finish_request(encrypted, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """One line in the node's log; the library would print a traceback for each client that hangs up."""
            del request
            error = sys.exc_info()[1]
            if isinstance(error, OSError):
                _log.debug("http connection lost", peer=client_address[0], error=str(error))
            else:
                _log.error("http request failed", peer=client_address[0], exc_info=error)

    server = Server(listening.getsockname()[:2], Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.server_name, server.server_port = "localhost", listening.getsockname()[1]
    server.setup_environ()
    server.set_app(application)
    return server


def _close(server: Any) -> None:
    server.shutdown()
    server.server_close()

"""The channel over which a running cluster is told what to do: a Unix socket in its directory, one JSON line each way.

The directory is claimed with a lock that goes with its holder. So a socket that a killed supervisor left behind is
never taken for a running cluster, and two clusters never share a directory.
"""

import fcntl
import json
import os
import selectors
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ottla.core.errors import OttlaError

DEFAULT_DIRECTORY: Final = Path("ottla-data")
SOCKET_FILE: Final = "control.sock"
MAX_LINE_BYTES: Final = 64 << 10
LONGEST_PATH: Final = 100  # the kernels' limits are 104 and 108 bytes

Reply = Callable[[Mapping[str, object]], None]
Take = Callable[[Mapping[str, Any], Reply], None]


class AlreadyRunning(OttlaError):
    """Another cluster runs in the directory."""


def named(directory: Path) -> str:
    """The flag that a command about this cluster needs."""
    return "" if directory == DEFAULT_DIRECTORY else f" --dir {directory}"


@contextmanager
def claim(directory: Path) -> Iterator[None]:
    """Hold the directory, which is made if need be. Raises AlreadyRunning."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"a cluster runs in {directory} already: `ottla status{named(directory)}` shows it, "
                f"`ottla down{named(directory)}` stops it; another one needs another --dir"
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def reachable(directory: Path) -> Iterator[str]:
    """A path of the socket that is short enough for the kernel. Raises OSError when there is none."""
    path = directory / SOCKET_FILE
    candidates = [str(path), os.path.relpath(path)]
    for text in candidates:
        if len(os.fsencode(text)) <= LONGEST_PATH:
            yield text
            return
    if sys.platform != "linux":
        raise OSError(f"{path} is too long for a socket: choose a shorter --dir")
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_FILE}"
    finally:
        os.close(descriptor)


class ControlSocket:
    """Listens as long as it is entered. `take` is called with each request, and with what answers it."""

    def __init__(self, directory: Path, selector: selectors.BaseSelector, take: Take) -> None:
        self._directory, self._selector, self._take = directory, selector, take
        self._listening: socket.socket | None = None
        self._connections: set[_Connection] = set()

    def __enter__(self) -> "ControlSocket":
        listening = socket.socket(socket.AF_UNIX)
        try:
            with reachable(self._directory) as path:
                Path(path).unlink(missing_ok=True)  # the directory is claimed, so nobody listens there
                before = os.umask(0o177)
                try:
                    listening.bind(path)
                finally:
                    os.umask(before)
            listening.listen(16)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            sys.stderr.write(f"ottla: `ottla status`, `node` and `down` cannot reach this cluster: {error}\n")
            return self
        self._listening = listening
        self._selector.register(listening, selectors.EVENT_READ, self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Connections are closed last: whoever asked for the stop waits for that."""
        if self._listening is not None:
            with suppress(OSError):
                (self._directory / SOCKET_FILE).unlink(missing_ok=True)
            self._listening.close()
        for connection in self._connections:
            connection.socket.close()

    def _accept(self) -> None:
        assert self._listening is not None
        with suppress(BlockingIOError):
            connection = _Connection(self._listening.accept()[0])
            self._connections.add(connection)
            self._selector.register(connection.socket, selectors.EVENT_READ, lambda: self._readable(connection))

    def _readable(self, connection: "_Connection") -> None:
        line = connection.read()
        if line is None:
            self._close(connection)
        elif line:
            try:
                request = json.loads(line)
                if not isinstance(request, dict):
                    raise TypeError("a request is an object")  # noqa: TRY301 - told like what json.loads tells
            except (ValueError, TypeError) as error:
                connection.reply({"error": f"not understood: {error}"})
            else:
                self._take(request, connection.reply)

    def _close(self, connection: "_Connection") -> None:
        self._selector.unregister(connection.socket)
        self._connections.discard(connection)
        connection.close()


class _Connection:
    """One request after the other, each answered before the next is read."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        accepted.setblocking(False)
        self._received = b""
        self._closed = False

    def read(self) -> bytes | None:
        """A whole line; empty when there is none yet; None when the connection is over."""
        try:
            chunk = self.socket.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            return None
        self._received += chunk
        if not chunk or len(self._received) > MAX_LINE_BYTES:
            return None
        line, newline, rest = self._received.partition(b"\n")
        if not newline:
            return b""
        self._received = rest
        return line

    def reply(self, answer: Mapping[str, object]) -> None:
        """A few kilobytes at most, which the kernel takes at once; who does not read gets nothing."""
        if not self._closed:
            with suppress(OSError):
                self.socket.sendall(json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        self._closed = True
        self.socket.close()

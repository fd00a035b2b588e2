"""`ottla up --detach`: the supervisor in the background, and the command that waits until its cluster is ready.

The supervisor is forked, in a session of its own, so that no terminal takes it along; it tells over a pipe when the
cluster is ready, or why it is not.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NoReturn

from ottla.core.errors import ConfigError, OttlaError
from ottla.node.local.child import NodeFailed, RunningNode, State
from ottla.node.local.control import AlreadyRunning
from ottla.node.local.spec import ClusterSpec
from ottla.node.local.supervisor import Supervisor

_ERRORS: Mapping[str, Callable[[str], OttlaError]] = {
    "ConfigError": ConfigError,
    "AlreadyRunning": AlreadyRunning,
}


def start_detached(spec: ClusterSpec) -> list[RunningNode]:
    """Return when the cluster is ready. Raises what kept it from that: ConfigError, NodeFailed, AlreadyRunning."""
    spec.validate()
    spec.directory.mkdir(parents=True, exist_ok=True)
    log_fd = os.open(spec.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    reads, writes = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reads)
        _supervise(spec, log_fd, writes)
    os.close(writes)
    os.close(log_fd)
    try:
        told = _read_all(reads)
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(reads)
    if not told:
        raise NodeFailed(f"the supervisor ended while the cluster started: see {spec.log}")
    event = json.loads(told)
    if "error" in event:
        raise _ERRORS.get(event["kind"], NodeFailed)(event["error"])
    return [RunningNode(**node) for node in event["nodes"]]


def _supervise(spec: ClusterSpec, log_fd: int, writes: int) -> NoReturn:
    """The forked process: never returns into the command."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, goal in ((null, 0), (log_fd, 1), (log_fd, 2)):
            os.dup2(descriptor, goal)
        os.close(null)
        view = _Teller(writes)
        try:
            Supervisor(spec, view, log=spec.log).run()
            code = 0
        except (OttlaError, OSError) as error:
            view.failed(error)
            sys.stderr.write(f"ottla: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Teller:
    """The view of a cluster in the background: one word to the command that started it, lines in the log."""

    refresh_s: float | None = None

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def ready(self, nodes: Sequence[RunningNode]) -> None:
        self._tell({"nodes": [asdict(node) for node in nodes]})

    def failed(self, error: Exception) -> None:
        self._tell({"error": str(error), "kind": type(error).__name__})

    def changed(self, number: int, state: State, detail: str) -> None:
        sys.stderr.write(f"ottla: node {number} is {state}{f' ({detail})' if detail else ''}\n")
        sys.stderr.flush()

    def refresh(self, nodes: Sequence[Mapping[str, object]]) -> None:
        """Nobody looks."""

    def close(self) -> None:
        """The pipe is closed as soon as the word is said."""

    def _tell(self, word: Mapping[str, Any]) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.write(descriptor, json.dumps(word).encode())
            except BrokenPipeError:  # the command did not wait
                return
            finally:
                os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    told = b""
    while chunk := os.read(descriptor, 65536):
        told += chunk
    return told

"""A cluster of real node processes that tests kill, pause and add to, one by one, without a supervisor between."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

from ottla.core.types import NodeId
from ottla.node.founding import Place, found, free_ports

T = TypeVar("T")

WAIT_S = 40.0
PORTS = ("kafka", "grpc", "http", "internal", "replication")


class NodeProcess:
    """One node: its ports stay the same over restarts."""

    def __init__(self, node_id: int, directory: Path, settings: Mapping[str, object]) -> None:
        self.node_id, self.directory, self.settings = node_id, directory / f"node-{node_id}", dict(settings)
        self.ports = dict(zip(PORTS, free_ports("127.0.0.1", len(PORTS)), strict=True))
        self.peers = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._log_path = directory / f"node-{node_id}.log"
        self._log: IO[bytes] | None = None

    def address(self, port: str) -> str:
        return f"127.0.0.1:{self.ports[port]}"

    def start(self) -> None:
        """Begin to start; `wait_ready` waits for it."""
        fields: dict[str, object] = {
            "node_id": self.node_id,
            "listeners": f"PLAINTEXT://{self.address('kafka')}",
            "grpc_listener": self.address("grpc"),
            "http_listener": self.address("http"),
            "internal_listener": self.address("internal"),
            "replication_listener": self.address("replication"),
            "peers": self.peers,
            "data_dir": str(self.directory),
            **self.settings,
        }
        command = [sys.executable, "-m", "ottla.cli", "node", "run"]
        for name, value in fields.items():
            command += ["--set", f"{name}={value}"]
        self._log = self._log_path.open("ab")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment
        )

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"node {self.node_id} ended:\n{self.log()}"
        with (
            suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"http://{self.address('http')}/health", timeout=2) as answer,
        ):
            return b'"ok"' in answer.read()
        return False

    def kill(self) -> None:
        """As `kill -9`."""
        self.signal(signal.SIGKILL)
        self.end()

    def stop(self) -> None:
        """In order; the node hands over first."""
        self.signal(signal.SIGTERM)
        self.end()

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> None:
        if self.process is not None:
            try:
                self.process.wait(WAIT_S)
            finally:
                self.process.kill()
                self.process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def log(self) -> str:
        """The end of what it printed: nothing as long as it never started."""
        return self._log_path.read_text(errors="replace")[-20_000:] if self._log_path.exists() else ""


class Nodes:
    """All nodes; `nodes[n]` is the one with that id."""

    def __init__(self, directory: Path, count: int, settings: Callable[[int], Mapping[str, object]]) -> None:
        self.directory, self._settings = directory, settings
        self.nodes = {n: NodeProcess(n, directory, settings(n)) for n in range(1, count + 1)}
        places = [
            Place(node_id=NodeId(n), path=node.directory, internal=node.address("internal"))
            for n, node in self.nodes.items()
        ]
        found(places, fresh=False)
        for node in self.nodes.values():
            node.peers = ",".join(f"{place.node_id}@{place.internal}" for place in places)
            node.start()
        self.wait_ready()

    def __getitem__(self, node_id: int) -> NodeProcess:
        return self.nodes[node_id]

    def add(self, node_id: int) -> NodeProcess:
        """One more, which is neither formatted nor started."""
        node = self.nodes[node_id] = NodeProcess(node_id, self.directory, self._settings(node_id))
        node.peers = self.nodes[min(self.nodes)].peers
        return node

    @property
    def bootstrap(self) -> str:
        return ",".join(node.address("kafka") for node in self.running())

    @property
    def grpc(self) -> str:
        return ",".join(node.address("grpc") for node in self.running())

    def running(self) -> list[NodeProcess]:
        return [node for node in self.nodes.values() if node.process is not None]

    def wait_ready(self) -> None:
        until(lambda: all(node.is_ready() for node in self.running()), "all nodes are ready", self)

    def start_all(self) -> None:
        """Those that do not run."""
        for node in self.nodes.values():
            if node.process is None:
                node.start()
        self.wait_ready()

    def close(self) -> None:
        for node in self.nodes.values():
            node.signal(signal.SIGCONT)
            node.signal(signal.SIGKILL)
        for node in self.nodes.values():
            node.end()

    def logs(self) -> str:
        return "\n".join(f"--- node {n}\n{node.log()[-4000:]}" for n, node in self.nodes.items())


@contextmanager
def several_nodes(
    directory: Path, count: int = 3, settings: Callable[[int], Mapping[str, object]] = lambda _: {}
) -> Iterator[Nodes]:
    """A founded cluster whose nodes are ready."""
    nodes: Nodes | None = None
    try:
        nodes = Nodes(directory, count, settings)
        yield nodes
    finally:
        if nodes is not None:
            nodes.close()


def until(condition: Callable[[], T], what: str, nodes: Nodes | None = None, *, wait_s: float = WAIT_S) -> T:
    """The first true value of `condition`."""
    deadline = time.monotonic() + wait_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {wait_s} s: {what}\n{nodes.logs() if nodes else ''}"
        time.sleep(0.05)
    return value


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

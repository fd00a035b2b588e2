"""Several nodes on one machine, each a process of its own, started and watched by this one (`ottla up`).

Node n listens for Kafka on BASE+n-1, for gRPC on BASE+1000+n-1, for HTTP on BASE+2000+n-1, and for the other nodes on
BASE+3000+n-1 and BASE+4000+n-1; with base 0 on free ports. When the only node ends by itself, or one while it starts,
so does the cluster; of several, the others go on without the one that ended.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ottla.core.errors import ConfigError, OttlaError
from ottla.core.types import NodeId
from ottla.node.founding import MAX_NODES, Place, found, free_ports
from ottla.node.listeners import parse_endpoint

DEFAULT_BASE_PORT = 9092
GRPC_STEP = 1000
HTTP_STEP = 2000
INTERNAL_STEP = 3000
REPLICATION_STEP = 4000


class NodeFailed(OttlaError):
    """A node could not start, or ended by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """What `ottla up` was asked for."""

    nodes: int = 1
    directory: Path = Path("ottla-data")
    host: str = "localhost"
    base_port: int = DEFAULT_BASE_PORT
    advertise: str = ""
    insecure: bool = False
    fresh: bool = False
    file: Path | None = None
    node: Mapping[str, object] = field(default_factory=dict)
    kafka: Mapping[str, object] = field(default_factory=dict)

    def validate(self) -> None:
        """Raises ConfigError that says what to change."""
        if not 1 <= self.nodes <= MAX_NODES:
            raise ConfigError(f"--nodes {self.nodes}: a cluster on one machine has 1 to {MAX_NODES} nodes, usually 3")
        highest = 65535 - REPLICATION_STEP - self.nodes
        if not 0 <= self.base_port <= highest:
            raise ConfigError(f"--port {self.base_port}: choose one between 1 and {highest}, or 0")

    def places(self) -> list[Place]:
        """Where the nodes are, for each other."""
        host = "127.0.0.1" if self.host == "localhost" else self.host
        if self.base_port:
            ports = [self.base_port + INTERNAL_STEP + n for n in range(self.nodes)]
        else:
            ports = free_ports(host, self.nodes)
        shown = f"[{host}]" if ":" in host else host
        return [
            Place(node_id=NodeId(n), path=self.directory / f"node-{n}", internal=f"{shown}:{port}")
            for n, port in enumerate(ports, 1)
        ]

    def node_settings(self, number: int, places: Sequence[Place]) -> dict[str, object]:
        """The flags of node `number`, counted from 1."""
        host = f"[{self.host}]" if ":" in self.host else self.host

        def port(step: int) -> int:
            return self.base_port + step + number - 1 if self.base_port else 0

        settings: dict[str, object] = {
            "node_id": number,
            "data_dir": str(self.directory / f"node-{number}"),
            "listeners": f"PLAINTEXT://{host}:{port(0)}",
            "grpc_listener": f"{host}:{port(GRPC_STEP)}",
            "http_listener": f"{host}:{port(HTTP_STEP)}",
            "internal_listener": places[number - 1].internal,
            "replication_listener": f"{host}:{port(REPLICATION_STEP)}",
            "peers": ",".join(f"{place.node_id}@{place.internal}" for place in places),
            **self.node,
        }
        if self.insecure:
            settings["insecure"] = True
        if self.advertise:
            advertised = f"[{self.advertise}]" if self.advertise.count(":") > 1 else self.advertise
            # Port 0: the port that was bound.
            settings["advertised_listeners"] = f"PLAINTEXT://{advertised}:{port(0)}"
            settings["advertised_grpc"] = f"{advertised}:{port(GRPC_STEP)}"
        return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """Where a node that is ready can be reached."""

    id: int
    pid: int
    kafka: str
    grpc: str
    http: str
    dir: str


class LocalCluster:
    """Starts, watches and stops the processes; one thread, which waits for their pipes and for signals.

    `run` goes through: starting (until each node said that it is ready), running (until a signal, or until a node
    ends), stopping (until all have ended). A pipe that closes is a node that ended.
    """

    def __init__(self, spec: ClusterSpec, on_ready: Callable[[Sequence[RunningNode]], None]) -> None:
        self._spec, self._on_ready = spec, on_ready
        self._children: list[_Child] = []
        self._stopping = False
        self._failure: OttlaError | None = None

    def run(self) -> None:
        """Run the cluster until it is told to stop; raises NodeFailed or ConfigError when it did not."""
        self._spec.validate()
        self._places = self._spec.places()
        found(self._places, fresh=self._spec.fresh)
        waker, wakes = socket.socketpair()
        waker.setblocking(False)
        wakes.setblocking(False)
        previous_fd = signal.set_wakeup_fd(wakes.fileno())
        previous = {number: signal.signal(number, _heard) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(waker, selectors.EVENT_READ)
                self._watch(selector, waker)
        finally:
            for child in self._children:
                child.end()
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_fd)
            waker.close()
            wakes.close()
        if self._failure is not None:
            raise self._failure

    def _watch(self, selector: selectors.BaseSelector, waker: socket.socket) -> None:
        for number in range(1, self._spec.nodes + 1):
            child = _Child(number, self._spec, self._places)
            self._children.append(child)
            selector.register(child.status_fd, selectors.EVENT_READ, child)
        while any(child.alive for child in self._children):
            for key, _ in selector.select():
                child = key.data
                if child is None:
                    for _ in waker.recv(64):
                        self._stop_asked()
                elif not child.read():
                    selector.unregister(child.status_fd)
                    self._ended(child)
                elif not self._stopping and all(other.ready for other in self._children):
                    self._on_ready([other.ready for other in self._children if other.ready])

    def _stop_asked(self) -> None:
        number = signal.SIGKILL if self._stopping else signal.SIGTERM
        self._stopping = True
        for child in self._children:
            child.signal(number)

    def _ended(self, child: "_Child") -> None:
        code = child.reap()
        if self._stopping:
            return
        if child.ready and any(other.alive for other in self._children):
            sys.stderr.write(f"ottla: node {child.number} ended ({_describe_exit(code)}); the others go on\n")
            sys.stderr.flush()
        else:
            when = "ended by itself" if child.ready else "ended while it started"
            self._failure = child.error or NodeFailed(f"node {child.number} {when} ({_describe_exit(code)})")
            self._stop_asked()


def _heard(number: int, frame: object) -> None:
    """The wake-up descriptor carries the signal; a handler has to stand for it to be written."""


class _Child:
    """One node's process, the pipe on which it reports, and the one whose closing tells it that we are gone."""

    def __init__(self, number: int, spec: ClusterSpec, places: Sequence[Place]) -> None:
        self.number = number
        self.ready: RunningNode | None = None
        self.error: OttlaError | None = None
        self.alive = True
        lifeline_fd, self._lifeline = os.pipe()
        self.status_fd, status_fd = os.pipe()
        handed = {
            "parent_pid": os.getpid(),
            "lifeline_fd": lifeline_fd,
            "status_fd": status_fd,
            "node": spec.node_settings(number, places),
            "kafka": dict(spec.kafka),
            "file": str(spec.file) if spec.file else None,
            "fresh": False,  # it is empty by now
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ottla.node", json.dumps(handed)],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,  # standard output is this process's own: it may carry --json
                pass_fds=(lifeline_fd, status_fd),
                process_group=0,  # Ctrl-C in a terminal comes to us alone; we pass it on
            )
        finally:
            os.close(lifeline_fd)
            os.close(status_fd)
        self._received = b""

    def read(self) -> bool:
        """Take what the node reports; False when it has ended."""
        chunk = os.read(self.status_fd, 65536)
        *lines, self._received = (self._received + chunk).split(b"\n")
        for line in lines:
            event = json.loads(line)
            if event.pop("event") == "ready":
                self.ready = RunningNode(id=self.number, pid=self._process.pid, **event)
            else:
                self.error = ConfigError(event["error"]) if event["is_config"] else NodeFailed(event["error"])
        return bool(chunk)

    def signal(self, number: int) -> None:
        """Send a signal, if the process is there."""
        self._process.send_signal(number)

    def reap(self) -> int:
        """Wait for the process, which has ended; its exit code."""
        self.alive = False
        return self._process.wait()

    def end(self) -> None:
        """Leave nothing behind."""
        if self.alive:
            self._process.kill()
            self.reap()
        os.close(self.status_fd)
        os.close(self._lifeline)


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def check_advertise(text: str) -> str:
    """The host in `--advertise H`; raises ConfigError for a host with a port."""
    host = text.strip()
    if host.count(":") == 1:
        raise ConfigError(f"--advertise {text}: name only the host, {parse_endpoint(host, '--advertise').host}")
    return host.removeprefix("[").removesuffix("]")

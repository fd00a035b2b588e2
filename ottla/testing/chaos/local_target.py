"""`ottla up` as the cluster under test: equipped, started, hurt, and gone at the end."""

import shlex
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ottla.client.sync import Admin
from ottla.testing.chaos.network import Network
from ottla.testing.cluster import Cluster, ClusterError

BASE_PORT: Final = 9092


class LocalTarget:
    """An Ottla cluster of `ottla up`, in a directory of the run.

    Made first, then equipped by nemeses, then started. `settings`: as `ottla up --set` takes them.
    """

    kind: Final = "ottla"

    def __init__(self, directory: Path, *, nodes: int = 3, settings: Mapping[str, object] | None = None) -> None:
        self.directory = directory.absolute()
        self.network: Network | None = None
        self.settings = dict(settings or {})
        self._count = nodes
        self._environment: dict[str, str] = {}
        self._preloaded: list[Path] = []
        self._cluster: Cluster | None = None
        self._down: set[int] = set()
        self._paused: set[int] = set()
        self._lock = threading.Lock()

    # -- equipment, before the start

    def use_network(self) -> Network:
        """Give each node a network namespace of its own. Raises Unavailable."""
        if self.network is None:
            self._check_not_started()
            self.network = Network(self.directory / "network")
        return self.network

    def preload(self, library: Path, environment: Mapping[str, str]) -> None:
        """Load that library into each node's process; in a variable's value `{node}` is the node's number."""
        self._check_not_started()
        self._preloaded.append(library)
        self._environment.update(environment)

    def _check_not_started(self) -> None:
        if self._cluster is not None:
            raise RuntimeError("nemeses are made before their target is started")

    # -- the whole cluster

    def start(self) -> "LocalTarget":
        """Return when a write with acks=all would succeed. Raises ClusterError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.network is not None:
            self.network.create()
        self._cluster = Cluster(
            self.directory / "cluster", nodes=self._count, settings=self.settings, arguments=self._arguments()
        )
        self._cluster.start()
        return self

    def shut_down(self) -> None:
        """End all nodes in order, so that their files are whole."""
        self.cluster.stop()

    def close(self) -> None:
        """End every process and take the network away; the data stay. May be called in any state, and again."""
        try:
            if self._cluster is not None:
                self._cluster.kill()
        finally:
            if self.network is not None:
                self.network.close()

    @property
    def cluster(self) -> Cluster:
        """What runs it."""
        if self._cluster is None:
            raise RuntimeError("the target is not started")
        return self._cluster

    def _arguments(self) -> list[str]:
        arguments, launch = [], []
        if self.network is not None:
            launch += self.network.entering("{node}")
            arguments += ["--host", self.network.address("{node}"), "--port", str(BASE_PORT), "--insecure"]
        if self._preloaded:
            values = {**self._environment, "LD_PRELOAD": ":".join(map(str, self._preloaded))}
            launch += ["env", *(f"{name}={value}" for name, value in values.items())]
        return [*arguments, "--launch", shlex.join(launch)] if launch else arguments

    # -- what is known

    @property
    def nodes(self) -> tuple[int, ...]:
        """All of them, also those that do not run."""
        if self._cluster is None:
            return tuple(range(1, self._count + 1))
        return tuple(self._cluster.numbers)

    @property
    def running(self) -> tuple[int, ...]:
        """Those that were not killed, stopped or paused."""
        return tuple(node for node in self.nodes if node not in self._down | self._paused)

    @property
    def bootstrap(self) -> str:
        """Where Kafka clients begin."""
        return self.cluster.bootstrap

    @property
    def grpc(self) -> str:
        """Where gRPC clients begin."""
        return self.cluster.grpc

    def data(self, node: int) -> Path:
        """That node's data directory."""
        return self.directory / "cluster" / f"node-{node}"

    def pid(self, node: int) -> int:
        """Of the process of that node, as it was last started."""
        pid: int = self._described(node)["pid"]
        return pid

    def controller(self) -> int | None:
        """The node that leads the metadata quorum; None while none does."""
        return self.cluster.controller()

    def leaders(self) -> Mapping[tuple[str, int], int]:
        """The leader of each partition that has one, internal topics included."""
        with Admin(bootstrap_servers=self.grpc, api_timeout_ms=10_000) as admin:
            return {
                (topic.name, partition.partition): partition.leader_id
                for topic in admin.describe_topics()
                for partition in topic.partitions
                if partition.leader_id >= 0
            }

    def _described(self, node: int) -> dict[str, Any]:
        found = next((one for one in self.cluster.status()["nodes"] if one["id"] == node), None)
        if found is None:
            raise ClusterError(f"there is no node {node}")
        described: dict[str, Any] = found
        return described

    # -- what is done to nodes

    def kill(self, *nodes: int) -> None:
        """`kill -9`, all at once."""
        self._mark(self._down, nodes)
        self.cluster.kill_node(*nodes)

    def stop(self, *nodes: int) -> None:
        """Cleanly, one after the other."""
        self._mark(self._down, nodes)
        for node in nodes:
            self.cluster.stop_node(node)

    def start_nodes(self, *nodes: int) -> None:
        """Return when they take part. Name all after the loss of a majority."""
        self.cluster.start_node(*nodes)
        self._clear(self._down, nodes)

    def pause(self, *nodes: int) -> None:
        """SIGSTOP."""
        self._mark(self._paused, nodes)
        for node in nodes:
            self.cluster.pause_node(node)

    def resume(self, *nodes: int) -> None:
        """SIGCONT; nothing happens to those that have ended meanwhile."""
        for node in nodes:
            with suppress(ClusterError):
                self.cluster.resume_node(node)
        self._clear(self._paused, nodes)

    def _mark(self, which: set[int], nodes: Sequence[int]) -> None:
        with self._lock:
            which.update(nodes)

    def _clear(self, which: set[int], nodes: Sequence[int]) -> None:
        with self._lock:
            which.difference_update(nodes)

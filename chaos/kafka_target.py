"""Apache Kafka as the cluster under test: three JVMs in KRaft mode, hurt by the same nemeses, judged the same way.

The jars are those of the benchmark (`bench.peers`). Nodes are broker and controller at once, as Ottla's are. Settings
are Kafka's defaults but for replication; it acknowledges from the page cache.
"""

import signal
import subprocess
import threading
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from confluent_kafka.admin import AdminClient

from bench.peers import fetch_jars, java, wait_for_port
from ottla.testing.chaos.network import Network

CLIENT_PORT: Final = 9092
CONTROLLER_PORT: Final = 9093
START_S: Final = 180.0


class KafkaTarget:
    """See `ottla.testing.chaos.run.Cluster`."""

    kind: Final = "kafka"

    def __init__(self, directory: Path, *, nodes: int = 3, heap: str = "768m") -> None:
        self.directory = directory.absolute()
        self.network: Network | None = None
        self._count, self._heap = nodes, heap
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._down: set[int] = set()
        self._paused: set[int] = set()
        self._lock = threading.Lock()
        self._admin: AdminClient | None = None

    def use_network(self) -> Network:
        """Give each node a network namespace of its own."""
        if self.network is None:
            self.network = Network(self.directory / "network")
        return self.network

    # -- the whole cluster

    def start(self) -> "KafkaTarget":
        """Return when all ports answer."""
        fetch_jars()
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.network is not None:
            self.network.create()
        # An id that begins with a dash would be taken for an option.
        cluster_id = urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()
        for node in self.nodes:
            home = self._home(node)
            home.mkdir(parents=True, exist_ok=True)
            (home / "server.properties").write_text(self._properties(node))
            words = ("format", "-t", cluster_id, "-c", str(home / "server.properties"))
            command = java(home, "kafka.tools.StorageTool", *words, heap="128m")
            subprocess.run(command, check=True, capture_output=True)
        self._begin(*self.nodes)
        return self

    def shut_down(self) -> None:
        """End all nodes in order, so that their files are whole."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
        self.close()

    def close(self) -> None:
        """End whatever is there, in any state."""
        try:
            for process in self._processes.values():
                process.kill()
                process.wait()
        finally:
            if self.network is not None:
                self.network.close()

    # -- what is known

    @property
    def nodes(self) -> tuple[int, ...]:
        """All of them, also those that do not run."""
        return tuple(range(1, self._count + 1))

    @property
    def running(self) -> tuple[int, ...]:
        """Those that were not killed, stopped or paused."""
        return tuple(node for node in self.nodes if node not in self._down | self._paused)

    @property
    def bootstrap(self) -> str:
        """Where Kafka clients begin."""
        return ",".join(f"{self._host(node)}:{self._port(CLIENT_PORT, node)}" for node in self.nodes)

    @property
    def grpc(self) -> str:
        """There is no such door."""
        return ""

    def data(self, node: int) -> Path:
        """That node's data directory."""
        return self._home(node) / "data"

    def pid(self, node: int) -> int:
        """Of the process of that node, as it was last started."""
        return self._processes[node].pid

    def controller(self) -> int | None:
        """The node that leads the metadata quorum, as it says itself: brokers tell clients any of them."""
        for node in self.running:
            with suppress(OSError):
                state = (self.data(node) / "__cluster_metadata-0" / "quorum-state").read_text()
                leader = int(state.partition('"leaderId":')[2].partition(",")[0])
                if leader in self.running:
                    return leader
        return None

    def leaders(self) -> Mapping[tuple[str, int], int]:
        """The leader of each partition that has one, internal topics included."""
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        topics = self._admin.list_topics(timeout=20).topics
        return {
            (name, index): partition.leader
            for name, topic in topics.items()
            for index, partition in topic.partitions.items()
            if partition.leader >= 0
        }

    # -- what is done to nodes

    def kill(self, *nodes: int) -> None:
        """`kill -9`, all at once."""
        self._mark(self._down, nodes)
        for node in nodes:
            self._processes[node].kill()
        for node in nodes:
            self._processes[node].wait()

    def stop(self, *nodes: int) -> None:
        """Cleanly."""
        self._mark(self._down, nodes)
        for node in nodes:
            self._processes[node].terminate()
            self._processes[node].wait(120)

    def start_nodes(self, *nodes: int) -> None:
        """Return when their ports answer: whether they take part, Kafka tells nobody who waits."""
        self._begin(*nodes)
        self._clear(self._down, nodes)

    def pause(self, *nodes: int) -> None:
        """SIGSTOP."""
        self._mark(self._paused, nodes)
        for node in nodes:
            self._processes[node].send_signal(signal.SIGSTOP)

    def resume(self, *nodes: int) -> None:
        """SIGCONT."""
        for node in nodes:
            self._processes[node].send_signal(signal.SIGCONT)
        self._clear(self._paused, nodes)

    # -- inside

    def _begin(self, *nodes: int) -> None:
        for node in nodes:
            home = self._home(node)
            entering = [] if self.network is None else self.network.entering(str(node))
            command = java(home, "kafka.Kafka", str(home / "server.properties"), heap=self._heap)
            with (home / "server.log").open("ab") as log:
                self._processes[node] = subprocess.Popen([*entering, *command], stdout=log, stderr=log)
        for node in nodes:
            wait_for_port(self._port(CLIENT_PORT, node), self._processes[node], START_S, host=self._host(node))

    def _home(self, node: int) -> Path:
        return self.directory / "cluster" / f"node-{node}"

    def _host(self, node: int) -> str:
        return "127.0.0.1" if self.network is None else self.network.address(node)

    def _port(self, base: int, node: int) -> int:
        """Apart on loopback, the same everywhere else."""
        return base + 10 * node if self.network is None else base

    def _properties(self, node: int) -> str:
        copies = min(self._count, 3)
        voters = ",".join(f"{n}@{self._host(n)}:{self._port(CONTROLLER_PORT, n)}" for n in self.nodes)
        own: dict[str, Any] = {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://{self._host(node)}:{self._port(CLIENT_PORT, node)},"
            f"CONTROLLER://{self._host(node)}:{self._port(CONTROLLER_PORT, node)}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.data(node),
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": min(copies, 2),
            "min.insync.replicas": min(copies, 2),
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
        }
        return "".join(f"{key}={value}\n" for key, value in own.items())

    def _mark(self, which: set[int], nodes: tuple[int, ...]) -> None:
        with self._lock:
            which.update(nodes)

    def _clear(self, which: set[int], nodes: tuple[int, ...]) -> None:
        with self._lock:
            which.difference_update(nodes)

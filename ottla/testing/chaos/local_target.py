"""`ottla up` as the cluster under test: equipped, started, hurt, and gone at the end."""

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ottla.client.errors import ClientError
from ottla.client.sync import Admin
from ottla.testing.chaos.network import MAX_NODES, Network, is_inside, raise_loopback
from ottla.testing.chaos.small_disks import SmallDisks
from ottla.testing.cluster import Cluster, ClusterError

BASE_PORT: Final = 9092
START_S: Final = 180.0  # a busy machine is no fault
START_TIMEOUT_S: Final = 240.0
_TAKES_PART: Final = ("running", "starting")


class LocalTarget:
    """An Ottla cluster of `ottla up`, in a directory of the run.

    Made first, then equipped by nemeses, then started. `settings`: as `ottla up --set` takes them. `launch`: words
    right before each node's command, of something that becomes the node. `number`: another one where a run has several
    clusters, each with a network of its own.
    """

    kind: Final = "ottla"

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 3,
        settings: Mapping[str, object] | None = None,
        launch: Sequence[str] = (),
        number: int = 0,
    ) -> None:
        self.directory = directory.absolute()
        self.network: Network | None = None
        self.small_disks: SmallDisks | None = None
        self.settings = dict(settings or {})
        self._count, self._number = nodes, number
        self._launch = tuple(launch)
        self._variables: dict[str, str] = {}
        self._preloaded: list[Path] = []
        self._code: dict[int, Path] = {}
        self._cluster: Cluster | None = None

    # -- equipment, before the start

    def use_network(self) -> Network:
        """Give each node a network namespace of its own. Raises Unavailable."""
        if self.network is None:
            self._check_not_started()
            self.network = Network(self.directory / "network", self._number)
        return self.network

    def use_small_disks(self) -> SmallDisks:
        """Give each node a file system of its own, in memory. Raises Unavailable."""
        if self.small_disks is None:
            self._check_not_started()
            self.small_disks = SmallDisks()
        return self.small_disks

    def preload(self, library: Path, variables: Mapping[str, str]) -> None:
        """Load that library into each node's process; in a variable's value `{node}` is the node's number."""
        self._check_not_started()
        self._preloaded.append(library)
        self._variables.update(variables)

    def run_code_of(self, node: int, root: Path | None) -> None:
        """From its next start on, that node runs the code of another checkout; None: of this one."""
        if root is None:
            self._code.pop(node, None)
        else:
            self._code[node] = root
        if self._cluster is not None:
            self._write_launcher(node)

    def _check_not_started(self) -> None:
        if self._cluster is not None:
            raise RuntimeError("nemeses are made before their target is started")

    # -- the whole cluster

    def start(self) -> "LocalTarget":
        """Return when a write with acks=all would succeed. Raises ClusterError."""
        self.prepare()
        arguments = ["--launch", shlex.join(["sh", str(self.launcher("{node}"))])]
        if self.network is not None:
            arguments += ["--host", self.network.address("{node}"), "--port", str(BASE_PORT), "--insecure"]
        directory = self.directory / "cluster"
        self._cluster = Cluster(
            directory, nodes=self._count, settings=self.settings, arguments=arguments, start_timeout_s=START_S
        )
        self._cluster.start()
        return self

    def prepare(self) -> None:
        """Make everything that the nodes will have around them; `start` does it. Raises Unavailable."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if is_inside():
            raise_loopback()
        if self.network is not None:
            self.network.create()
        for node in range(1, MAX_NODES + 1):
            self._write_launcher(node)
            if self.small_disks is not None:
                self.small_disks.mount(self.data(node))

    def shut_down(self) -> None:
        """End all nodes in order, so that their files are whole."""
        self.cluster.stop()

    def close(self) -> None:
        """End every process and take away what was made; the data stay. May be called in any state, and again."""
        try:
            if self._cluster is not None:
                self._cluster.kill()
        finally:
            if self.network is not None:
                self.network.close()
            if self.small_disks is not None:
                self.small_disks.close()

    @property
    def cluster(self) -> Cluster:
        """What runs it."""
        if self._cluster is None:
            raise RuntimeError("the target is not started")
        return self._cluster

    def launcher(self, node: int | str) -> Path:
        """The script that gives a command the place, the disk and the clock of that node, and becomes it."""
        return self.directory / f"launch-{node}.sh"

    def _write_launcher(self, node: int) -> None:
        number = str(node)
        words = ["exec"]
        if self.network is not None:
            words += self.network.entering(number)
        variables = {name: value.replace("{node}", number) for name, value in self._variables.items()}
        if self._preloaded:
            variables["LD_PRELOAD"] = ":".join(map(str, self._preloaded))
        where = []
        if node in self._code:
            variables["PYTHONPATH"] = str(self._code[node])
            where = ["-C", str(self._code[node])]
        words += ["env", *where, *(f"{name}={value}" for name, value in variables.items()), *self._launch]
        self.launcher(node).write_text(f'{shlex.join(words)} "$@"\n')

    # -- what is known

    @property
    def nodes(self) -> tuple[int, ...]:
        """All of them, also those that do not run."""
        if self._cluster is None:
            return tuple(range(1, self._count + 1))
        return tuple(self._cluster.numbers)

    @property
    def running(self) -> tuple[int, ...]:
        """Those that are neither paused nor at an end. Blocks."""
        return tuple(one["id"] for one in self.cluster.status()["nodes"] if one["state"] in _TAKES_PART)

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
        """Of the process of that node. Raises ClusterError when it does not run."""
        found: dict[int, Any] = {one["id"]: one["pid"] for one in self.cluster.status()["nodes"]}
        if found.get(node) is None:
            raise ClusterError(f"node {node} does not run")
        pid: int = found[node]
        return pid

    def controller(self) -> int | None:
        """The node that leads the metadata quorum; None while none does."""
        return self.cluster.controller()

    def leaders(self) -> Mapping[tuple[str, int], int]:
        """The leader of each partition that has one, internal topics included; nothing when nobody can tell."""
        with suppress(ClientError), Admin(bootstrap_servers=self.grpc, api_timeout_ms=10_000) as admin:
            return {
                (topic.name, partition.partition): partition.leader_id
                for topic in admin.describe_topics()
                for partition in topic.partitions
                if partition.leader_id >= 0
            }
        return {}

    # -- what is done to nodes

    def kill(self, *nodes: int) -> None:
        """`kill -9`, all at once."""
        self.cluster.kill_node(*nodes)

    def stop(self, *nodes: int) -> None:
        """Cleanly, one after the other."""
        for node in nodes:
            self.cluster.stop_node(node)

    def start_nodes(self, *nodes: int) -> None:
        """Return when they take part, at once when they do already. Name all after the loss of a majority."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return self.cluster.start_node(*nodes)
            except ClusterError as error:
                # On a machine that does much else a start takes long: asked again, the supervisor goes on waiting.
                if "in time" not in str(error).partition("\n")[0] or time.monotonic() > deadline:
                    raise

    def pause(self, *nodes: int) -> None:
        """SIGSTOP."""
        for node in nodes:
            self.cluster.pause_node(node)

    def resume(self, *nodes: int) -> None:
        """SIGCONT; nothing happens to those that have ended meanwhile."""
        for node in nodes:
            with suppress(ClusterError):
                self.cluster.resume_node(node)

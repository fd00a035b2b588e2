"""A local cluster in a subprocess, for tests: on free ports, in a directory of its own, gone when the test process is.

It uses nothing but the `ottla up --json` command and the channel of its supervisor, so it tests against what users run,
and it works under any event loop or none.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Any, Self, TypedDict

from ottla.core.errors import OttlaError
from ottla.node.local.asking import ask

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
NODE_TIMEOUT_S = 60.0


class _Node(TypedDict):
    id: int
    pid: int
    kafka: str
    grpc: str
    dir: str


class _Ready(TypedDict):
    bootstrap: str
    grpc: str
    nodes: list[_Node]


class ClusterError(RuntimeError):
    """The cluster did not start or did not stop; carries the end of its logs."""


class Cluster:
    """One cluster; use it as a context manager, or call `start` and `stop`.

    `settings` are node fields or Kafka's config names, as `ottla up --set` takes them. Without a `directory` the data
    lie in a temporary one, which `stop` deletes. With `tls` it speaks nothing else: clients check it with
    `directory / "tls" / "ca.pem"`. `environment`: variables for its processes, beside those of this one. `arguments`:
    more of those of `ottla up`. Nodes are named by their numbers, from 1. Raises ClusterError.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        nodes: int = 1,
        settings: Mapping[str, object] | None = None,
        tls: bool = False,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._temporary = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix="ottla-")) if directory is None else directory
        self.nodes = nodes
        self._settings = dict(settings or {})
        self._tls = tls
        self._arguments = list(arguments)
        self._start_timeout_s = start_timeout_s
        self._environment = {**_environment(), **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._addresses: dict[int, _Node] = {}
        self.bootstrap = ""
        self.grpc = ""

    @property
    def log_path(self) -> Path:
        """Where the nodes' logs are written."""
        return self.directory / "nodes.log"

    @property
    def node_pids(self) -> list[int]:
        """The process of each node, as it was last started."""
        return [node["pid"] for _, node in sorted(self._addresses.items())]

    @property
    def numbers(self) -> list[int]:
        """Those of its nodes, also of nodes that do not run."""
        return sorted(self._addresses)

    # -- the whole cluster

    def start(self, *, without: Sequence[int] = ()) -> Self:
        """Return when a write with acks=all would succeed. A restarted cluster keeps its data and its ports.

        `without`: nodes that have lost their data; `replace_node` brings them back.
        """
        if self._process is not None:
            raise ClusterError("the cluster is running")
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "ottla.cli", "up", "--json", "--port", "0", "--dir", str(self.directory)]
        command += ["--nodes", str(self.nodes)]
        if self._tls:
            command.append("--tls")
        for number in without:
            command += ["--without", str(number)]
        for key, value in self._settings.items():
            command += ["--set", f"{key}={value}"]
        command += self._arguments
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, env=self._environment
            )
        try:
            ready = self._wait_until_ready(self._process)
        except BaseException:
            self._reap(kill=True)
            raise
        self.bootstrap, self.grpc = ready["bootstrap"], ready["grpc"]
        self._addresses = {node["id"]: node for node in ready["nodes"]}
        return self

    def stop(self) -> None:
        """Stop cleanly; nothing happens when it does not run. A temporary directory is deleted."""
        try:
            if self._process is not None:
                self._process.send_signal(signal.SIGTERM)
                code = self._reap()
                if code != 0:
                    raise ClusterError(f"the cluster ended with exit code {code}\n{self.log_tail()}")
        finally:
            if self._temporary:
                shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self) -> Self:
        """Stop cleanly and start again on the same data and ports."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._reap()
        return self.start()

    def kill(self) -> None:
        """End every process at once, as `kill -9` does; `start` brings the cluster back on the same data and ports."""
        if self._process is None:
            return
        try:
            # Its answer comes when all have ended, so that their ports are free again.
            self._ask("down", kill=True)
        except ClusterError:
            self._reap(kill=True)
        else:
            self._reap()

    # -- single nodes; each call returns when it is true

    def stop_node(self, number: int) -> None:
        """Stop a node cleanly: others lead what it led before it ends."""
        self._ask("stop", nodes=[number])

    def kill_node(self, *numbers: int) -> None:
        """End nodes as `kill -9` does, all of them at once."""
        self._ask("kill", nodes=numbers)

    def start_node(self, *numbers: int) -> None:
        """Start nodes again, on the same data and ports; return when they take part.

        After the loss of a majority name them all: none takes part before there is one.
        """
        self._ask("start", nodes=numbers)
        self._learn(*numbers)

    def restart_node(self, number: int) -> None:
        """Stop it cleanly and start it again."""
        self.stop_node(number)
        self.start_node(number)

    def pause_node(self, number: int) -> None:
        """Stop a node as it is (SIGSTOP): it answers nothing, and its connections stay."""
        self._ask("pause", nodes=[number])

    def resume_node(self, number: int) -> None:
        """Let a paused node go on."""
        self._ask("resume", nodes=[number])

    # -- which nodes there are; each is the command of that name, and returns what it told

    def add_node(self, number: int, *, vote: bool = False) -> str:
        """Add a node, which follows and takes new partitions; with `vote` it votes on the metadata too."""
        told = self._command("add", str(number), *(["--vote"] if vote else []))
        self.nodes += 1
        self._learn(number)
        return told

    def remove_node(self, number: int) -> str:
        """Move the node's replicas and its vote to others, stop it, and forget it."""
        told = self._command("remove", str(number))
        self.nodes -= 1
        del self._addresses[number]
        return told

    def replace_node(self, number: int) -> str:
        """Bring a node back that is stopped and has lost its directory; return when it is in sync and votes again."""
        told = self._command("replace", str(number))
        self._learn(number)
        return told

    def _command(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "ottla.cli", "node", *arguments, "--dir", str(self.directory)]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        if done.returncode != 0:
            raise ClusterError(f"{done.stdout}{done.stderr}\n{self.log_tail()}")
        return done.stdout

    def _learn(self, *numbers: int) -> None:
        for node in self.status()["nodes"]:
            if node["id"] in numbers:
                self._addresses[node["id"]] = {key: node[key] for key in _Node.__annotations__}  # type: ignore[assignment]
        ordered = [node for _, node in sorted(self._addresses.items())]
        self.bootstrap, self.grpc = ",".join(one["kafka"] for one in ordered), ",".join(one["grpc"] for one in ordered)

    def node_address(self, number: int) -> str:
        """Where Kafka clients reach that node."""
        return self._addresses[number]["kafka"]

    def status(self) -> dict[str, Any]:
        """The nodes with their states and figures, as `ottla status --json` shows them."""
        return self._ask("status")

    def controller(self) -> int | None:
        """The node that decides now; None while there is none."""
        for node in self.status()["nodes"]:
            if node["standing"] and node["standing"]["role"] == "leader":
                number: int = node["id"]
                return number
        return None

    def _ask(self, command: str, **arguments: object) -> dict[str, Any]:
        try:
            return ask(self.directory, command, timeout_s=NODE_TIMEOUT_S, **arguments)
        except OttlaError as error:
            raise ClusterError(f"{error}\n{self.log_tail()}") from error

    # -- the logs

    def log_tail(self, *, start: int = 0, limit: int = 20_000) -> str:
        """The nodes' logs from byte `start` on; at most the last `limit` bytes."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(start, end - limit))
            return log.read().decode(errors="replace")

    def log_size(self) -> int:
        """Bytes of logs so far; what a later `log_tail(start=…)` begins at."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    # -- inside

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self, process: "subprocess.Popen[str]") -> "_Ready":
        lines: list[str] = []
        assert process.stdout is not None
        reader = Thread(target=_read_until_ready, args=(process.stdout, lines), daemon=True)
        reader.start()
        reader.join(self._start_timeout_s)
        if not lines:
            raise ClusterError(f"the cluster did not start:\n{self.log_tail()}")
        ready: _Ready = json.loads(lines[0])
        return ready

    def _reap(self, *, kill: bool = False) -> int:
        process, self._process = self._process, None
        assert process is not None
        if kill:
            process.kill()
        try:
            code = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ClusterError(f"the cluster did not stop within {STOP_TIMEOUT_S} s:\n{self.log_tail()}") from None
        finally:
            if process.stdout is not None:
                process.stdout.close()
        return code


def _read_until_ready(lines: IO[str], ready: list[str]) -> None:
    for line in lines:
        if json.loads(line)["event"] == "ready":
            ready.append(line)
            return


def _environment() -> dict[str, str]:
    """The tests' environment without the settings that a developer's own cluster may have there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}

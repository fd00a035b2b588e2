"""How each peer is started and stopped. Both are context managers that yield a ready `Cluster`.

Apache Kafka's jars come from Maven, once, into `bench/.cache`; `mvn` and Java 17 or newer must be installed.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cluster import Cluster
from ottla.node.founding import free_ports

HERE = Path(__file__).parent
JARS = HERE / ".cache" / "kafka-libs"
GC = ["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]
LOG4J = """Configuration:
  Appenders: {Console: {name: STDERR, target: SYSTEM_ERR, PatternLayout: {pattern: "%d %p %c: %m%n"}}}
  Loggers: {Root: {level: WARN, AppenderRef: {ref: STDERR}}}
"""


@dataclass(frozen=True)
class Started:
    """A cluster, and the moment (`time.time()`) at which its command was typed."""

    cluster: Cluster
    typed_at: float


@contextmanager
def ottla(
    *,
    nodes: int = 1,
    copies: int = 1,
    settings: tuple[str, ...] = (),
    keep: Path | None = None,
    python: str | None = None,
) -> Iterator[Started]:
    """`ottla up --nodes N` on free ports and a temporary directory. `copies`: the replication factor of topics.
    `python`: the interpreter of another installation, whose Ottla is to run instead of this checkout's.
    """
    with tempfile.TemporaryDirectory(prefix="ottla-bench-", dir=keep) as directory:
        command = [
            python or sys.executable,
            "-m",
            "ottla.cli.main",
            "up",
            "--json",
            "--nodes",
            str(nodes),
            "--port",
            "0",
        ]
        command += ["--dir", directory, *(word for s in settings for word in ("--set", s))]
        with Path(directory, "ottla.log").open("wb") as log:
            typed_at = time.time()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=_environment(python))
            try:
                yield Started(_ottla_ready(process, copies), typed_at)
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def build(python: str | None = None) -> str:
    """What `ottla --version` says of the installation that `ottla` runs: a figure belongs to a build of it."""
    command = [python or sys.executable, "-m", "ottla.cli.main", "--version"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_environment(python)).stdout
    return said.strip()


def _environment(python: str | None) -> dict[str, str]:
    """For another installation: neither `ottla up` nor the nodes that it starts import anything from here."""
    if python is None:
        return dict(os.environ)
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONSAFEPATH": "1"}


def _ottla_ready(process: subprocess.Popen[bytes], replication_factor: int) -> Cluster:
    assert process.stdout
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "ready":
            pids = [node["pid"] for node in event["nodes"]]
            return Cluster(
                name="ottla",
                bootstrap=event["bootstrap"],
                pids=pids,
                replication_factor=replication_factor,
                grpc=event["grpc"],
            )
    raise RuntimeError(f"ottla ended with {process.wait()} before it was ready")


@contextmanager
def kafka(*, nodes: int = 1, copies: int = 1, settings: tuple[str, ...] = (), heap: str = "1g") -> Iterator[Started]:
    """Apache Kafka in KRaft mode, combined broker and controller, on free ports of loopback."""
    fetch_jars()
    with tempfile.TemporaryDirectory(prefix="kafka-bench-") as directory:
        homes = _format(Path(directory), nodes, copies, settings)
        processes: list[subprocess.Popen[bytes]] = []
        try:
            typed_at = time.time()  # formatting the directories is not counted against Kafka
            for home, _ in homes:
                with (home / "server.log").open("wb") as log:
                    command = java(home, "kafka.Kafka", str(home / "server.properties"), heap=heap)
                    processes.append(subprocess.Popen(command, stdout=log, stderr=log))
            for process, (_, port) in zip(processes, homes, strict=True):
                wait_for_port(port, process)
            yield Started(
                Cluster(
                    name="kafka",
                    bootstrap=",".join(f"127.0.0.1:{port}" for _, port in homes),
                    pids=[p.pid for p in processes],
                    replication_factor=copies,
                ),
                typed_at,
            )
        finally:
            for process in processes:
                process.kill()
                process.wait()


def fetch_jars() -> None:
    """From Maven, once."""
    if JARS.exists():
        return
    partial = JARS.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pom = ["mvn", "-q", "-B", "-f", str(HERE / "kafka" / "pom.xml"), "dependency:copy-dependencies"]
    subprocess.run([*pom, f"-DoutputDirectory={partial}"], check=True)
    partial.rename(JARS)


def java(home: Path, main: str, *arguments: str, heap: str) -> list[str]:
    """The command of one of Kafka's main classes; its log's settings are written to `home`."""
    log = home / "log4j2.yaml"
    log.write_text(LOG4J)
    memory = [f"-Xms{heap}", f"-Xmx{heap}"]
    return ["java", *memory, *GC, f"-Dlog4j2.configurationFile={log}", "-cp", f"{JARS}/*", main, *arguments]


def _format(directory: Path, nodes: int, copies: int, settings: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Write each node's properties and format its storage; returns its folder and client port."""
    # An id that begins with a dash would be taken for an option.
    cluster_id = urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()
    ports = free_ports("127.0.0.1", 2 * nodes)
    voters = ",".join(f"{n + 1}@127.0.0.1:{ports[nodes + n]}" for n in range(nodes))
    homes = []
    for n in range(nodes):
        home = directory / f"node{n + 1}"
        home.mkdir()
        listeners = f"PLAINTEXT://127.0.0.1:{ports[n]},CONTROLLER://127.0.0.1:{ports[nodes + n]}"
        lines = [
            "process.roles=broker,controller",
            f"node.id={n + 1}",
            f"controller.quorum.voters={voters}",
            f"listeners={listeners}",
            "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            f"log.dirs={home / 'data'}",
            f"default.replication.factor={copies}",
            f"offsets.topic.replication.factor={copies}",
            f"transaction.state.log.replication.factor={copies}",
            f"transaction.state.log.min.isr={min(copies, 2)}",
            f"min.insync.replicas={min(copies, 2)}",
            "group.initial.rebalance.delay.ms=0",
            *settings,
        ]
        (home / "server.properties").write_text("\n".join(lines) + "\n")
        words = ("format", "-t", cluster_id, "-c", str(home / "server.properties"))
        subprocess.run(java(home, "kafka.tools.StorageTool", *words, heap="128m"), check=True, capture_output=True)
        homes.append((home, ports[n]))
    return homes


def wait_for_port(
    port: int, process: subprocess.Popen[bytes], timeout_s: float = 180, *, host: str = "127.0.0.1"
) -> None:
    """Return when something listens there; raises RuntimeError when the process ends, or TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"kafka ended with {process.returncode}")
        try:
            socket.create_connection((host, port), 0.2).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nothing listens on {port} after {timeout_s} s")


def write_back() -> None:
    """Let dirty pages of the measure before reach the disk, so that they do not slow the next one."""
    os.sync()

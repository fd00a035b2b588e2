"""The processes of a cluster on this machine: started, killed, stopped. None outlives the one that started it."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from examples.kv.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 10.0


class NodeProcess:
    """One node's process; each `start` makes a new one. What it logs is added to `log` in the node's directory."""

    def __init__(self, cluster: Cluster, node: int, *, module: Sequence[str] = ("examples.kv", "node")) -> None:
        self.cluster, self.node = cluster, node
        self.log = cluster.node_path(node) / "log"
        own = ["--dir", str(cluster.path.absolute()), "--id", str(node), "--ends-with-stdin"]
        self._command = [sys.executable, "-m", *module, *own]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The one that was started last; its standard streams are pipes."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        assert not self.is_running
        self._close_streams()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    def read_line(self) -> str:
        """What the node says next; it says that it is ready. Blocks. Raises RuntimeError when it ended instead."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"node {self.node} ended with exit code {self._process.wait()}; see {self.log}")
        return line.decode().rstrip()

    def kill(self) -> None:
        """As `kill -9`; returns when it is dead."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close_streams()

    def ask_to_stop(self) -> None:
        if self.is_running:
            self.process.terminate()

    def wait(self, timeout_s: float = STOP_S) -> int:
        """The exit code; killed when it takes too long."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait()
        finally:
            self._close_streams()

    def _close_streams(self) -> None:
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()


def stop_all(processes: Sequence[NodeProcess]) -> None:
    """One after the other, so that leadership always finds somebody."""
    started = time.monotonic()
    for process in processes:
        if process.is_running:
            process.ask_to_stop()
            process.wait(max(1.0, STOP_S - (time.monotonic() - started)))

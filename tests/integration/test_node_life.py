"""The life of a cluster's processes: what `ottla up` says, how it stops, and that nothing outlives it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

WAIT_S = 20.0


class Up:
    """`ottla up --json` as a program sees it."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory, self.log_path = directory, directory.with_suffix(".log")
        command = [sys.executable, "-m", "ottla", "up", "--json", "--port", "0", "--dir", str(directory), *arguments]
        self.started_at = time.time()
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def event(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"no more events; the log:\n{self.log}")
        event: dict[str, Any] = json.loads(line)
        return event

    def ready(self) -> dict[str, Any]:
        assert self.event()["event"] == "starting"
        return self.event()

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    running: list[Up] = []

    def start(*arguments: str, directory: str = "data") -> Up:
        running.append(Up(tmp_path / directory, *arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(WAIT_S)
        assert one.process.stdout is not None
        one.process.stdout.close()


def wait_until_gone(pid: int) -> None:
    """Dead, or a zombie that somebody else has to reap."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there")


def test_the_events_are_as_documented(up: Callable[..., Up], tmp_path: Path) -> None:
    cluster = up()
    starting = cluster.event()
    assert starting.keys() == {"event", "at"}
    assert starting["event"] == "starting"
    assert cluster.started_at <= starting["at"] <= time.time()
    ready = cluster.event()
    assert ready.keys() == {"event", "bootstrap", "grpc", "nodes"}
    [node] = ready["nodes"]
    assert node.keys() == {"id", "pid", "kafka", "grpc", "dir"}
    assert (node["id"], node["dir"]) == (1, str(tmp_path / "data" / "node-1"))
    assert (ready["bootstrap"], ready["grpc"]) == (node["kafka"], node["grpc"])
    assert psutil.pid_exists(node["pid"])
    assert cluster.end() == 0
    wait_until_gone(node["pid"])


def test_localhost_is_served_on_both_loopback_addresses(up: Callable[..., Up]) -> None:
    ready = up().ready()
    for address in (ready["bootstrap"], ready["grpc"]):
        port = int(address.rpartition(":")[2])
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), 5).close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(up: Callable[..., Up], number: int) -> None:
    cluster = up()
    cluster.ready()
    assert cluster.end(number) == 0
    assert "stopping" in cluster.log
    assert "Traceback" not in cluster.log


def test_a_signal_during_the_start_stops_it_too(up: Callable[..., Up]) -> None:
    cluster = up()
    cluster.event()
    assert cluster.end() in (0, -signal.SIGTERM)


def test_the_node_ends_when_its_parent_is_killed(up: Callable[..., Up]) -> None:
    cluster = up()
    pid = cluster.ready()["nodes"][0]["pid"]
    cluster.process.kill()
    wait_until_gone(pid)


def test_a_node_that_is_stuck_ends_when_its_parent_is_killed(up: Callable[..., Up]) -> None:
    if sys.platform != "linux":
        pytest.skip("the parent-death signal is Linux's")
    cluster = up()
    pid = cluster.ready()["nodes"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    cluster.process.kill()
    wait_until_gone(pid)


def test_a_second_signal_ends_a_stop_that_hangs(up: Callable[..., Up]) -> None:
    cluster = up()
    pid = cluster.ready()["nodes"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    cluster.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.process.wait(0.3)
    assert cluster.end() == 0
    wait_until_gone(pid)


def test_a_node_that_ends_by_itself_ends_the_cluster(up: Callable[..., Up]) -> None:
    cluster = up()
    os.kill(cluster.ready()["nodes"][0]["pid"], signal.SIGKILL)
    assert cluster.process.wait(WAIT_S) == 1
    assert "node 1 ended by itself (killed by SIGKILL)" in cluster.log


def test_a_port_in_use_is_told_in_one_line(up: Callable[..., Up]) -> None:
    taken = up().ready()["bootstrap"]
    second = up("--set", f"listeners=PLAINTEXT://{taken}", directory="other")
    assert second.process.wait(WAIT_S) == 2
    assert second.log.splitlines()[-1].startswith(f"ottla: cannot listen on PLAINTEXT://{taken}: the port is in use")


def test_a_grpc_port_in_use_is_told_and_leaves_nothing_running(up: Callable[..., Up]) -> None:
    taken = up().ready()["grpc"]
    second = up("--set", f"grpc_listener={taken}", directory="other")
    assert second.process.wait(WAIT_S) == 2
    assert "the port is in use" in second.log.splitlines()[-1]


def test_a_directory_in_use_is_told(up: Callable[..., Up]) -> None:
    up().ready()
    second = up()
    assert second.process.wait(WAIT_S) == 1
    assert "a cluster runs in" in second.log
    assert f"`ottla down --dir {second.directory}` stops it" in second.log


def test_a_wrong_setting_is_told_before_anything_is_made(up: Callable[..., Up], tmp_path: Path) -> None:
    cluster = up("--set", "num.partitionss=3")
    assert cluster.process.wait(WAIT_S) == 2
    assert "did you mean num.partitions?" in cluster.log
    assert not (tmp_path / "data").exists()


def test_other_addresses_need_a_decision(up: Callable[..., Up]) -> None:
    refused = up("--host", "0.0.0.0")
    assert refused.process.wait(WAIT_S) == 2
    assert "--insecure" in refused.log
    ready = up("--host", "0.0.0.0", "--insecure", "--advertise", "127.0.0.1").ready()
    assert ready["bootstrap"].startswith("127.0.0.1:")
    assert not ready["bootstrap"].endswith(":0")
    assert ready["grpc"].startswith("127.0.0.1:")


def test_fresh_begins_with_a_new_cluster(up: Callable[..., Up], tmp_path: Path) -> None:
    meta = tmp_path / "data" / "node-1" / "meta.properties"
    identities = []
    for arguments in ((), (), ("--fresh",)):
        cluster = up(*arguments)
        cluster.ready()
        identities.append(meta.read_text())
        assert cluster.end() == 0
    assert identities[0] == identities[1] != identities[2]


def test_health_and_metrics_are_served(up: Callable[..., Up], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cluster = up("--set", f"http_listener=localhost:{port}")
    kafka_host, _, kafka_port = cluster.ready()["bootstrap"].rpartition(":")
    with socket.create_connection((kafka_host, int(kafka_port)), 5) as client:
        client.sendall(bytes([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF]))  # ApiVersions, version 0
        assert client.recv(4)
    for host in ("127.0.0.1", "[::1]"):
        with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=5) as answer:
            assert json.load(answer)["status"] == "ok"
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    assert "\nottla_partitions 0.0\n" in text
    assert "\nottla_producers 0.0\n" in text
    assert '\nottla_kafka_requests_total{api="api_versions"} 1.0\n' in text
    assert "\nottla_kafka_received_bytes_total 10.0\n" in text
    assert "\nottla_kafka_connections_accepted_total 1.0\n" in text
    assert "\nprocess_resident_memory_bytes " in text
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://localhost:{port}/", timeout=5)
    assert refused.value.code == 404
    refused.value.close()
    assert cluster.end() == 0
    assert "Traceback" not in cluster.log


def test_it_starts_in_a_second_and_rests_below_80_mib(up: Callable[..., Up]) -> None:
    """The best of a few, as the machine may be busy with something else."""
    durations = []
    for number in range(4):
        cluster = up(directory=f"data-{number}")
        [node] = cluster.ready()["nodes"]
        durations.append(time.time() - cluster.started_at)
        memory = psutil.Process(node["pid"]).memory_full_info()
        assert getattr(memory, "pss", memory.rss) < 80 << 20
        assert cluster.end() == 0
        if durations[-1] < 1.0:
            return
    pytest.fail(f"seconds to readiness: {durations}")

"""The key-value store of the examples as its users run it: three processes, a command, and `kill -9`."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from examples.kv.chaos.run import agree, run
from examples.kv.client import KeyValueClient, Refused
from examples.kv.cluster import Cluster
from examples.kv.processes import NodeProcess, stop_all

ROOT = Path(__file__).resolve().parents[2]
KV = [sys.executable, "-m", "examples.kv"]
WAIT_S = 20.0


class Running:
    """Three node processes."""

    def __init__(self, directory: Path) -> None:
        self.cluster = Cluster.create(directory, 3)
        self.processes = {node: NodeProcess(self.cluster, node) for node in self.cluster.nodes}

    def start(self) -> None:
        for process in self.processes.values():
            process.start()
        for process in self.processes.values():
            process.read_line()

    def client(self) -> KeyValueClient:
        return KeyValueClient(self.cluster.addresses.split(","))

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*KV, *arguments, "--nodes", self.cluster.addresses]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "kv")
    try:
        running.start()
        yield running
    finally:
        stop_all(list(running.processes.values()))


def test_the_commands(running: Running) -> None:
    assert running.command("set", "name", "Ada").returncode == 0
    assert running.command("get", "name").stdout == "Ada\n"
    assert running.command("cas", "name", "Grace", "--expected", "Ada").returncode == 0
    refused = running.command("cas", "name", "Edsger", "--expected", "Ada")
    assert (refused.returncode, refused.stderr) == (1, "the value is another one\n")
    assert running.command("append", "name", " Hopper").stdout == "12\n"
    assert running.command("get", "name").stdout == "Grace Hopper\n"
    assert running.command("delete", "name").returncode == 0
    assert running.command("get", "name").returncode == 1
    assert running.command("cas", "name", "Barbara").returncode == 0
    assert running.command("status").stdout.count("leader") == 3


async def test_what_was_acknowledged_survives_the_death_of_its_leader(running: Running) -> None:
    async with running.client() as client:
        await client.set(b"key", b"before")
        assert await client.compare_and_set(b"key", b"before", b"kept")
        leader = client.answered_by
        running.processes[leader].kill()
        assert await client.get(b"key") == b"kept"
        assert client.answered_by != leader
        assert await client.append(b"key", b" on") == 7
        running.processes[leader].start()
        await asyncio.to_thread(running.processes[leader].read_line)
        assert await agree(running.cluster.addresses.split(","))


async def test_a_write_that_is_sent_again_is_applied_once(running: Running) -> None:
    async with running.client() as client:
        await client.set(b"log", b"")
        reader, writer = await connect(running.cluster.nodes[client.answered_by].client_port)
        session = (await ask(reader, writer, do="open"))["client"]
        write = {"do": "append", "key": "log", "value": "once", "client": session, "sequence": 1}
        first = await ask(reader, writer, **write)
        assert first == {"node": client.answered_by, "status": "OK", "length": 4}
        assert await ask(reader, writer, **write) == first
        assert await client.get(b"log") == b"once"
        expired = await ask(reader, writer, **{**write, "client": 999_999})
        assert expired["error"] == "EXPIRED"
        await hang_up(writer)


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, **said: object) -> dict[str, object]:
    writer.write(json.dumps(said).encode() + b"\n")
    answer: dict[str, object] = json.loads(await reader.readline())
    return answer


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"\n", "one JSON object"),
        (b"[1]\n", "one JSON object"),
        (b"[" * 100_000 + b"\n", "one JSON object"),
        (b'{"do": "get"}\n', "'key' is missing"),
        (b'{"do": "get", "key": ""}\n', "'key' is empty"),
        (b'{"do": "get", "key": "\\ud800"}\n', "surrogate"),
        (b'{"do": "get", "key": "k", "colour": 1}\n', "'colour' is no field"),
        (b'{"do": "set", "key": "k", "value": 1, "client": 1, "sequence": 1}\n', "'value' is a text"),
        (b'{"do": "set", "key": "k", "value": "v", "client": 1, "sequence": true}\n', "'sequence' is a whole number"),
        (b'{"do": "set", "key": "%s"}\n' % (b"k" * 2000), "2000 bytes"),
        (b"x" * (5 << 20), "a line has at most"),
    ],
)
async def test_bytes_that_are_no_request_have_an_answer(running_one: NodeProcess, line: bytes, says: str) -> None:
    reader, writer = await connect(running_one.cluster.nodes[1].client_port)
    writer.write(line)
    answer = json.loads(await reader.readline())
    assert answer["error"] == "INVALID"
    assert says in answer["detail"]
    await hang_up(writer)


@pytest.fixture(scope="module")
def running_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    process = NodeProcess(Cluster.create(tmp_path_factory.mktemp("kv"), 1), 1)
    process.start()
    process.read_line()
    yield process
    stop_all([process])


async def test_a_key_that_is_too_long_is_refused(running_one: NodeProcess) -> None:
    async with KeyValueClient([running_one.cluster.nodes[1].clients]) as client:
        with pytest.raises(Refused, match="at most 1024"):
            await client.get(b"k" * 1025)
        await client.set(b"k", b"v")
        assert await client.get(b"k") == b"v"


def test_up_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """Nothing outlives it, also when it is killed; what was written is there at the next start."""
    command = [*KV, "up", "--nodes", "3", "--port", "0", "--dir", str(tmp_path / "kv")]
    for number in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as up:
            assert up.stdout is not None
            lines = [up.stdout.readline() for _ in range(4)]
            addresses = [match[1] for line in lines[:3] if (match := re.search(r"clients at (\S+),", line))]
            assert len(addresses) == 3, lines
            subprocess.run(
                [*KV, "set", "key", "value", "--nodes", ",".join(addresses)], cwd=ROOT, timeout=WAIT_S, check=True
            )
            up.send_signal(number)
            assert up.wait(WAIT_S) == (0 if number is signal.SIGINT else -number)
        for address in addresses:
            wait_until_refused(address)


def wait_until_refused(address: str) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    pytest.fail(f"somebody still listens at {address}")


def test_an_emptied_node_does_not_come_back_under_its_name(tmp_path: Path) -> None:
    cluster = Cluster.create(tmp_path / "kv", 3)
    (cluster.node_path(2) / "directory").unlink()
    command = [*KV, "node", "--dir", str(cluster.path), "--id", "2"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert refused.returncode == 1
    assert "node 2 may have voted and forgotten it" in refused.stderr


@pytest.mark.slow
async def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    """`python -m examples.kv.chaos` goes on for longer."""
    seed = int.from_bytes(os.urandom(4), "big")
    found = await run(tmp_path / "kv", kills=5, seed=seed)
    assert found.is_good, str(found)
    assert found.kills == 5
    assert found.operations > 100

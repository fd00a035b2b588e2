"""Peers that are killed, stopped, or accept connections and say nothing."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ottla.core.types import NodeId
from ottla.raft.core.messages import HeartbeatResponse
from tests.integration.raft_transport.nodes import (
    FAST,
    Node,
    Nodes,
    append,
    beat,
    exchange,
    until,
)

PEER = Path(__file__).parent / "peer.py"


class PeerProcess:
    """`peer.py`, running."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port

    def signal(self, number: int) -> float:
        self.process.send_signal(number)
        return time.monotonic()

    def reach(self, node: Node) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{node.number} {node.endpoint}\n".encode())


@asynccontextmanager
async def peer_process(number: int, port: int = 0) -> AsyncIterator[PeerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PEER), str(number), str(port), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = b"x"
        while not line.strip().isdigit():  # logs stand there, too
            line = await process.stdout.readline()
            assert line, "the peer did not start"
        yield PeerProcess(process, int(line))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("peer_dials", [False, True])
async def test_a_killed_peer_is_unreachable_at_once(start: Nodes, number: int, peer_dials: bool) -> None:
    node = await start(2)
    async with peer_process(number) as peer:
        if peer_dials:
            peer.reach(node)
        else:
            node.transport.reach({NodeId(number): f"127.0.0.1:{peer.port}"})
        await until(lambda: number in node.links)
        killed = peer.signal(signal.SIGKILL)
        await until(lambda: bool(node.lost))
        assert node.lost_nodes() == {number}
        assert node.lost[0][1] - killed < 0.5  # a few ms; the machine may be busy
        node.transport.reach({})


async def answers(node: Node, peer: int, within_s: float = 10) -> None:
    number = time.monotonic_ns()
    deadline = time.monotonic() + within_s
    while not any(isinstance(m, HeartbeatResponse) and m.round == number for m in node.received):
        assert time.monotonic() < deadline, "no answer"
        node.send(beat(node.number, peer, number))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("peer_dials", [False, True])
async def test_a_stopped_peer_is_silent_and_nothing_else(start: Nodes, number: int, peer_dials: bool) -> None:
    node, other = await start(2, limits=FAST), await start(4)
    node.reach(other)
    async with peer_process(number) as peer:
        endpoint = "" if peer_dials else f"127.0.0.1:{peer.port}"
        node.transport.reach({NodeId(4): other.endpoint, NodeId(number): endpoint})
        if peer_dials:
            peer.reach(node)
        await answers(node, number)
        peer.signal(signal.SIGSTOP)
        for _ in range(100):  # far more than sockets take
            node.send(append(2, number, 1 << 20))
        await exchange(node, other)
        waiting = node.transport.peer(NodeId(number)).outgoing
        assert 8 << 20 < waiting.size_bytes <= node.transport.limits.queue_bytes
        await until(lambda: number not in node.links)
        assert node.lost == []
        await exchange(node, other)
        peer.signal(signal.SIGCONT)
        await answers(node, number)
        node.transport.reach({NodeId(4): other.endpoint})
        assert 4 not in node.lost_nodes()


async def test_a_peer_that_accepts_connections_and_says_nothing_is_silent(start: Nodes) -> None:
    node = await start(1, limits=FAST)
    listener = await asyncio.start_server(lambda reader, writer: _swallow(reader, writer), "127.0.0.1", 0)
    tried = 0

    async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tried
        tried += 1
        await reader.read()
        writer.close()

    port = listener.sockets[0].getsockname()[1]
    node.transport.reach({NodeId(2): f"127.0.0.1:{port}"})
    await until(lambda: tried >= 4)
    assert node.lost == []
    node.transport.reach({})
    listener.close()
    await listener.wait_closed()

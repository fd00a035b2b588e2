"""Transports of a quorum on real sockets, each with its own server and what its receiver was told."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ottla.core.types import NodeId, Uuid
from ottla.raft.acceptor import QuorumServer
from ottla.raft.core.entries import Entry, EntryKind
from ottla.raft.core.member import Member
from ottla.raft.core.messages import AppendRequest, Heartbeat, Message
from ottla.raft.grpc_transport import GrpcTransport, Limits

CLUSTER = Uuid(b"the test cluster")
SECRET = b"the cluster's secret"
FAST = Limits(keepalive_ms=50, silence_ms=300, handshake_ms=300)


def member(node: int) -> Member:
    return Member(NodeId(node), Uuid(bytes([node]) * 16))


def beat(source: int, target: int, number: int = 1) -> Heartbeat:
    return Heartbeat(source=member(source), target=member(target), term=1, round=number, commit=0)


def append(source: int, target: int, size: int) -> AppendRequest:
    return AppendRequest(
        source=member(source), target=member(target), term=1, number=1, previous_index=0, previous_term=0, commit=0,
        entries=(Entry(1, 1, EntryKind.DATA, bytes(size)),),
    )  # fmt: skip


async def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.001)


def other_tasks() -> set[Any]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


class Node:
    """A transport with its own server, and what its receiver was told."""

    def __init__(
        self, number: int, *, cluster: Uuid = CLUSTER, secret: bytes = SECRET, limits: Limits | None = None
    ) -> None:
        self.number = number
        self.transport = GrpcTransport(cluster_id=cluster, member=member(number), secret=secret, limits=limits)
        self.server = QuorumServer(self.transport)
        self.received: list[Message] = []
        self.lost: list[tuple[int, float]] = []
        self.connections: list[NodeId] = []
        self.raises: Exception | None = None
        self.endpoint = ""

    async def start(self, port: int = 0) -> "Node":
        port = await self.server.start("127.0.0.1", port)
        self.endpoint = f"127.0.0.1:{port}"
        self.transport.start(self)
        return self

    async def stop(self) -> None:
        await self.transport.close()
        await self.server.stop()

    def receive(self, message: Message) -> None:
        self.received.append(message)
        if self.raises is not None:
            raise self.raises

    def unreachable(self, node: NodeId) -> None:
        self.lost.append((node, time.monotonic()))

    def connected(self, node: NodeId) -> None:
        self.connections.append(node)

    def reach(self, *others: "Node") -> None:
        self.transport.reach({NodeId(other.number): other.endpoint for other in others})

    def send(self, message: Message) -> None:
        self.transport.send(message)

    @property
    def links(self) -> dict[int, bytes]:
        """The name of the stream that stands with each peer."""
        return {peer.node: peer.link.standing.name for peer in self.transport._peers.values() if peer.link is not None}

    def lost_nodes(self) -> set[int]:
        return {node for node, _ in self.lost}


class Nodes:
    """Starts nodes, and stops them at the end of a test."""

    def __init__(self) -> None:
        self._all: list[Node] = []

    async def __call__(self, number: int, *, port: int = 0, **options: Any) -> Node:
        node = Node(number, **options)
        self._all.append(node)
        return await node.start(port)

    async def stop(self) -> None:
        for node in self._all:
            await node.stop()


async def connected(*nodes: Node) -> None:
    """The same stream stands on both sides of every pair."""

    def all_stand() -> bool:
        return all(
            one.links.get(other.number) is not None and one.links.get(other.number) == other.links.get(one.number)
            for one in nodes for other in nodes if one is not other
        )  # fmt: skip

    await until(all_stand)


def dialler_of(one: Node, other: Node) -> int:
    link = one.transport.peer(NodeId(other.number)).link
    assert link is not None
    return one.number if link.standing.dialled else other.number


async def exchange(one: Node, other: Node) -> None:
    """A message comes in each direction; repeated, as Raft repeats what is lost."""
    number = time.monotonic_ns()

    def came(at: Node) -> bool:
        return any(isinstance(m, Heartbeat) and m.round == number for m in at.received)

    deadline = time.monotonic() + 10
    while not (came(one) and came(other)):
        assert time.monotonic() < deadline, "messages do not come through"
        one.send(beat(one.number, other.number, number))
        other.send(beat(other.number, one.number, number))
        await asyncio.sleep(0.01)


def lines(logs: Any, event: str) -> list[str]:
    return [line["detail"] for line in logs if line["event"] == event]

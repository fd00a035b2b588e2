"""The quorum's transport on real sockets: who finds whom, what ends a link, and what strangers can do."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from ottla.core.errors import ConfigError
from ottla.core.types import NodeId, Uuid
from ottla.raft import handshake, wire
from ottla.raft.acceptor import QuorumServer
from ottla.raft.core.entries import Entry, EntryKind
from ottla.raft.core.member import Member
from ottla.raft.core.messages import AppendRequest, Heartbeat, HeartbeatResponse, Message
from ottla.raft.dialler import METHOD
from ottla.raft.grpc_transport import GrpcTransport, Limits
from ottla.raft.handshake import Hello, Side

PEER = Path(__file__).parent / "raft_peer.py"
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


@pytest.fixture
async def start() -> AsyncIterator[Nodes]:
    before = other_tasks()
    nodes = Nodes()
    yield nodes
    await nodes.stop()
    await until(lambda: other_tasks() <= before)  # gRPC's own end with their streams


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


# -- who finds whom


async def test_three_nodes_that_all_dial_have_one_stream_for_each_pair(start: Nodes) -> None:
    nodes = [await start(number) for number in (1, 2, 3)]
    for node in nodes:
        node.reach(*nodes)
    await connected(*nodes)
    for one in nodes:
        for other in nodes:
            if one is not other:
                await exchange(one, other)
    await until(lambda: open_streams(*nodes) == 3)


def open_streams(*nodes: Node) -> int:
    return sum(len(node.transport._acceptor._tasks) for node in nodes)


async def test_when_both_dial_at_once_one_stream_survives_and_loses_nothing(start: Nodes) -> None:
    for _ in range(20):
        low, high = await start(1), await start(2)
        low.reach(high)
        high.reach(low)
        await until(partial(both_linked, low, high))
        for number in range(20):  # from the first moment on
            low.send(beat(1, 2, number))
            high.send(beat(2, 1, number))
        await connected(low, high)
        await until(partial(have_come, 20, low, high))
        for node in (low, high):
            assert [m.round for m in node.received if isinstance(m, Heartbeat)] == list(range(20))
        await until(partial(streams_left, 1, low, high))
        await low.stop()
        await high.stop()


def both_linked(*nodes: Node) -> bool:
    return all(node.links for node in nodes)


def have_come(count: int, *nodes: Node) -> bool:
    return all(len(node.received) == count for node in nodes)


def streams_left(count: int, *nodes: Node) -> bool:
    return open_streams(*nodes) == count


@pytest.mark.parametrize(("leader", "new"), [(1, 2), (2, 1)])
async def test_a_leader_reaches_a_member_that_knows_nobody(start: Nodes, leader: int, new: int) -> None:
    one, other = await start(leader), await start(new)
    other.transport.reach({})
    one.reach(other)
    await connected(one, other)
    await exchange(one, other)
    assert dialler_of(one, other) == leader


async def test_messages_of_one_turn_arrive_in_order(start: Nodes) -> None:
    one, other = await start(1), await start(2)
    one.reach(other)
    await connected(one, other)
    for number in range(2_000):
        one.send(beat(1, 2, number))
    await until(lambda: len(other.received) == 2_000)
    assert [message.round for message in other.received if isinstance(message, Heartbeat)] == list(range(2_000))


async def test_a_message_without_a_link_is_dropped(start: Nodes) -> None:
    one = await start(1)
    one.send(beat(1, 2))
    one.transport.reach({NodeId(2): ""})
    one.send(beat(1, 2))
    assert one.lost == []


async def test_a_peer_that_is_named_no_more_is_parted_from(start: Nodes) -> None:
    one, two, three = await start(1), await start(2), await start(3)
    one.reach(two, three)
    await connected(one, two)
    await connected(one, three)
    one.reach(three)
    assert set(one.links) == {3}
    await until(lambda: not two.links)
    await exchange(one, three)
    assert one.lost == []


@pytest.mark.parametrize(("own", "new"), [(1, 2), (2, 1)])
async def test_a_stream_that_another_dialled_outlives_not_being_named(start: Nodes, own: int, new: int) -> None:
    node, other = await start(own), await start(new)
    node.reach(other)
    other.transport.reach({})
    await connected(node, other)
    other.transport.reach({NodeId(3): ""})
    await exchange(node, other)
    assert set(other.links) == {own}
    assert node.lost == other.lost == []


async def test_a_peer_that_moved_is_found_at_its_new_place(start: Nodes) -> None:
    one, two = await start(1), await start(2)
    one.reach(two)
    await connected(one, two)
    await two.stop()
    moved = await start(2)
    assert moved.endpoint != two.endpoint
    one.reach(moved)
    await connected(one, moved)
    await exchange(one, moved)


# -- what ends a link


async def test_nothing_listens_is_unreachable_and_tried_again(start: Nodes) -> None:
    one, gone = await start(1), await start(2)
    await gone.stop()
    one.reach(gone)
    await until(lambda: len(one.lost) >= 3)
    assert one.lost_nodes() == {2}


@pytest.mark.parametrize(("leader", "restarted"), [(1, 2), (2, 1)])
async def test_a_peer_that_restarts_is_reached_at_once(start: Nodes, leader: int, restarted: int) -> None:
    one, peer = await start(leader), await start(restarted)
    one.reach(peer)
    await connected(one, peer)
    await peer.stop()
    await until(lambda: bool(one.lost))
    await until(lambda: len(one.lost) >= 6)  # by now it waits as long as it ever does
    again = await start(restarted, port=int(peer.endpoint.rpartition(":")[2]))  # knows nobody
    listening = time.monotonic()
    await connected(one, again)
    assert time.monotonic() - listening < 1  # about 0.15 s; the machine may be busy
    await exchange(one, again)


async def test_a_receiver_that_fails_ends_no_link(start: Nodes) -> None:
    one, other = await start(1), await start(2)
    one.reach(other)
    await connected(one, other)
    other.raises = RuntimeError("a defect")
    with capture_logs() as logs:
        one.send(beat(1, 2, 1))
        one.send(beat(1, 2, 2))
        await until(lambda: len(other.received) == 2)
    assert [line["log_level"] for line in logs] == ["error", "error"]
    assert one.lost == []


async def test_a_node_that_stood_still_itself_gives_up_no_link(start: Nodes) -> None:
    one, other = await start(1, limits=FAST), await start(2, limits=FAST)
    one.reach(other)
    await connected(one, other)
    before = one.links
    time.sleep(1)  # noqa: ASYNC251  # the whole process, as when it is stopped for longer than silence is borne
    await exchange(one, other)
    await asyncio.sleep(0.2)
    assert one.links == before


async def test_links_without_messages_stay(start: Nodes) -> None:
    one, other = await start(1, limits=FAST), await start(2, limits=FAST)
    one.reach(other)
    await connected(one, other)
    before = one.links
    await asyncio.sleep(1)
    assert one.links == before
    assert other.links == {1: before[2]}


async def test_forged_messages_are_dropped_with_one_line(start: Nodes) -> None:
    one, other = await start(1), await start(2)
    one.reach(other)
    await connected(one, other)
    with capture_logs() as logs:
        for _ in range(3):
            one.send(Heartbeat(source=member(3), target=member(2), term=1, round=1, commit=0))
        one.transport._peers[NodeId(3)] = one.transport._peers[NodeId(2)]  # so that it goes the wrong way
        one.send(beat(1, 3))
        del one.transport._peers[NodeId(3)]
        one.send(beat(1, 2, 9))
        await until(lambda: len(other.received) == 1)
    assert other.received == [beat(1, 2, 9)]
    assert [line["detail"] for line in logs] == [
        f"from {member(3)} to {member(2)}, over the link of {member(1)} with node 2",
        f"from {member(1)} to {member(3)}, over the link of {member(1)} with node 2",
    ]


async def test_a_big_message_arrives_and_one_beyond_the_limit_is_not_sent(start: Nodes) -> None:
    one, other = await start(1), await start(2)
    one.reach(other)
    await connected(one, other)
    one.send(append(1, 2, 15 << 20))
    await until(lambda: len(other.received) == 1)
    assert other.received == [append(1, 2, 15 << 20)]
    with capture_logs() as logs:
        one.send(append(1, 2, 16 << 20))
    assert logs[0]["event"] == "a message of the quorum is too long and was not sent"
    await exchange(one, other)


# -- processes that are killed or stopped


class PeerProcess:
    """`raft_peer.py`, running."""

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


# -- strangers


def lines(logs: Any, event: str) -> list[str]:
    return [line["detail"] for line in logs if line["event"] == event]


@asynccontextmanager
async def stream(node: Node) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(node.endpoint) as channel:
        call: Any = channel.stream_stream(METHOD)()
        yield call
        call.cancel()


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    """What the stream ends with."""
    while True:
        try:
            if await asyncio.wait_for(call.read(), 10) is grpc.aio.EOF:
                break
        except grpc.aio.AioRpcError:
            break
    return await call.code(), await call.details()


def hello(node: int, peer: int, nonce: bytes = b"n" * 16) -> Hello:
    return Hello(
        cluster_id=CLUSTER, member=member(node), peer=NodeId(peer), nonce=nonce, incarnation=b"i" * 16
    )  # fmt: skip


async def greet(call: Any, ours: Hello, secret: bytes = SECRET) -> bytes:
    """The dialler's side of the handshake, up to the proof; the proof."""
    await call.write(handshake.encode_hello(ours))
    theirs, proof = handshake.decode_hello(await call.read())
    handshake.check_proof(SECRET, Side.ACCEPTOR, ours, theirs, proof)
    proof = handshake.prove(secret, Side.DIALLER, ours, theirs)
    await call.write(handshake.encode_proof(proof))
    return proof


async def test_a_node_of_another_cluster_is_refused_on_both_sides(start: Nodes) -> None:
    with capture_logs() as logs:
        one, other = await start(1), await start(2, cluster=Uuid(b"o" * 16))
        one.reach(other)
        await until(lambda: bool(lines(logs, "a peer of the quorum hung up")))
        other.reach(one)
        await until(lambda: len(lines(logs, "a peer of the quorum hung up")) == 2)
        await asyncio.sleep(0.3)  # several attempts
    both = ("b29vb29vb29vb29vb29vbw", "dGhlIHRlc3QgY2x1c3Rlcg")
    for event in ("a peer of the quorum hung up", "a peer at the quorum's transport was refused"):
        assert len(lines(logs, event)) == 2  # one for each side
        assert all(cluster in line for line in lines(logs, event) for cluster in both)
    assert all(line.startswith("FAILED_PRECONDITION") for line in lines(logs, "a peer of the quorum hung up"))
    assert one.links == other.links == {}
    assert one.lost == other.lost == []


async def test_a_node_of_another_secret_is_refused_on_both_sides(start: Nodes) -> None:
    event = "a peer of the quorum was refused"
    with capture_logs() as logs:
        one, other = await start(1), await start(2, secret=b"another one")
        one.reach(other)
        other.reach(one)
        await until(lambda: len(lines(logs, event)) == 2)
        await asyncio.sleep(0.3)
    assert sorted(lines(logs, event)) == [
        f"node {node} does not know the secret of cluster dGhlIHRlc3QgY2x1c3Rlcg" for node in (1, 2)
    ]
    assert one.links == other.links == {}
    assert one.lost == other.lost == []


async def test_a_node_at_anothers_endpoint_is_refused(start: Nodes) -> None:
    with capture_logs() as logs:
        one, other = await start(1), await start(2)
        one.transport.reach({NodeId(3): other.endpoint})
        await until(lambda: bool(lines(logs, "a peer of the quorum hung up")))
    (line,) = lines(logs, "a peer of the quorum hung up")
    assert "node 1 looks for node 3, but this is node 2" in line
    assert one.lost == []


async def test_an_endpoint_that_is_none_is_told_once(start: Nodes) -> None:
    with capture_logs() as logs:
        one = await start(1)
        one.transport.reach({NodeId(2): "nowhere", NodeId(3): "127.0.0.1:99999", NodeId(4): "no.such.host.invalid:1"})
        await until(lambda: len(lines(logs, "a peer of the quorum cannot be dialled")) == 3)
        await asyncio.sleep(0.2)
    assert len(lines(logs, "a peer of the quorum cannot be dialled")) == 3
    assert one.lost == []


async def test_who_does_not_know_the_secret_is_unauthenticated(start: Nodes) -> None:
    with capture_logs() as logs:
        node = await start(1)
        for _ in range(3):
            async with stream(node) as call:
                await greet(call, hello(2, 1), secret=b"a guess")
                code, details = await status(call)
            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert "node 2 does not know the secret" in details
    assert len(lines(logs, "a peer at the quorum's transport was refused")) == 1
    assert node.links == {}


async def test_strangers_cannot_fill_the_log(start: Nodes) -> None:
    with capture_logs() as logs:
        node = await start(1)
        async with grpc.aio.insecure_channel(node.endpoint) as channel:
            for number in range(2, 102):
                call: Any = channel.stream_stream(METHOD)()
                await greet(call, hello(number, 1), secret=b"a guess")
                await status(call)
        other = await start(2, secret=b"another one")
        node.reach(other)
        await until(lambda: bool(lines(logs, "a peer of the quorum was refused")))
    assert len(lines(logs, "a peer at the quorum's transport was refused")) == 64


async def test_a_recorded_proof_opens_no_other_stream(start: Nodes) -> None:
    node = await start(1)
    async with stream(node) as call:
        proof = await greet(call, hello(2, 1))
        await until(lambda: 2 in node.links)
    async with stream(node) as call:
        await call.write(handshake.encode_hello(hello(2, 1)))
        await call.read()
        await call.write(handshake.encode_proof(proof))
        assert (await status(call))[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_an_impostor_is_sent_no_proof(start: Nodes) -> None:
    """A server that knows no secret throws back what it gets."""
    frames: list[Any] = []

    async def impostor(_: Any, context: Any) -> None:
        frames.append(await context.read())
        theirs, _ = handshake.decode_hello(frames[0])
        ours = hello(2, 1)
        await context.write(handshake.encode_hello(ours, handshake.prove(b"a guess", Side.ACCEPTOR, theirs, ours)))
        frames.append(await context.read())

    server = grpc.aio.server()
    method: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(impostor)
    handler = grpc.method_handlers_generic_handler("ottla.v1.Quorum", {"Exchange": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with capture_logs() as logs:
        node = await start(1)
        node.transport.reach({NodeId(2): f"127.0.0.1:{port}"})
        await until(lambda: bool(lines(logs, "a peer of the quorum was refused")))
        node.transport.reach({})
    assert [frame for frame in frames[1:] if isinstance(frame, bytes) and handshake.decode_proof(frame)] == []
    await server.stop(None)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"garbage",
        os.urandom(4000),
        bytes(5000),
        bytes(1 << 20),
        handshake.encode_welcome(),
        wire.encode(beat(2, 1)),
    ],
    ids=["empty", "garbage", "random", "long", "longer", "welcome", "message"],
)
async def test_a_stream_that_begins_with_no_hello_is_refused(start: Nodes, frame: bytes) -> None:
    node = await start(1)
    async with stream(node) as call:
        await call.write(frame)
        assert (await status(call))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert node.links == {}


async def test_an_overlong_frame_is_refused(start: Nodes) -> None:
    node = await start(1)
    async with stream(node) as call:
        await call.write(bytes((16 << 20) + 1))
        assert (await status(call))[0] is not grpc.StatusCode.OK
    assert node.received == []


async def test_a_stream_without_a_word_is_ended(start: Nodes) -> None:
    node = await start(1, limits=FAST)
    async with stream(node) as call:
        assert (await status(call))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    async with stream(node) as call:
        await call.write(handshake.encode_hello(hello(2, 1)))
        assert (await status(call))[0] is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_strangers_hold_few_places_and_not_for_long(start: Nodes) -> None:
    node = await start(1, limits=Limits(handshake_ms=500, max_handshakes=2))
    other = await start(2)
    async with stream(node) as first, stream(node) as second, stream(node) as third:
        waiting = [asyncio.ensure_future(status(call)) for call in (first, second, third)]
        codes = sorted([code.name for code, _ in await asyncio.gather(*waiting)])
        assert codes == ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"]
    other.reach(node)
    await connected(node, other)


async def test_a_member_that_sends_what_is_no_frame_is_parted_from(start: Nodes) -> None:
    with capture_logs() as logs:
        node = await start(1)
        async with stream(node) as call:
            await greet(call, hello(2, 1))
            handshake.decode_welcome(await call.read())
            await call.write(wire.encode(beat(2, 1)))
            await until(lambda: node.received == [beat(2, 1)])
            await call.write(b"garbage")
            code, details = await status(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "7 bytes that are no frame" in details
    assert [line["how"] for line in logs if line["event"] == "a quorum link has ended"] == ["MALFORMED"]
    assert node.lost == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: ottla\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)) * 40,
        bytes(100_000),
        b"\x16\x03\x01" + bytes(range(256)) * 10,
    ],
    ids=["http", "http2", "zeros", "tls"],
)
async def test_what_is_not_grpc_harms_nobody(start: Nodes, request_bytes: bytes) -> None:
    one, other = await start(1), await start(2)
    one.reach(other)
    await connected(one, other)
    reader, writer = await asyncio.open_connection(*one.endpoint.split(":"))
    writer.write(request_bytes)
    try:
        await writer.drain()
        await asyncio.wait_for(reader.read(1 << 20), 1)
    except (ConnectionError, TimeoutError):
        pass
    await exchange(one, other)
    writer.close()
    assert one.lost == other.lost == []


# -- life


async def test_a_closed_transport_leaves_no_task_and_delivers_nothing(start: Nodes) -> None:
    before = other_tasks()
    one, two, three = await start(1), await start(2), await start(3)
    for node in (one, two, three):
        node.reach(one, two, three)
    await connected(one, two, three)
    two.send(beat(2, 1))
    await one.transport.close()
    received = list(one.received)
    await until(lambda: two.lost_nodes() == {1} and three.lost_nodes() == {1})
    two.send(beat(2, 1))
    one.send(beat(1, 2))
    await one.stop()
    await two.stop()
    await three.stop()
    await until(lambda: other_tasks() <= before)
    assert one.received == received
    assert one.lost == []
    await one.transport.close()  # once more harms nothing


async def test_a_transport_that_is_not_started_takes_no_stream(start: Nodes) -> None:
    idle = Node(2)
    port = await idle.server.start("127.0.0.1", 0)
    one = await start(1)
    one.transport.reach({NodeId(2): f"127.0.0.1:{port}"})
    await until(lambda: one.lost_nodes() == {2})
    idle.transport.start(idle)
    idle.endpoint = f"127.0.0.1:{port}"
    await connected(one, idle)
    await idle.stop()


async def test_a_transport_can_live_on_a_server_with_other_services(start: Nodes) -> None:
    node = Node(2)
    server = grpc.aio.server()
    node.transport.add_to(server)
    node.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    node.transport.start(node)
    one = await start(1)
    one.reach(node)
    await connected(one, node)
    await exchange(one, node)
    await node.transport.close()
    await until(lambda: one.lost_nodes() == {2})
    await server.stop(None)


async def test_a_port_that_is_taken_is_a_clear_error(start: Nodes) -> None:
    one = await start(1)
    other = Node(2)
    with pytest.raises(ConfigError, match="choose another port"):
        await other.server.start("127.0.0.1", int(one.endpoint.rpartition(":")[2]))


def test_without_a_secret_there_is_no_transport() -> None:
    with pytest.raises(ConfigError, match="secret"):
        GrpcTransport(cluster_id=CLUSTER, member=member(1), secret=b"")

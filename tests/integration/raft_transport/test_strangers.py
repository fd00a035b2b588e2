"""What those can do who do not belong to the quorum, or send what is no frame."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from ottla.core.types import NodeId, Uuid
from ottla.raft import handshake, wire
from ottla.raft.dialler import METHOD
from ottla.raft.grpc_transport import Limits
from ottla.raft.handshake import Hello, Side
from tests.integration.raft_transport.nodes import (
    CLUSTER,
    FAST,
    SECRET,
    Node,
    Nodes,
    beat,
    connected,
    exchange,
    lines,
    member,
    until,
)


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

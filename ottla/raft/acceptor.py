"""The side of the quorum's transport that is dialled: the servicer of `ottla.v1.Quorum`.

A stranger may hold one of a few places for the time of a handshake, and is read no more of than a hello's size. Bytes
pass through gRPC as they are: the frames are parsed here.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from ottla.core.errors import ConfigError, DecodeError
from ottla.raft.handshake import (
    Hello,
    Refused,
    Side,
    accepts,
    check_peer,
    check_proof,
    decode_hello,
    decode_proof,
    encode_hello,
    encode_welcome,
    prove,
)
from ottla.raft.links import End, Ending

if TYPE_CHECKING:
    from ottla.raft.grpc_transport import GrpcTransport

SERVICE = "ottla.v1.Quorum"
_CODES = {
    Ending.RESET: grpc.StatusCode.UNAVAILABLE,
    Ending.SILENT: grpc.StatusCode.ABORTED,
    Ending.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    Ending.REPLACED: grpc.StatusCode.ALREADY_EXISTS,
    Ending.CLOSED: grpc.StatusCode.UNAVAILABLE,
}


class Acceptor:
    """One node's accepting."""

    def __init__(self, transport: "GrpcTransport") -> None:
        self._transport = transport
        self._greeting = 0
        self._tasks: set[asyncio.Task[Refused]] = set()

    def add_to(self, server: grpc.aio.Server) -> None:
        method: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(self._exchange)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Exchange": method}),))

    async def close(self) -> None:
        """End what links have not ended, and wait for all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _exchange(self, _: Any, context: Any) -> None:
        """The task of one stream is gRPC's; it is cancelled when the stream breaks, and by nobody else."""
        task = asyncio.ensure_future(self._serve(context))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            end = await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            end = Refused(grpc.StatusCode.UNAVAILABLE, "this node leaves the quorum's transport")
        await context.abort(end.code, str(end))

    async def _serve(self, context: Any) -> Refused:
        """The whole of a stream; what it is to end with."""
        transport = self._transport
        limits = transport.limits
        if not transport.is_open:
            return Refused(grpc.StatusCode.UNAVAILABLE, "this node's quorum is not running")
        if self._greeting >= limits.max_handshakes:
            return Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._greeting} handshakes are under way")
        self._greeting += 1
        try:
            async with asyncio.timeout(limits.handshake_ms / 1000):
                theirs = await self._greet(context)
        except TimeoutError:
            return Refused(grpc.StatusCode.DEADLINE_EXCEEDED, f"no handshake within {limits.handshake_ms} ms")
        except EOFError:  # a dialler that thought better of it: the other stream stands by now
            return Refused(grpc.StatusCode.CANCELLED, "the stream ended in the middle of the handshake")
        except DecodeError as error:
            transport.tell_once(_host(context), "a stranger at the quorum's transport was refused", str(error))
            return Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Refused as refused:
            transport.tell_once(_host(context), "a peer at the quorum's transport was refused", str(refused))
            return refused
        finally:
            self._greeting -= 1
        return await self._run(context, theirs)

    async def _greet(self, context: Any) -> Hello:
        """The handshake, up to the proof of whoever dials. Raises Refused, DecodeError, EOFError."""
        transport = self._transport
        theirs, _ = decode_hello(await _frame(context))
        check_peer(transport.member.node, transport.cluster_id, theirs)
        ours = transport.hello(theirs.member.node)
        await context.write(encode_hello(ours, prove(transport.secret, Side.ACCEPTOR, theirs, ours)))
        check_proof(transport.secret, Side.DIALLER, theirs, ours, decode_proof(await _frame(context)))
        return theirs

    async def _run(self, context: Any, theirs: Hello) -> Refused:
        transport = self._transport
        own, node = transport.member.node, theirs.member.node
        peer = transport.peer(node)
        if not accepts(own, None if peer.link is None else peer.link.standing, theirs):
            return Refused(grpc.StatusCode.ALREADY_EXISTS, f"the stream that node {own} dialled stands")
        link = transport.establish(peer, theirs, context, theirs.nonce, dialled=False)
        try:
            end = await link.run(encode_welcome() if own < node else b"")
        except asyncio.CancelledError:
            transport.fell(peer, link, End(Ending.RESET, "the peer or its connection broke off"))
            raise
        transport.fell(peer, link, end)
        return Refused(_CODES[end.ending], end.detail)


async def _frame(context: Any) -> bytes:
    frame = await context.read()
    if isinstance(frame, bytes):
        return frame
    raise EOFError


def _host(context: Any) -> str:
    """Where the other end is, without its port: that is a new one each time."""
    host, _, _ = str(context.peer()).rpartition(":")
    return host


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class QuorumServer:
    """A gRPC server for the quorum alone, where a node's own one is not to be had or not wanted."""

    def __init__(self, acceptor_of: "GrpcTransport") -> None:
        limits = acceptor_of.limits
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limits.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", 100),
                ("grpc.max_metadata_size", 16 << 10),
                ("grpc.keepalive_time_ms", 10_000),  # frees what a vanished peer has left open
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a share
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", 4 << 20),
            ]
        )
        acceptor_of.add_to(self._server)

    async def start(self, host: str, port: int, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen; the port, also when 0 was asked for. Raises ConfigError when it is taken."""
        address = _address(host, port)
        try:
            if credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ConfigError(f"{address}: cannot listen there, choose another port ({error})") from None
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """After the transport was closed."""
        await self._server.stop(1)

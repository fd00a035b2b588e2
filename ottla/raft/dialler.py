"""Dials a peer until a link with it stands, and runs that link.

Whether anything listens is asked with a plain connection first. That costs 0.3 ms of processor time, where a gRPC
channel that fails costs 2.2 ms; and it tells refused from silent, which gRPC's status does not: both are UNAVAILABLE.
"""

import asyncio
import random
import socket
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from ottla.core.errors import DecodeError
from ottla.raft.handshake import (
    Refused,
    Side,
    check_peer,
    check_proof,
    decode_hello,
    decode_welcome,
    encode_hello,
    encode_proof,
    prove,
)
from ottla.raft.links import End, Ending, Link, Peer

if TYPE_CHECKING:
    from ottla.raft.grpc_transport import GrpcTransport

    Call = grpc.aio.StreamStreamCall[bytes, bytes]

METHOD = "/ottla.v1.Quorum/Exchange"
JITTER = 0.5  # the part of a delay that is drawn: nodes that lost each other at once do not dial at once
PATIENCE = 10  # attempts before it is worth a line that a peer listens and does not talk: at a start it is usual


def channel_options(max_message_bytes: int, handshake_ms: int) -> list[tuple[str, int]]:
    """For a channel that lives as long as one stream."""
    give_up_ms = handshake_ms + 500  # an attempt to connect outlives its channel; but not by gRPC's 20 s
    return [
        ("grpc.min_reconnect_backoff_ms", give_up_ms),
        ("grpc.initial_reconnect_backoff_ms", give_up_ms),
        ("grpc.max_reconnect_backoff_ms", give_up_ms),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),  # bounded before it comes here
        ("grpc.use_local_subchannel_pool", 1),  # no other channel's connection, nor its backoff
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.http2.bdp_probe", 0),  # pings beside the messages; a fixed window does
        ("grpc.http2.lookahead_bytes", 4 << 20),
    ]


class Dialler:
    """One node's dialling."""

    def __init__(self, transport: "GrpcTransport") -> None:
        self._transport = transport

    async def run(self, peer: Peer, delay_ms: float) -> None:
        """Dial, first after `delay_ms`, and run the link; and so on, until cancelled."""
        transport, limits = self._transport, self._transport.limits
        in_vain = 0  # attempts in which somebody listened, and nothing came of it
        while True:
            await asyncio.sleep(delay_ms * (1 - JITTER * random.random()) / 1000)
            longest_ms = limits.reconnect_max_ms
            why = ""
            try:
                async with asyncio.timeout(limits.handshake_ms / 1000):
                    refused = await _is_refused(peer.endpoint)
                if refused:
                    longest_ms = limits.refused_max_ms
                    transport.refused(peer.node)
                elif await self._converse(peer):
                    delay_ms = in_vain = 0
            except TimeoutError:  # silence, of which nothing follows
                why = "it is silent"
            except grpc.aio.AioRpcError as error:  # UNAVAILABLE: it is about to start, or to end
                longest_ms = limits.refused_max_ms
                why = f"{error.code().name}: {error.details()}"
                transport.refused(peer.node)
            except (OSError, ValueError) as error:  # no such host or port, no way to it
                transport.tell_once(peer.node, "a peer of the quorum cannot be dialled", str(error))
            in_vain += bool(why)
            if in_vain == PATIENCE:
                transport.tell_once(peer.node, "a peer of the quorum cannot be talked to", why)
            delay_ms = min(max(limits.reconnect_ms, delay_ms * 2), longest_ms)

    async def _converse(self, peer: Peer) -> bool:
        """One connection, from dialling to its end. Whether a link stood.

        Raises TimeoutError, and AioRpcError when the peer was UNAVAILABLE.
        """
        transport = self._transport
        limits = transport.limits
        options = channel_options(limits.max_message_bytes, limits.handshake_ms)
        if transport.credentials is None:
            channel = grpc.aio.insecure_channel(peer.endpoint, options)
        else:
            channel = grpc.aio.secure_channel(peer.endpoint, transport.credentials(), options)
        call: Call = channel.stream_stream(METHOD)()
        link: Link | None = None
        try:
            async with asyncio.timeout(limits.handshake_ms / 1000):
                link, first = await self._greet(peer, call)
            transport.fell(peer, link, await link.run(first))
        except asyncio.CancelledError:
            if link is not None:
                transport.fell(peer, link, End(Ending.CLOSED))
            raise
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:  # the peer's own stream is on its way here
                why = f"{error.code().name}: {error.details()}"
                transport.tell_once(peer.node, "a peer of the quorum hung up", why)
        except (Refused, DecodeError) as error:
            transport.tell_once(peer.node, "a peer of the quorum was refused", str(error))
        finally:
            call.cancel()
            await channel.close()
        return link is not None

    async def _greet(self, peer: Peer, call: "Call") -> tuple[Link, bytes]:
        """The handshake; the link that stands, and the frame that it is to begin with.

        Raises AioRpcError, Refused, DecodeError.
        """
        transport = self._transport
        own, secret = transport.member.node, transport.secret
        ours = transport.hello(peer.node)
        await call.write(encode_hello(ours))
        theirs, proof = decode_hello(await _frame(call))
        check_peer(own, transport.cluster_id, theirs)
        if theirs.member.node != peer.node:
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{peer.endpoint} is node {theirs.member.node} and not node {peer.node}",
            )
        check_proof(secret, Side.ACCEPTOR, ours, theirs, proof)
        own_proof = encode_proof(prove(secret, Side.DIALLER, ours, theirs))
        if own > peer.node:  # the peer decides whether this stream stands, and says so
            await call.write(own_proof)
            decode_welcome(await _frame(call))
            own_proof = b""
        # Else this node decides, now: had the peer's own stream come before, this task would be cancelled.
        return transport.establish(peer, theirs, call, ours.nonce, dialled=True), own_proof


async def _frame(call: "Call") -> bytes:
    frame = await call.read()
    if isinstance(frame, bytes):
        return frame
    raise DecodeError("the peer ended the stream in the middle of the handshake")


async def _is_refused(endpoint: str) -> bool:
    """Whether nothing listens there. Raises OSError when that is unknown, ValueError when it is no endpoint."""
    host, colon, port = endpoint.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(f"{endpoint!r} is not host:port")
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    failure: OSError | None = None
    refused = False
    for family, kind, protocol, _, address in addresses:
        probe = socket.socket(family, kind, protocol)
        try:
            probe.setblocking(False)
            await loop.sock_connect(probe, address)
        except (ConnectionRefusedError, ConnectionResetError):
            refused = True
        except OSError as error:
            failure = error
        else:
            return False
        finally:
            probe.close()
    if not refused and failure is not None:
        raise failure
    return True

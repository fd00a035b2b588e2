"""How two nodes come to one stream: who each is, what proves it, and which of two streams stands.

Pure functions of bytes; `proto/ottla/v1/quorum.proto` draws the exchange. The proofs are challenge and response: each
side gives the HMAC, under the cluster's secret, of both hellos with their nonces, and of the side that it is on. So the
secret never travels, a recorded proof fits no other stream, and a proof cannot be thrown back at its maker. They say
who is at both ends, not that nobody listens between them: that is TLS's matter.
"""

import hmac
import struct
from dataclasses import dataclass
from enum import Enum

import grpc

from ottla.core.errors import DecodeError, OttlaError
from ottla.core.types import NodeId, Uuid, format_uuid
from ottla.raft import wire
from ottla.raft.core.member import Member
from ottla.v1 import quorum_pb2 as pb

PROTOCOL_VERSION = 1
NONCE_BYTES = 16
MAX_HELLO_BYTES = 4096  # nothing longer is looked at before its sender has proved itself
_SIGNED = struct.Struct(">B" + "i16si16si16s16s16s" * 2)


class Side(Enum):
    """Of a stream: which one a proof is for."""

    DIALLER = 1
    ACCEPTOR = 2


class Refused(OttlaError):
    """No stream with this peer, for a reason that trying again does not mend."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a side says of itself; the fields are explained in `quorum.proto`."""

    cluster_id: Uuid
    member: Member
    peer: NodeId
    nonce: bytes
    incarnation: bytes
    last_stream: bytes = b""
    version: int = PROTOCOL_VERSION


def encode_hello(hello: Hello, proof: bytes = b"") -> bytes:
    """The dialler's first frame; with a proof, the acceptor's."""
    return pb.QuorumFrame(
        hello=pb.QuorumHello(
            protocol_version=hello.version,
            cluster_id=hello.cluster_id,
            node_id=hello.member.node,
            directory_id=hello.member.directory,
            peer_node_id=hello.peer,
            nonce=hello.nonce,
            incarnation=hello.incarnation,
            last_stream=hello.last_stream,
        ),
        proof=proof,
    ).SerializeToString()


def encode_proof(proof: bytes) -> bytes:
    """The dialler's second frame."""
    return pb.QuorumFrame(proof=proof).SerializeToString()


def encode_welcome() -> bytes:
    """What tells a dialler of the higher node id that its stream stands."""
    return pb.QuorumFrame(welcome=True).SerializeToString()


def decode_hello(data: bytes) -> tuple[Hello, bytes]:
    """A hello and the proof beside it. Raises DecodeError, and Refused for another version."""
    frame = _small_frame(data)
    if not frame.HasField("hello"):
        raise DecodeError("a stream that begins without a hello")
    hello = frame.hello
    if hello.protocol_version != PROTOCOL_VERSION:  # the other fields may mean something else there
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"node {hello.node_id} speaks version {hello.protocol_version} of the quorum's protocol, "
            f"its peer version {PROTOCOL_VERSION}",
        )
    if (
        not len(hello.cluster_id) == len(hello.nonce) == len(hello.incarnation) == NONCE_BYTES
        or len(hello.last_stream) not in (0, NONCE_BYTES)
    ):  # fmt: skip
        raise DecodeError("a hello whose ids are not of 16 bytes")
    return Hello(
        version=hello.protocol_version,
        cluster_id=Uuid(hello.cluster_id),
        member=wire.member_of(hello.node_id, hello.directory_id),
        peer=NodeId(hello.peer_node_id),
        nonce=hello.nonce,
        incarnation=hello.incarnation,
        last_stream=hello.last_stream,
    ), frame.proof


def decode_proof(data: bytes) -> bytes:
    """Raises DecodeError."""
    return _small_frame(data).proof


def decode_welcome(data: bytes) -> None:
    """Raises DecodeError for anything else."""
    if not _small_frame(data).welcome:
        raise DecodeError("a frame where a welcome is due")


def check_peer(own: NodeId, cluster_id: Uuid, theirs: Hello) -> None:
    """Raises Refused unless it is another node of the same cluster, and means this one."""
    node = theirs.member.node
    if theirs.cluster_id != cluster_id:
        reason = (
            f"node {node} belongs to cluster {format_uuid(theirs.cluster_id)}, "
            f"its peer node {own} to cluster {format_uuid(cluster_id)}"
        )
    elif node == own:
        reason = f"both nodes have the id {own}"
    elif theirs.peer != own:
        reason = f"node {node} looks for node {theirs.peer}, but this is node {own}: an endpoint is wrong"
    else:
        return
    raise Refused(grpc.StatusCode.FAILED_PRECONDITION, reason)


def prove(secret: bytes, side: Side, dialler: Hello, acceptor: Hello) -> bytes:
    """What only a holder of the secret can say in this exchange, on this side."""
    return hmac.digest(secret, _SIGNED.pack(side.value, *_fields(dialler), *_fields(acceptor)), "sha256")


def check_proof(secret: bytes, side: Side, dialler: Hello, acceptor: Hello, proof: bytes) -> None:
    """Raises Refused unless `proof` is what `prove` gives."""
    if not hmac.compare_digest(proof, prove(secret, side, dialler, acceptor)):
        node = (dialler if side is Side.DIALLER else acceptor).member.node
        raise Refused(
            grpc.StatusCode.UNAUTHENTICATED,
            f"node {node} does not know the secret of cluster {format_uuid(dialler.cluster_id)}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The stream that stands between this node and a peer, as far as this node knows."""

    name: bytes  # the dialler's nonce
    dialled: bool  # by this node
    incarnation: bytes  # the peer's


def accepts(own: NodeId, standing: Standing | None, theirs: Hello) -> bool:
    """Whether a stream that the peer dialled, and has proved its right to, is to stand; in place of `standing`, if so.

    Who dials has no stream, so what stands here is lost over there, with one exception: this node has dialled too, has
    decided for its own stream (its id is the lower one), and the peer cannot have known that yet.
    """
    if standing is None or not standing.dialled or own > theirs.member.node:
        return True
    return theirs.incarnation != standing.incarnation or theirs.last_stream == standing.name


def _fields(hello: Hello) -> tuple[int, bytes, int, bytes, int, bytes, bytes, bytes]:
    member = hello.member
    return (
        hello.version, hello.cluster_id, member.node, member.directory, hello.peer,
        hello.nonce, hello.incarnation, hello.last_stream or bytes(NONCE_BYTES),
    )  # fmt: skip


def _small_frame(data: bytes) -> pb.QuorumFrame:
    if len(data) > MAX_HELLO_BYTES:
        raise DecodeError(f"a first frame of {len(data)} bytes")
    return wire.parse_frame(data)

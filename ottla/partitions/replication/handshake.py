"""How two nodes of a cluster convince each other: HMAC-SHA256 over the cluster's secret, both ways.

    follower ── HELLO (who, whom it means, nonce) ──▶ leader
    follower ◀── CHALLENGE (who, nonce, proof over HELLO and itself) ── leader
    follower ── PROOF (over both) ──▶ leader
    follower ◀── WELCOME ── leader

A proof covers everything that was said before, under a label of its sender's role, so none can be replayed or
reflected. It says nothing of the bytes that follow: on a network that others share, TLS runs below. A dialler that is
not the youngest known incarnation of its node is turned away here, before it can tell anything.
"""

from hashlib import sha256
from hmac import compare_digest, digest
from typing import Final

from ottla.core.errors import DecodeError, OttlaError
from ottla.core.ports import Random
from ottla.core.types import Buffer, NodeId, Uuid
from ottla.partitions.replication import wire
from ottla.partitions.replication.wire import Challenge, Hello, Kind

_LEADER: Final = b"ottla replica protocol, leader\0"
_FOLLOWER: Final = b"ottla replica protocol, follower\0"


class Refused(OttlaError):
    """The other side is not who it should be."""


class Identity:
    """What a node knows of itself. `broker_epoch` is that of its latest registration: the owner keeps it current."""

    __slots__ = ("broker_epoch", "cluster_id", "incarnation", "node", "secret")

    def __init__(self, *, cluster_id: Uuid, node: NodeId, incarnation: Uuid, secret: bytes) -> None:
        if not secret:
            raise ValueError("replicas need the cluster's secret")
        self.cluster_id, self.node, self.incarnation, self.secret = cluster_id, node, incarnation, secret
        self.broker_epoch = -1

    def proof(self, label: bytes, *said: Buffer) -> bytes:
        transcript = sha256(label)
        for part in said:
            transcript.update(len(part).to_bytes(4, "big"))
            transcript.update(part)
        return digest(self.secret, transcript.digest(), "sha256")


class Dialler:
    """The follower's side. `random` must be unpredictable outside of tests."""

    def __init__(self, identity: Identity, leader: NodeId, random: Random) -> None:
        self._identity, self._leader = identity, leader
        self._hello = wire.encode_hello(
            Hello(
                identity.cluster_id,
                identity.node,
                leader,
                identity.broker_epoch,
                identity.incarnation,
                random.randbytes(wire.NONCE_BYTES),
            )
        )

    def hello(self) -> bytes:
        """The first frame."""
        return wire.frame(Kind.HELLO, self._hello)

    def challenged(self, body: Buffer) -> bytes:
        """The frame that answers CHALLENGE; raises Refused or DecodeError."""
        body = bytes(body)
        challenge = wire.decode_challenge(body)
        unproved = body[: -wire.PROOF_BYTES]
        if not compare_digest(challenge.proof, self._identity.proof(_LEADER, self._hello, unproved)):
            raise Refused("the leader does not know this cluster's secret")
        if challenge.node != self._leader:
            raise Refused(f"node {challenge.node} answers where node {self._leader} was expected")
        return wire.frame(Kind.PROOF, self._identity.proof(_FOLLOWER, self._hello, body))


class Doorkeeper:
    """The leader's side."""

    def __init__(self, identity: Identity, random: Random) -> None:
        self._identity, self._random = identity, random
        self.hello: Hello | None = None
        self._expected = b""

    def greeted(self, body: Buffer) -> bytes:
        """The frame that answers HELLO; raises Refused or DecodeError."""
        if self.hello is not None:
            raise DecodeError("HELLO came twice")
        body, identity = bytes(body), self._identity
        hello = wire.decode_hello(body)
        if hello.cluster_id != identity.cluster_id:
            raise Refused("it belongs to another cluster")
        if hello.leader != identity.node:
            raise Refused(f"it looks for node {hello.leader}, this is node {identity.node}")
        if hello.node == identity.node:
            raise Refused("it claims to be this very node")
        nonce = self._random.randbytes(wire.NONCE_BYTES)
        unproved = wire.encode_challenge(Challenge(identity.node, identity.broker_epoch, nonce, b""))
        unproved = unproved[: -wire.PROOF_BYTES]
        challenge = unproved + identity.proof(_LEADER, body, unproved)
        self.hello, self._expected = hello, identity.proof(_FOLLOWER, body, challenge)
        return wire.frame(Kind.CHALLENGE, challenge)

    def proved(self, body: Buffer) -> Hello:
        """Who it is, now for certain; raises Refused."""
        if self.hello is None:
            raise DecodeError("PROOF came before HELLO")
        if not compare_digest(bytes(body), self._expected):
            raise Refused("it does not know this cluster's secret")
        return self.hello

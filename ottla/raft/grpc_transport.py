"""The quorum's transport in production: one gRPC stream between each pair of nodes (service `ottla.v1.Quorum`).

Either node dials, so a leader reaches a new member that knows nobody; `handshake` proves who they are, and decides when
both have dialled. `dialler` and `acceptor` bring links about, a `links.Link` moves the frames, and this module knows
which one stands with whom. Nothing here waits for a peer but that peer's own tasks.

A link ends when its stream breaks, which the receiver is told (`unreachable`), or after some seconds of silence, which
it is not: every node sends an empty frame when it has had nothing to say for a second. Faster judgement is Raft's.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc
import grpc.aio
import structlog

from ottla.core.errors import ConfigError, DecodeError
from ottla.core.ports import MeshEvents
from ottla.core.types import NodeId, Uuid
from ottla.raft import wire
from ottla.raft.acceptor import Acceptor
from ottla.raft.core.member import Member
from ottla.raft.core.messages import Message
from ottla.raft.dialler import Dialler
from ottla.raft.handshake import NONCE_BYTES, Hello, Standing
from ottla.raft.links import End, Ending, Link, Outgoing, Peer, Stream
from ottla.raft.transport import Receiver

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes and times of the transport. They need not be the same on all nodes, but for the first."""

    max_message_bytes: int = 16 << 20  # of a frame; a longer message is not sent
    batch_bytes: int = 1 << 20  # messages that wait are joined into frames of this size
    queue_bytes: int = 32 << 20  # what may wait for one peer; what comes then is dropped, since Raft repeats it
    handshake_ms: int = 2_000  # from dialling to the end of the handshake
    max_handshakes: int = 32  # of strangers at a time: each may cost as much memory as a frame
    keepalive_ms: int = 1_000  # after so long without a message an empty frame is sent ...
    silence_ms: int = 4_000  # ... and after so long without any frame the stream is given up
    reconnect_ms: int = 50  # before dialling again; doubles ...
    reconnect_max_ms: int = 1_000  # ... up to this
    refused_max_ms: int = 150  # or this, where the peer's host answers that nothing listens, which costs it nothing


class GrpcTransport:
    """Implements `transport.Transport`. Used on one loop, and there from `start` on."""

    def __init__(
        self,
        *,
        cluster_id: Uuid,
        member: Member,
        secret: bytes,
        credentials: Callable[[], grpc.ChannelCredentials] | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`secret`: the cluster's. `credentials` gives those for dialling with TLS, asked for at each attempt, as
        certificates are renewed; the server's ones are where it is bound.

        Raises ConfigError without a secret.
        """
        if not secret:
            raise ConfigError("the quorum's transport needs the cluster's secret, and it is empty")
        self.cluster_id = cluster_id
        self.member = member
        self.secret = secret
        self.credentials = credentials
        self.limits = limits or Limits()
        self._incarnation = os.urandom(NONCE_BYTES)
        self._peers: dict[NodeId, Peer] = {}
        self._receiver: Receiver | None = None
        self._events: MeshEvents | None = None
        self._quorum: Mapping[NodeId, str] = {}
        self._others: Mapping[NodeId, str] = {}
        self._dialler = Dialler(self)
        self._acceptor = Acceptor(self)
        self._watch: asyncio.TimerHandle | None = None
        self._told: set[tuple[object, ...]] = set()
        self._told_of_strangers: set[tuple[object, ...]] = set()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve `ottla.v1.Quorum` there; before the server starts. Close the transport before the server."""
        self._acceptor.add_to(server)

    # -- the port

    def start(self, receiver: Receiver) -> None:
        """Deliver to `receiver` from now on; accept, and dial whoever `reach` named or will name."""
        self._receiver = receiver
        self._watch_later(asyncio.get_running_loop())
        for peer in self._peers.values():
            self._dial(peer)

    def reach(self, endpoints: Mapping[NodeId, str]) -> None:
        """Whom this node may dial, and where. A peer that is not named, or has no endpoint, may still dial it."""
        self._quorum = endpoints
        self._reach({**endpoints, **self._others})

    def send(self, message: Message) -> None:
        """Queue for the peer. Dropped when no link stands, when too much waits, or when it is too long for a frame."""
        peer = self._peers.get(message.target.node)
        if peer is None or (link := peer.link) is None:
            return
        frame = wire.encode(message)
        if len(frame) > self.limits.max_message_bytes:
            _log.error(
                "a message of the quorum is too long and was not sent",
                peer=peer.node, kind=type(message).__name__, bytes=len(frame), limit=self.limits.max_message_bytes,
            )  # fmt: skip
            return
        if peer.outgoing.put(frame):
            link.wake()

    # -- the port `Mesh`

    def attach(self, events: MeshEvents) -> None:
        """See `Mesh`."""
        self._events = events
        for peer in tuple(self._peers.values()):
            if peer.link is not None:
                events.linked(peer.node)

    def reach_also(self, endpoints: Mapping[NodeId, str]) -> None:
        """See `Mesh`. Where both name a node, this counts: who says so knows where that node is now."""
        self._others = endpoints
        self._reach({**self._quorum, **endpoints})

    def is_linked(self, node: NodeId) -> bool:
        """See `Mesh`."""
        peer = self._peers.get(node)
        return peer is not None and peer.link is not None

    def send_frame(self, node: NodeId, frame: bytes) -> bool:
        """See `Mesh`."""
        peer = self._peers.get(node)
        if peer is None or (link := peer.link) is None:
            return False
        encoded = wire.encode_control(frame)
        if len(encoded) > self.limits.max_message_bytes:
            _log.error("a control frame is too long and was not sent", peer=node, bytes=len(encoded))
            return False
        if not peer.outgoing.put(encoded):
            return False
        link.wake()
        return True

    async def close(self) -> None:
        """End all links, and wait until they have ended."""
        self._receiver = self._events = None
        if self._watch is not None:
            self._watch.cancel()
        tasks = []
        for peer in self._peers.values():
            if peer.dialling is not None:
                tasks.append(peer.dialling)
            self._part_from(peer)
        self._peers.clear()
        await asyncio.gather(*tasks, self._acceptor.close(), return_exceptions=True)

    # -- for the dialler and the acceptor

    @property
    def is_open(self) -> bool:
        """Between `start` and `close`."""
        return self._receiver is not None

    def peer(self, node: NodeId) -> Peer:
        """What is known of it; made when nothing is."""
        found = self._peers.get(node)
        if found is None:
            found = self._peers[node] = Peer(node, Outgoing(self.limits.queue_bytes, self.limits.batch_bytes))
        return found

    def hello(self, node: NodeId) -> Hello:
        """A new one, for that peer."""
        peer = self._peers.get(node)
        return Hello(
            cluster_id=self.cluster_id,
            member=self.member,
            peer=node,
            nonce=os.urandom(NONCE_BYTES),
            incarnation=self._incarnation,
            last_stream=b"" if peer is None else peer.last_stream,
        )

    def establish(self, peer: Peer, theirs: Hello, stream: Stream, name: bytes, *, dialled: bool) -> Link:
        """From now on this stream stands, whatever stood before; its link is still to be run."""
        standing = Standing(name=name, dialled=dialled, incarnation=theirs.incarnation)
        link = Link(stream, theirs.member, standing, peer.outgoing, self._deliver)
        if peer.link is not None:
            peer.link.end(End(Ending.REPLACED, "another stream of the same nodes stands"))
            self._unlinked(peer, broken=False)
        if not dialled:
            self._stop_dialling(peer)
        peer.link = link
        peer.last_stream = name
        self._told = {key for key in self._told if key[0] != peer.node}
        _log.info("a quorum link stands", peer=peer.node, dialled_by=self.member.node if dialled else peer.node)
        if self._receiver is not None:
            self._receiver.connected(peer.node)
        if self._events is not None:
            self._events.linked(peer.node)
        return link

    def fell(self, peer: Peer, link: Link, end: End) -> None:
        """The link has ended."""
        if peer.link is not link or self._receiver is None:
            return
        peer.link = None
        peer.outgoing.clear()
        level = _log.error if end.ending is Ending.MALFORMED else _log.info
        level("a quorum link has ended", peer=peer.node, how=end.ending.name, detail=end.detail)
        if peer.endpoint:
            self._dial(peer, self.limits.reconnect_ms)
        else:
            self._peers.pop(peer.node, None)
        if end.ending is Ending.RESET:
            self._receiver.unreachable(peer.node)
        self._unlinked(peer, broken=end.ending is Ending.RESET)

    def refused(self, node: NodeId) -> None:
        """Nothing listens where the peer should be, or it hung up before a link stood."""
        if self._receiver is not None:
            self._receiver.unreachable(node)
        if self._events is not None:
            self._events.refused(node)

    def tell_once(self, peer: NodeId | str, event: str, detail: str) -> None:
        """A warning that is not repeated: of a peer until a link with it stands; of a stranger, known by its host,
        never. Strangers have room for a few lines, however they vary what they say.
        """
        told, room = (self._told_of_strangers, 64) if isinstance(peer, str) else (self._told, 1024)
        key = (peer, event, detail)
        if key not in told and len(told) < room:
            told.add(key)
            _log.warning(event, peer=peer, detail=detail)

    # --

    def _reach(self, endpoints: Mapping[NodeId, str]) -> None:
        for peer in list(self._peers.values()):
            if peer.node not in endpoints:
                peer.endpoint = ""
                if peer.link is None or peer.link.standing.dialled:
                    self._part_from(self._peers.pop(peer.node))
        for node, endpoint in endpoints.items():
            if node == self.member.node:
                continue
            peer = self.peer(node)
            if peer.endpoint != endpoint:
                peer.endpoint = endpoint
                if peer.link is None:
                    self._stop_dialling(peer)
            self._dial(peer)

    def _unlinked(self, peer: Peer, *, broken: bool) -> None:
        if self._events is not None:
            self._events.unlinked(peer.node, broken=broken)

    def _dial(self, peer: Peer, delay_ms: float = 0) -> None:
        if self._receiver is not None and peer.endpoint and peer.link is None and peer.dialling is None:
            task = asyncio.get_running_loop().create_task(
                self._dialler.run(peer, delay_ms), name=f"quorum-dial-{peer.node}"
            )
            peer.dialling = task
            task.add_done_callback(lambda _: self._dialled(peer, task))

    def _dialled(self, peer: Peer, task: "asyncio.Task[None]") -> None:
        if peer.dialling is task:
            peer.dialling = None
            if self._peers.get(peer.node) is peer:
                self._dial(peer, self.limits.reconnect_max_ms)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("dialling a peer of the quorum failed", peer=peer.node, exc_info=error)

    def _stop_dialling(self, peer: Peer) -> None:
        task, peer.dialling = peer.dialling, None
        if task is not None:
            task.cancel()

    def _part_from(self, peer: Peer) -> None:
        link, peer.link = peer.link, None
        if link is not None:
            link.end(End(Ending.CLOSED, "the other node has closed the link"))
            self._unlinked(peer, broken=False)
        peer.endpoint = ""
        peer.outgoing.clear()
        self._stop_dialling(peer)

    def _deliver(self, link: Link, data: bytes) -> None:
        """A frame has come. Raises DecodeError."""
        if len(data) > self.limits.max_message_bytes:
            raise DecodeError(f"a frame of {len(data)} bytes")
        own, peer = self.member.node, link.peer
        messages, control = wire.decode_frame(data)
        for frame in control:
            self._deliver_control(peer.node, frame)
        for message in messages:
            if self._receiver is None:
                return
            if message.source != peer or message.target.node != own:
                self.tell_once(
                    peer.node, "a message of the quorum that is not its sender's, or for another node, was dropped",
                    f"from {message.source} to {message.target}, over the link of {peer} with node {own}",
                )  # fmt: skip
                continue
            try:
                self._receiver.receive(message)
            except Exception:  # a defect of the receiver, and no reason to part from the peer
                _log.exception("a message of the quorum was not taken", peer=peer.node, kind=type(message).__name__)

    def _deliver_control(self, node: NodeId, frame: bytes) -> None:
        if self._events is None:
            return
        try:
            self._events.received(node, frame)
        except Exception:  # as below
            _log.exception("a control frame was not taken", peer=node)

    def _watch_later(self, loop: asyncio.AbstractEventLoop) -> None:
        pace_s = self.limits.keepalive_ms / 1000
        self._watch = loop.call_later(pace_s, self._watch_links, loop, loop.time() + pace_s)

    def _watch_links(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        pace_s = self.limits.keepalive_ms / 1000
        stalled = loop.time() > due + pace_s  # this node stood still: what its peers sent is still to be read
        for peer in self._peers.values():
            if (link := peer.link) is not None:
                link.watch()
                if stalled:
                    link.quiet_for = 0
                elif link.quiet_for * self.limits.keepalive_ms >= self.limits.silence_ms:
                    link.end(End(Ending.SILENT, f"nothing was heard for {self.limits.silence_ms} ms"))
        self._watch_later(loop)

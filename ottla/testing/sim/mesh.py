"""The mesh between the nodes of a `World`: one stream for each pair, for Raft's messages and the frames of others.

A `SimMesh` is both ports of one process, `ottla.raft.transport.Transport` and `ottla.core.ports.Mesh`, and behaves as
the gRPC transport does: either side dials; frames arrive in order or the stream ends; a process that dies resets its
streams, a machine without power says nothing; a cut link holds everything back until it is mended, or one side has
heard nothing for too long and gives up.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ottla.core.ports import MeshEvents, Random
from ottla.core.types import NodeId
from ottla.raft.core.messages import Message
from ottla.raft.transport import Receiver
from ottla.testing.sim.loop import SimLoop, World

SILENCE_S: Final = 4.0
LOOK_S: Final = 1.0
HANDSHAKE_S: Final = 2.0
REDIAL_S: Final = 0.05
REFUSED_S: Final = 0.15

Way = tuple[NodeId, NodeId]


class Codec(Protocol):
    """How a message travels as bytes."""

    def encode(self, message: Message) -> bytes: ...
    def decode(self, data: bytes) -> Message: ...


class SimMeshes:
    """Who is where, and how good the links are. `cut` holds one-way cuts, (from, to); call `mended` after a removal."""

    def __init__(self, world: World, random: Random, *, codec: Codec | None = None) -> None:
        self.world, self.random, self.codec = world, random, codec
        self.delay_ms = (0.1, 1.0)
        self.late = 0.0  # the part of the frames that take up to `latest_ms`: retransmitted, so what follows waits, too
        self.latest_ms = 400.0
        self.cut: set[Way] = set()
        self.slow: dict[Way, float] = {}  # milliseconds more
        self.silent: set[NodeId] = set()  # machines without power: nobody refuses a connection
        self.on_send: Callable[[Message], None] | None = None
        self.on_event: Callable[[str, NodeId, NodeId, object], None] | None = None
        self.stations: dict[NodeId, SimMesh] = {}
        self.delivered = 0

    def mesh(self, node: NodeId, loop: SimLoop) -> "SimMesh":
        """The ports of one process; it can be reached from `start` on."""
        return SimMesh(self, node, loop)

    def mended(self) -> None:
        """Links were cut and are not any more: what was held back goes on."""
        for station in list(self.stations.values()):
            for end in list(station.ends.values()):
                end.go_on()

    def reset(self, one: NodeId, other: NodeId) -> None:
        """The stream between two nodes breaks, and both learn of it."""
        self.tell("reset", one, other)
        for node, peer in ((one, other), (other, one)):
            station = self.stations.get(node)
            if station is not None and (end := station.ends.get(peer)) is not None:
                end.over(broken=True)

    def died(self, node: NodeId, *, silent: bool) -> None:
        """A process ended. Its streams are reset, unless the whole machine went without a word."""
        self.silent.discard(node)
        if silent:
            self.silent.add(node)
        station = self.stations.pop(node, None)
        if station is None:
            return
        for peer, end in list(station.ends.items()):
            other = end.other
            end.abandon()
            if not silent and other is not None and (node, peer) not in self.cut:
                self.world.call_later(self.delay_s((node, peer)), other.over, True)

    def delay_s(self, way: Way) -> float:
        random = self.random
        low, high = self.delay_ms
        if self.late and random.random() < self.late:
            high = self.latest_ms
        return (low + random.random() * (high - low) + self.slow.get(way, 0.0)) / 1000

    def is_cut(self, one: NodeId, other: NodeId) -> bool:
        """In either direction: nothing can be opened."""
        return (one, other) in self.cut or (other, one) in self.cut

    def tell(self, what: str, source: NodeId, target: NodeId, detail: object = "") -> None:
        if self.on_event is not None:
            self.on_event(what, source, target, detail)


class SimMesh:
    """Both ports of one process."""

    def __init__(self, meshes: SimMeshes, node: NodeId, loop: SimLoop) -> None:
        self.node, self.loop = node, loop
        self.ends: dict[NodeId, End] = {}
        self._meshes = meshes
        self._receiver: Receiver | None = None
        self._events: MeshEvents | None = None
        self._quorum: Mapping[NodeId, str] = {}
        self._others: Mapping[NodeId, str] = {}
        self._dialling: set[NodeId] = set()

    # -- the port `Transport`

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._meshes.silent.discard(self.node)
        self._meshes.stations[self.node] = self
        self._dial_all()

    def reach(self, endpoints: Mapping[NodeId, str]) -> None:
        self._quorum = dict(endpoints)
        self._dial_all()

    def send(self, message: Message) -> None:
        end = self.ends.get(message.target.node)
        if end is None or not self.loop.alive:
            return
        meshes = self._meshes
        if meshes.on_send is not None:
            meshes.on_send(message)
        end.send(message if meshes.codec is None else meshes.codec.encode(message), is_control=False)

    async def close(self) -> None:
        self._receiver = self._events = None
        meshes = self._meshes
        if meshes.stations.get(self.node) is self:
            meshes.died(self.node, silent=False)

    # -- the port `Mesh`

    def attach(self, events: MeshEvents) -> None:
        self._events = events
        for node in tuple(self.ends):
            events.linked(node)

    def reach_also(self, endpoints: Mapping[NodeId, str]) -> None:
        self._others = dict(endpoints)
        self._dial_all()

    def is_linked(self, node: NodeId) -> bool:
        return node in self.ends

    def send_frame(self, node: NodeId, frame: bytes) -> bool:
        end = self.ends.get(node)
        if end is None or not self.loop.alive:
            return False
        end.send(frame, is_control=True)
        return True

    # -- links come about

    def _dial_all(self) -> None:
        for node in {**self._quorum, **self._others}:
            if node != self.node:
                self._dial_later(node, 0.0)

    def _dial_later(self, node: NodeId, after_s: float) -> None:
        if self._receiver is not None and node not in self._dialling and node not in self.ends:
            self._dialling.add(node)
            meshes = self._meshes
            meshes.world.call_later(after_s + meshes.delay_s((self.node, node)), self._dial, node)

    def _dial(self, node: NodeId) -> None:
        self._dialling.discard(node)
        meshes = self._meshes
        if self._receiver is None or not self.loop.alive or node in self.ends:
            return
        target = meshes.stations.get(node)
        if self.loop.paused or meshes.is_cut(self.node, node) or (target is None and node in meshes.silent):
            self._dial_later(node, HANDSHAKE_S)  # nobody answers
        elif target is None:
            meshes.tell("refused", self.node, node)
            self.on_loop(self._refused, node)
            self._dial_later(node, REFUSED_S)
        elif target.loop.paused:
            self._dial_later(node, HANDSHAKE_S)
        else:
            self._establish(target)

    def _establish(self, target: "SimMesh") -> None:
        meshes = self._meshes
        for station, peer in ((self, target.node), (target, self.node)):
            if (old := station.ends.get(peer)) is not None:  # of a process that died without a word
                old.over(broken=False)
        ours, theirs = End(meshes, self, target.node), End(meshes, target, self.node)
        ours.other, theirs.other = theirs, ours
        meshes.tell("linked", self.node, target.node)
        for end in (ours, theirs):
            end.station.ends[end.peer] = end
            end.look()
            end.station.on_loop(end.station.linked, end)

    # -- on this process's loop

    def on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        if self.loop.alive:
            self.loop.call_soon(callback, *arguments)

    def linked(self, end: "End") -> None:
        if self.ends.get(end.peer) is not end:
            return
        if self._receiver is not None:
            self._receiver.connected(end.peer)
        if self._events is not None:
            self._events.linked(end.peer)

    def unlinked(self, peer: NodeId, broken: bool) -> None:
        if broken and self._receiver is not None:
            self._receiver.unreachable(peer)
        if self._events is not None:
            self._events.unlinked(peer, broken=broken)
        if peer in self._quorum or peer in self._others:
            self._dial_later(peer, REDIAL_S)

    def _refused(self, node: NodeId) -> None:
        if self._receiver is not None:
            self._receiver.unreachable(node)
        if self._events is not None:
            self._events.refused(node)

    def deliver(self, end: "End", carried: Message | bytes, is_control: bool) -> None:
        if end.is_over:
            return
        if is_control:
            assert isinstance(carried, bytes)
            if self._events is not None:
                self._events.received(end.peer, carried)
            return
        if isinstance(carried, bytes):
            assert self._meshes.codec is not None
            carried = self._meshes.codec.decode(carried)
        if self._receiver is not None:
            self._receiver.receive(carried)


class End:
    """One side of a stream."""

    def __init__(self, meshes: SimMeshes, station: SimMesh, peer: NodeId) -> None:
        self.station, self.peer = station, peer
        self.other: End | None = None
        self.is_over = False
        self._meshes = meshes
        self._queue: deque[tuple[float, Message | bytes, bool]] = deque()
        self._due_s = 0.0
        self._heard_s = meshes.world.now_s

    def send(self, carried: Message | bytes, *, is_control: bool) -> None:
        world = self._meshes.world
        self._due_s = max(self._due_s, world.now_s + self._meshes.delay_s((self.station.node, self.peer)))
        self._queue.append((self._due_s, carried, is_control))
        world.call_at(self._due_s, self.go_on)

    def go_on(self) -> None:
        """Deliver what is due, unless the link is cut."""
        meshes, other = self._meshes, self.other
        way = (self.station.node, self.peer)
        if self.is_over or way in meshes.cut:
            return
        while self._queue and self._queue[0][0] <= meshes.world.now_s:
            _, carried, is_control = self._queue.popleft()
            if other is None or other.is_over:
                if meshes.stations.get(self.peer) is not None or self.peer not in meshes.silent:
                    self.over(True)  # whoever is there knows nothing of this stream
                return
            meshes.delivered += 1
            if not is_control:
                meshes.tell("<-", *way, carried)
            other.station.on_loop(other.station.deliver, other, carried, is_control)

    def look(self) -> None:
        """Once a second: each side is heard in that time, if anything comes through; give up after a long silence."""
        if self.is_over:
            return
        world, meshes, other = self._meshes.world, self._meshes, self.other
        heard = other is not None and not other.is_over and not other.station.loop.paused and other.station.loop.alive
        if (heard and (self.peer, self.station.node) not in meshes.cut) or self.station.loop.paused:
            self._heard_s = world.now_s
        elif world.now_s - self._heard_s >= SILENCE_S:
            meshes.tell("silent", self.station.node, self.peer)
            self.over(False)
            if other is not None and (self.station.node, self.peer) not in meshes.cut:
                world.call_later(meshes.delay_s((self.station.node, self.peer)), other.over, True)
            return
        world.call_later(LOOK_S, self.look)

    def over(self, broken: bool) -> None:
        """The stream has ended for this side, whose process learns of it."""
        if not self.is_over:
            self.abandon()
            self.station.on_loop(self.station.unlinked, self.peer, broken)

    def abandon(self) -> None:
        """Nothing comes or goes any more."""
        self.is_over = True
        self._queue.clear()
        if self.station.ends.get(self.peer) is self:
            del self.station.ends[self.peer]

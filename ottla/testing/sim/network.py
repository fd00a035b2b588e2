"""The network between the members of a quorum: it loses, delays, repeats and reorders, cuts and resets; seeded.

Each node has a `SimTransport` (the port `ottla.raft.transport.Transport`) at an address. The fate of a message is drawn
when it is sent; it finds whoever is at the address when it arrives. What a running node learns of a dead peer is what
TCP tells: a refused or reset connection (`Receiver.unreachable`), or nothing of a machine that lost its power.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from ottla.core.ports import Random
from ottla.core.types import NodeId
from ottla.raft.core.messages import Message
from ottla.raft.transport import Receiver
from ottla.testing.sim.loop import SimLoop, World

REFUSED_EVERY_S = 0.1  # a transport tries a dead peer again after a pause, and says so only then


class Codec(Protocol):
    """How a message travels as bytes."""

    def encode(self, message: Message) -> bytes: ...
    def decode(self, data: bytes) -> Message: ...


class SimNetwork:
    """Who is where, and how good the links are. All probabilities are per message."""

    def __init__(self, world: World, random: Random, *, codec: Codec | None = None) -> None:
        self.world = world
        self.codec = codec
        self.loss = 0.0
        self.duplicates = 0.0
        self.delay_ms = (0.1, 1.0)
        self.late = 0.0  # the part of the messages that take up to `latest_ms`
        self.latest_ms = 1000.0
        self.resets = 0.0
        self.cut: set[tuple[NodeId, NodeId]] = set()  # one-way, (from, to)
        self.slow: dict[tuple[NodeId, NodeId], float] = {}  # milliseconds more
        self.silent: set[NodeId] = set()  # machines without power: nobody refuses a connection
        self.on_send: Callable[[Message], None] | None = None
        self.on_event: Callable[[str, NodeId, NodeId, Message | None], None] | None = None
        self.delivered = 0
        self._random = random
        self._stations: dict[str, SimTransport] = {}
        self._addresses: dict[NodeId, str] = {}  # where each node was last
        self._epochs: dict[tuple[NodeId, NodeId], int] = {}  # of the connection between two nodes
        self._refused_s: dict[tuple[NodeId, NodeId], float] = {}

    def transport(self, node: NodeId, address: str, loop: SimLoop) -> "SimTransport":
        """The way of one process to the others; it is at its address from `start` on."""
        return SimTransport(self, node, address, loop)

    def heal(self) -> None:
        """A good network from now on."""
        self.loss = self.duplicates = self.late = self.resets = 0.0
        self.cut.clear()
        self.slow.clear()

    def reset(self, one: NodeId, other: NodeId) -> None:
        """The connection between two nodes breaks: what is on its way is lost, and both learn of it."""
        self._break(one, other)
        self._tell("reset", one, other, None)
        for node, peer in ((one, other), (other, one)):
            self.world.call_later(self._delay_s(), self._unreachable, node, peer)

    def died(self, node: NodeId, *, silent: bool) -> None:
        """A process ended. Its connections are reset, unless the whole machine went without a word."""
        self.silent.discard(node)
        if silent:
            self.silent.add(node)
        for peer in sorted({station.node for station in self._stations.values()} - {node}):
            self._break(node, peer)
            if not silent:
                self.world.call_later(self._delay_s(), self._unreachable, peer, node)

    def _break(self, one: NodeId, other: NodeId) -> None:
        pair = _pair(one, other)
        self._epochs[pair] = self._epochs.get(pair, 0) + 1

    # -- for the transports

    def come(self, station: "SimTransport") -> None:
        self.silent.discard(station.node)
        self._stations[station.address] = station
        self._addresses[station.node] = station.address

    def go(self, station: "SimTransport") -> None:
        if self._stations.get(station.address) is station:
            del self._stations[station.address]

    def send(self, source: NodeId, address: str, message: Message) -> None:
        if self.on_send is not None:
            self.on_send(message)
        target = message.target.node
        way = (source, target)
        random = self._random
        if way in self.cut or (self.loss and random.random() < self.loss):
            self._tell("lost", source, target, message)
            return
        if self.resets and random.random() < self.resets:
            self.reset(source, target)
            return
        carried: Message | bytes = message if self.codec is None else self.codec.encode(message)
        epoch = self._epochs.get(_pair(source, target), 0)
        times = 2 if self.duplicates and random.random() < self.duplicates else 1
        for _ in range(times):
            delay_s = self._delay_s() + self.slow.get(way, 0.0) / 1000
            self.world.call_later(delay_s, self._arrive, source, target, address, carried, epoch)

    def _delay_s(self) -> float:
        random = self._random
        low, high = self.delay_ms
        if self.late and random.random() < self.late:
            high = self.latest_ms
        return (low + random.random() * (high - low)) / 1000

    def _arrive(self, source: NodeId, target: NodeId, address: str, carried: Message | bytes, epoch: int) -> None:
        way = (source, target)
        if way in self.cut or self._epochs.get(_pair(source, target), 0) != epoch:
            self._tell("lost", source, target, carried if isinstance(carried, Message) else None)
            return
        station = self._stations.get(address)
        if station is None:
            self._refuse(source, target)
            return
        if isinstance(carried, Message):
            message = carried
        else:
            assert self.codec is not None
            message = self.codec.decode(carried)
        self.delivered += 1
        self._tell("<-", source, target, message)
        station.deliver(source, self._addresses.get(source, ""), message)

    def _refuse(self, source: NodeId, target: NodeId) -> None:
        way, now_s = (source, target), self.world.now_s
        if target in self.silent or (target, source) in self.cut:
            return
        if now_s - self._refused_s.get(way, -REFUSED_EVERY_S) >= REFUSED_EVERY_S:
            self._refused_s[way] = now_s
            self._tell("refused", source, target, None)
            self._unreachable(source, target)

    def _unreachable(self, node: NodeId, peer: NodeId) -> None:
        for station in list(self._stations.values()):
            if station.node == node:
                station.lost(peer)

    def _tell(self, what: str, source: NodeId, target: NodeId, message: Message | None) -> None:
        if self.on_event is not None:
            self.on_event(what, source, target, message)


class SimTransport:
    """One process's way to the others."""

    def __init__(self, network: SimNetwork, node: NodeId, address: str, loop: SimLoop) -> None:
        self.node, self.address = node, address
        self._network, self._loop = network, loop
        self._receiver: Receiver | None = None
        self._peers: Mapping[NodeId, str] = {}
        self._callers: dict[NodeId, str] = {}  # who has a connection to this one: answers go back over it

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._network.come(self)

    def reach(self, endpoints: Mapping[NodeId, str]) -> None:
        self._peers = dict(endpoints)

    def send(self, message: Message) -> None:
        target = message.target.node
        address = self._peers.get(target) or self._callers.get(target)
        if address and self._loop.alive:
            self._network.send(self.node, address, message)

    async def close(self) -> None:
        self.leave()

    # -- the network's side

    def leave(self) -> None:
        """Nobody is at the address any more."""
        self._receiver = None
        self._network.go(self)

    def deliver(self, caller: NodeId, address: str, message: Message) -> None:
        if self._receiver is not None:
            self._callers[caller] = address
            self._loop.call_soon(self._receiver.receive, message)

    def lost(self, peer: NodeId) -> None:
        self._callers.pop(peer, None)
        if self._receiver is not None:
            self._loop.call_soon(self._receiver.unreachable, peer)


def _pair(one: NodeId, other: NodeId) -> tuple[NodeId, NodeId]:
    return (one, other) if one < other else (other, one)

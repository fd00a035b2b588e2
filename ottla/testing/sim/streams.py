"""The port `Network` between nodes of a `World`: streams that delay, break, stall and fall into pieces; seeded.

What a stream carries arrives in order and whole, or the stream ends: that is what TCP gives. A cut link holds bytes
back, as retransmission does, until it is healed or one side gives up. A process that dies resets its streams, unless
its whole machine went without a word.
"""

from collections import deque
from collections.abc import Callable, Sequence

from ottla.core.ports import Random, Receiver
from ottla.core.types import Buffer
from ottla.testing.sim.loop import SimLoop, World

HIGH_WATER_BYTES = 2 << 20
LOW_WATER_BYTES = 256 << 10
CONNECT_TIMEOUT_S = 1.0


class SimStreams:
    """Who listens where, and how good the links are. A host's name is its address."""

    def __init__(self, world: World, random: Random) -> None:
        self.world, self.random = world, random
        self.delay_ms = (0.05, 1.0)
        self.late = 0.0  # the part of the deliveries that take up to `latest_ms`
        self.latest_ms = 200.0
        self.pieces = 0.2  # the part of the deliveries that arrive in small pieces
        self.cut: set[tuple[str, str]] = set()  # one-way, (from, to)
        self.carried_bytes = 0
        self._listeners: dict[tuple[str, int], SimListener] = {}
        self._ends: dict[SimChannel, None] = {}
        self._ports = 1000

    def network(self, host: str, loop: SimLoop) -> "SimStreamNetwork":
        """The port of one process on that host."""
        return SimStreamNetwork(self, host, loop)

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Links between two hosts, or all, carry again; what was held back goes on."""
        self.cut = {pair for pair in self.cut if one is not None and set(pair) != {one, other}}
        for end in list(self._ends):
            end.go_on()

    def reset(self, one: str, other: str) -> None:
        """Streams between two hosts break, and both sides learn of it."""
        for end in list(self._ends):
            if {end.host, end.other_host} == {one, other}:
                end.broken(ConnectionResetError("reset"))

    def died(self, loop: SimLoop, *, silent: bool) -> None:
        """The process of a loop is gone: its listeners too, and its streams break unless nobody is left to say so."""
        for place, listener in list(self._listeners.items()):
            if listener.loop is loop:
                del self._listeners[place]
        for end in list(self._ends):
            if end.loop is loop:
                del self._ends[end]
                if not silent and end.other is not None:
                    self.world.call_later(self.delay_s(), end.other.broken, ConnectionResetError("the process died"))

    # -- for the ports

    def delay_s(self) -> float:
        random = self.random
        low, high = self.delay_ms
        if self.late and random.random() < self.late:
            high = self.latest_ms
        return (low + random.random() * (high - low)) / 1000

    def add_listener(self, host: str, port: int, listener: "SimListener") -> int:
        if not port:
            self._ports += 1
            port = self._ports
        if (host, port) in self._listeners:
            raise OSError(f"{host}:{port} is in use")
        self._listeners[host, port] = listener
        return port

    def remove_listener(self, host: str, port: int) -> None:
        self._listeners.pop((host, port), None)

    def connect(self, source: "SimStreamNetwork", host: str, port: int, receiver: Receiver) -> None:
        def arrive() -> None:
            if (source.host, host) in self.cut or (host, source.host) in self.cut:
                self.world.call_later(CONNECT_TIMEOUT_S, refuse, TimeoutError("no answer"))
                return
            listener = self._listeners.get((host, port))
            if listener is None or not listener.loop.alive:
                refuse(ConnectionRefusedError("nobody listens"))
                return
            ours = SimChannel(self, source.loop, source.host, host, receiver)
            theirs = SimChannel(self, listener.loop, host, source.host, None)
            ours.other, theirs.other = theirs, ours
            self._ends[ours] = self._ends[theirs] = None
            theirs.on_loop(theirs.accept, listener.accept)
            self.world.call_later(self.delay_s(), ours.on_loop, ours.open)

        def refuse(error: Exception) -> None:
            if source.loop.alive:
                source.loop.call_soon(receiver.closed, error)

        self.world.call_later(self.delay_s(), arrive)

    def forget(self, end: "SimChannel") -> None:
        self._ends.pop(end, None)


class SimStreamNetwork:
    """The port `Network` of one process."""

    def __init__(self, streams: SimStreams, host: str, loop: SimLoop) -> None:
        self.streams, self.host, self.loop = streams, host, loop

    def connect(self, host: str, port: int, receiver: Receiver) -> None:
        self.streams.connect(self, host, port, receiver)

    def listen(self, host: str, port: int, accept: Callable[[str], Receiver]) -> "SimListener":
        return SimListener(self, port, accept)


class SimListener:
    """A place where a process accepts streams."""

    def __init__(self, network: SimStreamNetwork, port: int, accept: Callable[[str], Receiver]) -> None:
        self._network, self.accept, self.loop = network, accept, network.loop
        self.port = network.streams.add_listener(network.host, port, self)

    def close(self) -> None:
        self._network.streams.remove_listener(self._network.host, self.port)


class SimChannel:
    """One end of a stream."""

    def __init__(
        self, streams: SimStreams, loop: SimLoop, host: str, other_host: str, receiver: Receiver | None
    ) -> None:
        self.loop, self.host, self.other_host = loop, host, other_host
        self.other: SimChannel | None = None
        self.queued_bytes = 0
        self._streams, self._receiver = streams, receiver
        self._on_the_way: deque[bytes] = deque()
        self._due_s = 0.0
        self._ended = self._closing = self._clogged = False

    # -- the process's calls

    def send(self, buffers: Sequence[Buffer]) -> None:
        data = b"".join(buffers)
        if self._ended or self._closing or not data:
            return
        self.queued_bytes += len(data)
        self._clogged |= self.queued_bytes > HIGH_WATER_BYTES
        self._on_the_way.append(data)
        world = self._streams.world
        self._due_s = max(world.now_s + self._streams.delay_s(), self._due_s)
        world.call_at(self._due_s, self.go_on)

    def close(self) -> None:
        self._closing = True
        if not self._on_the_way:
            self.abort()

    def abort(self) -> None:
        if self._ended:
            return
        other = self.other
        self.broken(None)
        if other is not None and (self.host, self.other_host) not in self._streams.cut:
            self._streams.world.call_later(self._streams.delay_s(), other.broken, None)

    # -- the network's side

    @property
    def is_over(self) -> bool:
        return self._ended or not self.loop.alive

    def on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        if self.loop.alive:
            self.loop.call_soon(callback, *arguments)

    def accept(self, accept: Callable[[str], Receiver]) -> None:
        self._receiver = accept(self.other_host)
        self.open()

    def open(self) -> None:
        if not self._ended and self._receiver is not None:
            self._receiver.opened(self)

    def go_on(self) -> None:
        """Deliver what is due, unless the link is cut."""
        streams = self._streams
        if self._ended or (self.host, self.other_host) in streams.cut:
            return
        if not self._on_the_way:
            return
        if self.other is None or self.other.is_over:
            self.broken(ConnectionResetError("nobody is there"))
            return
        data = self._on_the_way.popleft()
        self.queued_bytes -= len(data)
        streams.carried_bytes += len(data)
        self.other.on_loop(self.other.deliver, data)
        if self._clogged and self.queued_bytes < LOW_WATER_BYTES:
            self._clogged = False
            self.on_loop(self._drained)
        if self._on_the_way:
            streams.world.call_later(streams.delay_s() / 10, self.go_on)
        elif self._closing:
            self.abort()

    def deliver(self, data: bytes) -> None:
        random = self._streams.random
        in_pieces = random.random() < self._streams.pieces
        position = 0
        while position < len(data) and not self._ended and self._receiver is not None:
            buffer = self._receiver.buffer()
            count = min(len(buffer), len(data) - position)
            if in_pieces:
                count = min(count, 1 + int(random.random() * 100))
            buffer[:count] = data[position : position + count]
            position += count
            self._receiver.received(count)

    def broken(self, error: Exception | None) -> None:
        """The stream is over for this end."""
        if self._ended:
            return
        self._ended = True
        self.other = None
        self._on_the_way.clear()
        self.queued_bytes = 0
        self._streams.forget(self)
        self.on_loop(self._tell_closed, error)

    def _tell_closed(self, error: Exception | None) -> None:
        if self._receiver is not None:
            self._receiver.closed(error)

    def _drained(self) -> None:
        if not self._ended and self._receiver is not None:
            self._receiver.drained()

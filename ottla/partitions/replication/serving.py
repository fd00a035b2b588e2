"""Connections that followers dialled: each carries all partitions that this node leads and the follower's node has.

At the end of a turn of the loop everything that was appended in it goes out with one write: partitions take turns, one
chunk each, as long as the follower has not too much that is not durable yet and its socket takes the bytes. High
watermarks travel with the batches; alone only when there are none, and then at most every few milliseconds.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, DecodeError
from ottla.core.ports import Channel, Clock, Random
from ottla.core.types import Buffer, NodeId
from ottla.partitions.replication import wire
from ottla.partitions.replication.divergence import Agreed, Diverged
from ottla.partitions.replication.frames import FrameReader
from ottla.partitions.replication.handshake import Doorkeeper, Identity, Refused
from ottla.partitions.replication.messages import NO_MESSAGES, Messages
from ottla.partitions.replication.slots import Slot
from ottla.partitions.replication.throttle import Throttle
from ottla.partitions.replication.types import PartitionId
from ottla.partitions.replication.wire import Kind, Subscription

if TYPE_CHECKING:
    from ottla.partitions.replication.leading import Leading

WINDOW_BYTES: Final = 16 << 20  # sent to one follower and not durable there yet
TURN_BYTES: Final = 2 << 20  # written in one turn of the loop
CLOGGED_BYTES: Final = 2 << 20  # no more is written while the socket holds so much
OFFSETS_EVERY_MS: Final = 20.0  # an OFFSETS frame of its own wakes a node for what the next batch says anyhow
HEARTBEAT_MS: Final = 750.0  # looked at in ticks: at rest one a second, a third of what is taken for silence
SILENCE_MS: Final = 3000.0
GREETING_MS: Final = 5000.0
TICK_MS: Final = 500.0

logger: Final = structlog.get_logger(__name__)


class Leadership(Protocol):
    """What this node leads, as of the latest metadata."""

    def leading(self, partition: PartitionId) -> "Leading | None": ...
    def is_current(self, node: NodeId, broker_epoch: int) -> bool:
        """Whether no younger incarnation of that node is known."""


class LeaderSessions:
    """All of a node's."""

    def __init__(self, identity: Identity, leadership: Leadership, clock: Clock, random: Random) -> None:
        self.identity, self.leadership, self.clock, self.random = identity, leadership, clock, random
        self.throttle = Throttle()
        self.messages: Messages = NO_MESSAGES
        self.shared = memoryview(bytearray(1 << 16))
        self.by_node: dict[NodeId, LeaderSession] = {}
        self.sent_bytes = 0
        self._unproved: dict[LeaderSession, None] = {}

    def accept(self, peer: str) -> "LeaderSession":
        """The receiver of a connection that was accepted."""
        session = LeaderSession(self, peer)
        self._unproved[session] = None
        return session

    def admit(self, session: "LeaderSession", node: NodeId) -> None:
        """The youngest connection of a node takes the place of an older one."""
        self._unproved.pop(session, None)
        older = self.by_node.get(node)
        if older is not None:
            older.close("the node dialled again")
        self.by_node[node] = session

    def forget(self, session: "LeaderSession") -> None:
        self._unproved.pop(session, None)
        node = session.node
        if node is not None and self.by_node.get(node) is session:
            del self.by_node[node]

    def brokers_changed(self) -> None:
        """Connections of incarnations that are over end."""
        for node, session in list(self.by_node.items()):
            if not self.leadership.is_current(node, session.broker_epoch):
                session.close("a younger incarnation of the node is registered")

    def tick(self, now_ms: float) -> None:
        for session in [*self.by_node.values(), *self._unproved]:
            session.tick(now_ms)

    def close(self) -> None:
        for session in [*self.by_node.values(), *self._unproved]:
            session.close("")


class LeaderSession:
    """One follower's connection (a `ports.Receiver`)."""

    def __init__(self, sessions: LeaderSessions, peer: str) -> None:
        self.node: NodeId | None = None
        self.broker_epoch = -1
        self.in_flight_bytes = 0
        self.slots: dict[int, Slot] = {}
        self._sessions, self._peer = sessions, peer
        self._clock = sessions.clock
        self._channel: Channel | None = None
        self._doorkeeper = Doorkeeper(sessions.identity, sessions.random)
        self._reader = FrameReader(sessions.shared, self._frame)
        self._ready: deque[Slot] = deque()
        self._moved: dict[Slot, None] = {}
        self._unsaid: list[bytes] = []
        self._armed = self._telling = self._closed = False
        self._told_ms = self._sent_ms = self._heard_ms = self._since_ms = self._clock.monotonic_ms()
        self._last_slot = -1
        self._looking: set[int] = set()  # slots whose first batch is being looked for
        self._handlers: dict[int, Callable[[memoryview], None]] = {
            Kind.DURABLE: self._durable,
            Kind.SUBSCRIBE: self._subscribe,
            Kind.UNSUBSCRIBE: self._unsubscribe,
            Kind.MESSAGE: self._message,
            Kind.HEARTBEAT: lambda _: None,
        }

    # -- the channel's calls

    def opened(self, channel: Channel) -> None:
        self._channel = channel

    def buffer(self) -> memoryview:
        return self._reader.buffer()

    def received(self, count: int) -> None:
        if self._closed:
            return
        self._heard_ms = self._clock.monotonic_ms()
        try:
            self._reader.received(count)
        except (DecodeError, Refused) as error:
            self.close(str(error))

    def drained(self) -> None:
        self._go_on()

    def closed(self, error: Exception | None) -> None:
        self._channel = None
        self.close("" if error is None else str(error))

    # -- frames

    def _frame(self, kind: int, body: memoryview, _: bool) -> None:
        if self.node is None:
            self._greet(kind, body)
            return
        handler = self._handlers.get(kind)
        if handler is None:
            raise DecodeError(f"a frame of kind {kind} that no follower sends")
        handler(body)

    def _greet(self, kind: int, body: memoryview) -> None:
        if kind == Kind.HELLO:
            self._write([self._doorkeeper.greeted(body)])
        elif kind == Kind.PROOF:
            hello = self._doorkeeper.proved(body)
            if not self._sessions.leadership.is_current(hello.node, hello.broker_epoch):
                raise Refused(f"broker epoch {hello.broker_epoch} of node {hello.node} is that of an old incarnation")
            self.node, self.broker_epoch = hello.node, hello.broker_epoch
            self._reader.limit = wire.MAX_FRAME_BYTES
            self._sessions.admit(self, hello.node)
            self._write([wire.WELCOME])
        else:
            raise DecodeError(f"a frame of kind {kind} before the greeting was over")

    def _subscribe(self, body: memoryview) -> None:
        wanted = wire.decode_subscribe(body)
        if wanted.slot <= self._last_slot:
            raise DecodeError(f"slot {wanted.slot} after slot {self._last_slot}")
        self._last_slot = wanted.slot
        leading = self._sessions.leadership.leading((wanted.topic_id, wanted.partition))
        node = self.node
        assert node is not None
        code = _refusal(leading, node, wanted.leader_epoch)
        if leading is None or code is not ErrorCode.NONE:
            self._say(wire.refused(wanted.slot, code))
            return
        self._looking.add(wanted.slot)
        leading.find_first_offset(wanted.log_end_offset, partial(self._compare, wanted, leading, node))

    def _compare(self, wanted: Subscription, leading: "Leading", node: NodeId, first_offset: int | ApiError) -> None:
        if self._closed or wanted.slot not in self._looking:
            return
        self._looking.discard(wanted.slot)
        if isinstance(first_offset, ApiError) or leading.partition.role is not leading:
            code = ErrorCode.NOT_LEADER_OR_FOLLOWER
            self._say(wire.refused(wanted.slot, first_offset.code if isinstance(first_offset, ApiError) else code))
            return
        slot = Slot(self, wanted.slot, leading, node, wanted.log_end_offset)
        answer = leading.subscribe(
            node, self.broker_epoch, wanted.log_end_offset, wanted.last_epoch, first_offset, slot
        )
        if isinstance(answer, Agreed):
            self.slots[slot.number] = slot
            told = slot.offsets()
            assert told is not None
            self._say(wire.accepted(*told))
            slot.acknowledged(wanted.durable_end_offset, wanted.log_end_offset, wanted.log_start_offset)
            slot.grown()
        elif isinstance(answer, Diverged):
            self._say(wire.diverged(wanted.slot, answer.epoch, answer.end_offset))
        else:
            self._say(wire.anew(wanted.slot, answer.offset))

    def _unsubscribe(self, body: memoryview) -> None:
        number = wire.decode_slot(body)
        slot = self.slots.get(number)
        if slot is not None:
            slot.leading.unsubscribe(slot.node, ErrorCode.NONE, slot)
        self._looking.discard(number)

    def _durable(self, body: memoryview) -> None:
        slots = self.slots
        for number, durable_end, log_end, log_start in wire.decode_durable(body):
            slot = slots.get(number)
            if slot is not None:  # else it crossed the end of the slot
                slot.acknowledged(durable_end, log_end, log_start)
        self._go_on()

    def _message(self, body: memoryview) -> None:
        assert self.node is not None
        self._sessions.messages.asked(self.node, bytes(body), self._answer)

    def _answer(self, message: bytes) -> None:
        if not self._closed:
            self._say(wire.frame(Kind.MESSAGE, message))

    # -- for slots

    def send_soon(self, slot: Slot) -> None:
        """It has batches to send, at the end of this turn of the loop."""
        self._ready.append(slot)
        self._arm()

    def tell_soon(self, slot: Slot) -> None:
        """Its high watermark or log start moved."""
        self._moved[slot] = None
        if not self._telling:
            self._telling = True
            wait_ms = self._told_ms + OFFSETS_EVERY_MS - self._clock.monotonic_ms()
            if wait_ms > 0:
                self._clock.call_later(wait_ms, self._tell)
            else:
                self._clock.call_soon(self._tell)

    def send(self, out: list[Buffer]) -> None:
        self._write(out)

    def ended(self, slot: Slot, code: ErrorCode) -> None:
        """The slot reads no more; the follower is told why unless it asked for it."""
        self.slots.pop(slot.number, None)
        self._moved.pop(slot, None)
        self.in_flight_bytes -= slot.in_flight_bytes
        if code is not ErrorCode.NONE:
            self._say(wire.refused(slot.number, code))
        self._go_on()

    def begin_anew(self, slot: Slot, offset: int) -> None:
        """The log has nothing any more that the follower could go on with."""
        slot.leading.unsubscribe(slot.node, ErrorCode.NONE, slot)
        self._say(wire.anew(slot.number, offset))

    def throttle_ms(self) -> float:
        return self._sessions.throttle.wait_ms(self._clock.monotonic_ms())

    def took(self, size_bytes: int) -> None:
        self._sessions.throttle.took(size_bytes)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> None:
        self._clock.call_later(delay_ms, callback)

    # -- writing

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._clock.call_soon(self._flush)

    def _go_on(self) -> None:
        if self._ready and not self._closed:
            self._arm()

    def _flush(self) -> None:
        self._armed = False
        channel, ready = self._channel, self._ready
        if channel is None or self._closed:
            return
        out: list[Buffer] = []
        size = 0 if channel.queued_bytes <= CLOGGED_BYTES else TURN_BYTES  # `drained` goes on
        while ready and size < TURN_BYTES and self.in_flight_bytes < WINDOW_BYTES:
            slot = ready.popleft()
            sent = slot.fill(out)
            size += sent
            if sent and slot.has_more:
                slot.grown()
        data = bool(out)
        if data:
            self._sessions.sent_bytes += size
            if self._moved and self._clock.monotonic_ms() - self._told_ms >= OFFSETS_EVERY_MS / 2:
                out += self._offsets()  # with a write that is made anyhow: alone it is another, and wakes the follower
        if out or self._unsaid:
            self._write(out)
        if data and ready and size >= TURN_BYTES:
            self._arm()

    def _tell(self) -> None:
        self._telling = False
        if not self._moved or self._closed:
            return
        wait_ms = self._told_ms + OFFSETS_EVERY_MS - self._clock.monotonic_ms()
        if wait_ms > 0:  # some went with batches meanwhile
            self._telling = True
            self._clock.call_later(wait_ms, self._tell)
            return
        offsets = self._offsets()
        if offsets:
            self._write(offsets)

    def _offsets(self) -> list[bytes]:
        """Frames of what moved and was not told with batches."""
        moved, self._moved = self._moved, {}
        self._told_ms = self._clock.monotonic_ms()
        return wire.offsets(entry for entry in map(Slot.offsets, moved) if entry is not None)

    def _say(self, frame: bytes) -> None:
        """At the end of this turn of the loop, before anything else: answers to thousands of subscriptions at once."""
        self._unsaid.append(frame)
        self._arm()

    def _write(self, buffers: Sequence[Buffer]) -> None:
        if self._unsaid:
            buffers, self._unsaid = [*self._unsaid, *buffers], []
        if self._channel is not None and not self._closed:
            self._sent_ms = self._clock.monotonic_ms()
            self._channel.send(buffers)

    # -- life

    def tick(self, now_ms: float) -> None:
        if self.node is None and now_ms - self._since_ms > GREETING_MS:
            self.close("it did not say who it is")
        elif self.node is not None and now_ms - self._heard_ms > SILENCE_MS:
            self.close(f"nothing was heard of it for {SILENCE_MS:.0f} ms")
        elif self.node is not None and now_ms - self._sent_ms >= HEARTBEAT_MS:
            self._write([wire.HEARTBEAT])

    def close(self, reason: str) -> None:
        """End it; with one line in the log when there is a reason."""
        if self._closed:
            return
        self._closed = True
        self._reader.stop()
        if reason:
            logger.warning("a follower's connection ends", peer=self._peer, follower=self.node, reason=reason)
        self._sessions.forget(self)
        for slot in list(self.slots.values()):
            slot.leading.unsubscribe(slot.node, ErrorCode.NONE, slot)
        self._ready.clear()
        if self._channel is not None:
            self._channel.abort()


def _refusal(leading: "Leading | None", node: NodeId, leader_epoch: int) -> ErrorCode:
    if leading is None:
        return ErrorCode.NOT_LEADER_OR_FOLLOWER
    state = leading.state
    if leader_epoch != state.leader_epoch:
        older = leader_epoch < state.leader_epoch
        return ErrorCode.FENCED_LEADER_EPOCH if older else ErrorCode.UNKNOWN_LEADER_EPOCH
    if node not in state.followers:
        return ErrorCode.REPLICA_NOT_AVAILABLE
    return ErrorCode.NONE if leading.partition.error is None else ErrorCode.KAFKA_STORAGE_ERROR

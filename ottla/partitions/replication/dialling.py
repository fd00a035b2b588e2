"""Connections to the nodes that lead what this node follows: one for each, kept up as long as there is something.

Subscriptions go out as soon as the greeting is over. What became durable in one turn of the loop, over all partitions
of that leader, goes back in one frame.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import DecodeError
from ottla.core.ports import Channel, Clock, Network, Random
from ottla.core.types import Buffer, NodeId
from ottla.partitions.replication import wire
from ottla.partitions.replication.follower import UnexpectedEvent
from ottla.partitions.replication.following import Following
from ottla.partitions.replication.frames import SHARED_BYTES, FrameReader
from ottla.partitions.replication.handshake import Dialler, Identity, Refused
from ottla.partitions.replication.messages import NO_MESSAGES, Messages
from ottla.partitions.replication.serving import GREETING_MS, HEARTBEAT_MS, SILENCE_MS
from ottla.partitions.replication.types import Peer
from ottla.partitions.replication.wire import Kind, Subscription

FIRST_PAUSE_MS: Final = 20.0
LONGEST_PAUSE_MS: Final = 500.0

logger: Final = structlog.get_logger(__name__)


class FollowerSessions:
    """All of a node's."""

    def __init__(self, identity: Identity, network: Network, clock: Clock, random: Random) -> None:
        self.identity, self.network, self.clock, self.random = identity, network, clock, random
        self.shared = memoryview(bytearray(SHARED_BYTES))
        self.received_bytes = 0
        self.messages: Messages = NO_MESSAGES
        self._by_node: dict[NodeId, FollowerSession] = {}

    def link(self, peer: Peer) -> "FollowerSession":
        """The way to that node, which is dialled if it is not open yet."""
        session = self._by_node.get(peer.node)
        if session is None:
            session = self._by_node[peer.node] = FollowerSession(self, peer)
            session.dial()
        return session

    def send_message(self, node: NodeId, message: bytes) -> bool:
        """At the end of this turn of the loop; False when there is no connection that takes it."""
        session = self._by_node.get(node)
        return session is not None and session.send_message(message)

    def peers_changed(self, peers: Mapping[NodeId, Peer]) -> None:
        """A node that listens somewhere else, or was started anew, is dialled again."""
        for node, session in self._by_node.items():
            peer = peers.get(node)
            if peer is not None:
                session.redirect(peer)

    def identity_changed(self) -> None:
        """Introduce this node again: it was registered anew."""
        for session in self._by_node.values():
            session.redial("this node was registered anew")

    def prune(self) -> None:
        """End the connections to nodes that lead nothing any more of what this node follows."""
        for node in [node for node, session in self._by_node.items() if not session.followings]:
            self._by_node.pop(node).close()

    def tick(self, now_ms: float) -> None:
        for session in list(self._by_node.values()):
            session.tick(now_ms)

    def close(self) -> None:
        for session in self._by_node.values():
            session.close()
        self._by_node.clear()


class FollowerSession:
    """The way to one leader's node (a `following.Link`), over one connection after the other."""

    def __init__(self, sessions: FollowerSessions, peer: Peer) -> None:
        self.peer = peer
        self.online = self._takes_messages = False
        self.followings: dict[Following, None] = {}
        self._sessions, self._clock = sessions, sessions.clock
        self._connection: _Connection | None = None
        self._pause_ms = FIRST_PAUSE_MS
        self._dialling = self._closed = False
        self._slots: dict[int, Following] = {}
        self._next_slot = 0
        self._durable: dict[Following, None] = {}
        self._unsaid: list[bytes] = []
        self._armed = False

    # -- for `Following`

    def join(self, following: Following) -> None:
        """Its leader is at the other end."""
        self.followings[following] = None

    def leave(self, following: Following) -> None:
        self.followings.pop(following, None)
        self._durable.pop(following, None)

    def subscribe(self, following: Following) -> int:
        slot = self._next_slot
        self._next_slot += 1
        self._slots[slot] = following
        partition = following.partition
        log = partition.log
        end, start = log.log_end_offset, partition.log_start_offset
        self._say(
            wire.subscribe(
                Subscription(
                    slot=slot,
                    topic_id=partition.topic_id,
                    partition=partition.index,
                    leader_epoch=following.state.leader_epoch,
                    log_end_offset=end,
                    durable_end_offset=min(following.synced_end_offset, end),
                    last_epoch=partition.epochs.epoch_for(end - 1) if end > start else -1,
                    log_start_offset=start,
                )
            )
        )
        return slot

    def unsubscribe(self, slot: int) -> None:
        if self._slots.pop(slot, None) is not None:
            self._say(wire.unsubscribe(slot))

    def durable_soon(self, following: Following) -> None:
        self._durable[following] = None
        self._arm()

    def _say(self, frame: bytes) -> None:
        """At the end of this turn of the loop: a node that comes back has thousands of subscriptions."""
        self._unsaid.append(frame)
        self._arm()

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._clock.call_soon(self._tell)

    def _tell(self) -> None:
        self._armed = False
        out, self._unsaid = self._unsaid, []
        durable, self._durable = self._durable, {}
        entries = []
        for following in durable:
            if following.slot in self._slots:
                partition = following.partition
                end = partition.log.log_end_offset
                entries.append((following.slot, min(following.synced_end_offset, end), end, partition.log_start_offset))
        out += wire.durable(entries)
        if out and self._connection is not None:
            self._connection.write(out)

    def send_message(self, message: bytes) -> bool:
        """See `FollowerSessions`."""
        if self._takes_messages:
            self._say(wire.frame(Kind.MESSAGE, message))
        return self._takes_messages

    # -- the connection

    def dial(self) -> None:
        self._dialling = False
        if self._closed or self._connection is not None:
            return
        self._connection = _Connection(self, self._sessions)
        self._sessions.network.connect(self.peer.host, self.peer.port, self._connection)

    def redirect(self, peer: Peer) -> None:
        old, self.peer = self.peer, peer
        if (old.host, old.port, old.broker_epoch) != (peer.host, peer.port, peer.broker_epoch):
            self.redial("the node was started anew")

    def redial(self, reason: str) -> None:
        self._pause_ms = FIRST_PAUSE_MS
        if self._connection is not None:
            self._connection.end(reason)

    def welcomed(self, *, takes_messages: bool) -> None:
        self.online, self._takes_messages = True, takes_messages
        self._pause_ms = FIRST_PAUSE_MS
        for following in list(self.followings):
            following.connected()

    def lost(self, connection: "_Connection") -> None:
        """The connection is over, or never was; another one is dialled after a pause."""
        if connection is not self._connection:
            return
        self._connection = None
        self._slots.clear()
        self._durable.clear()
        self._unsaid.clear()
        self._next_slot = 0
        if self.online:
            self.online = self._takes_messages = False
            for following in list(self.followings):
                following.disconnected()
            self._sessions.messages.lost(self.peer.node)
        if not self._closed and not self._dialling:
            self._dialling = True
            pause_ms = self._pause_ms * (0.5 + self._sessions.random.random())
            self._clock.call_later(pause_ms, self.dial)
            self._pause_ms = min(self._pause_ms * 2, LONGEST_PAUSE_MS)

    def slot(self, number: int, *, ends: bool = False) -> Following | None:
        """Who has that number; None when it crossed the end of the subscription."""
        return self._slots.pop(number, None) if ends else self._slots.get(number)

    def tick(self, now_ms: float) -> None:
        if self._connection is not None:
            self._connection.tick(now_ms)

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            self._connection.end("")


class _Connection:
    """One connection (a `ports.Receiver`)."""

    def __init__(self, session: FollowerSession, sessions: FollowerSessions) -> None:
        self._session, self._sessions, self._clock = session, sessions, sessions.clock
        self._channel: Channel | None = None
        self._dialler = Dialler(sessions.identity, session.peer.node, sessions.random)
        self._reader = FrameReader(sessions.shared, self._frame)
        self._proved = self._welcome = self._over = False
        self._since_ms = self._heard_ms = self._sent_ms = self._clock.monotonic_ms()
        self._handlers: dict[int, Callable[[memoryview, bool], None]] = {
            Kind.DATA: self._data,
            Kind.OFFSETS: self._offsets,
            Kind.ACCEPTED: self._accepted,
            Kind.DIVERGED: self._diverged,
            Kind.ANEW: self._anew,
            Kind.REFUSED: self._refused,
            Kind.MESSAGE: self._message,
            Kind.HEARTBEAT: lambda *_: None,
        }

    # -- the channel's calls

    def opened(self, channel: Channel) -> None:
        self._channel = channel
        if self._over:
            channel.abort()
        else:
            self.write([self._dialler.hello()])

    def buffer(self) -> memoryview:
        return self._reader.buffer()

    def received(self, count: int) -> None:
        if self._over:
            return
        self._heard_ms = self._clock.monotonic_ms()
        try:
            self._reader.received(count)
        except (DecodeError, Refused, UnexpectedEvent) as error:
            self.end(str(error))

    def drained(self) -> None:
        """Little is written here."""

    def closed(self, error: Exception | None) -> None:
        self._channel = None
        self.end("" if error is None or not self._welcome else str(error))

    def write(self, buffers: Sequence[Buffer]) -> None:
        if self._channel is not None and not self._over:
            self._sent_ms = self._clock.monotonic_ms()
            self._channel.send(buffers)

    def end(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        self._reader.stop()
        if reason:
            logger.warning("a connection to a leader ends", leader=self._session.peer.node, reason=reason)
        if self._channel is not None:
            self._channel.abort()
        self._session.lost(self)

    def tick(self, now_ms: float) -> None:
        if not self._welcome:
            if now_ms - self._since_ms > GREETING_MS:
                self.end("it did not answer")
        elif now_ms - self._heard_ms > SILENCE_MS:
            self.end(f"nothing was heard of it for {SILENCE_MS:.0f} ms")
        elif now_ms - self._sent_ms >= HEARTBEAT_MS:
            self.write([wire.HEARTBEAT])

    # -- frames

    def _frame(self, kind: int, body: memoryview, owned: bool) -> None:
        if self._welcome:
            handler = self._handlers.get(kind)
            if handler is None:
                raise DecodeError(f"a frame of kind {kind} that no leader sends")
            handler(body, owned)
        elif kind == Kind.CHALLENGE and not self._proved:
            self.write([self._dialler.challenged(body)])
            self._proved = True
        elif kind == Kind.WELCOME and self._proved:
            self._welcome = True
            self._reader.limit = wire.MAX_FRAME_BYTES
            self._session.welcomed(takes_messages=wire.takes_messages(body))
        else:
            raise DecodeError(f"a frame of kind {kind} before the greeting was over")

    def _data(self, body: memoryview, owned: bool) -> None:
        slot, high_watermark, log_start = wire.decode_data(body)
        following = self._session.slot(slot)
        if following is None:
            return
        batches = body[wire.DATA_FIELDS_BYTES :]
        self._sessions.received_bytes += len(batches)
        following.data(batches if owned else memoryview(bytearray(batches)), high_watermark, log_start)

    def _message(self, body: memoryview, _: bool) -> None:
        self._sessions.messages.answered(self._session.peer.node, bytes(body))

    def _offsets(self, body: memoryview, _: bool) -> None:
        for slot, high_watermark, log_start in wire.decode_offsets(body):
            following = self._session.slot(slot)
            if following is not None:
                following.offsets(high_watermark, log_start)

    def _accepted(self, body: memoryview, _: bool) -> None:
        answer = wire.decode_accepted(body)
        following = self._session.slot(answer.slot)
        if following is not None:
            following.accepted(answer.high_watermark, answer.log_start_offset)

    def _diverged(self, body: memoryview, _: bool) -> None:
        slot, epoch, end_offset = wire.decode_diverged(body)
        following = self._session.slot(slot, ends=True)
        if following is not None:
            following.diverged(epoch, end_offset)

    def _anew(self, body: memoryview, _: bool) -> None:
        slot, offset = wire.decode_anew(body)
        following = self._session.slot(slot, ends=True)
        if following is not None:
            following.anew(offset)

    def _refused(self, body: memoryview, _: bool) -> None:
        slot, code = wire.decode_refused(body)
        following = self._session.slot(slot, ends=True)
        if following is not None:
            try:
                error = ErrorCode(code)
            except ValueError:
                error = ErrorCode.UNKNOWN_SERVER_ERROR
            following.refused(error)

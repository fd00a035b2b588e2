"""A voter tells others of the committed log: of a snapshot, in chunks, and of every entry that follows.

Frames wait here while a link has no room for them, up to a limit; a stream that is beyond it ends, and the observer
asks again when it has digested what it got. Who leads, and who votes, is told when it changes and from time to time.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from ottla.broker.control.calls import Calls
from ottla.broker.control.listeners import LinkListener
from ottla.core.error_codes import ErrorCode
from ottla.core.ports import Clock, Timer
from ottla.core.types import NodeId
from ottla.raft.quorum import Entry, Quorum, Snapshot
from ottla.v1 import control_pb2 as pb

CHUNK_BYTES: Final = 1 << 20
MAX_WAITING_BYTES: Final = 16 << 20
"""Of entries that have no way out; a snapshot does not count, it is there anyway."""
RETRY_MS: Final = 20.0
LOOK_MS: Final = 100.0
TELL_EVERY: Final = 5  # looks


class ObservedLog(LinkListener):
    """One node's serving. `votes`: whether this node is a member, whose log grows with the cluster's."""

    def __init__(self, quorum: Quorum, votes: Callable[[], bool], calls: Calls, clock: Clock) -> None:
        self._quorum, self._votes, self._calls, self._clock = quorum, votes, calls, clock
        self._streams: dict[NodeId, _Stream] = {}
        self._told = b""
        self._looks = 0
        self._timer: Timer | None = None
        calls.serve_stream("observe", self._serve)
        calls.listen(self)

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        stream = self._streams.pop(node, None)
        if stream is not None:
            stream.close()

    def stop(self) -> None:
        """Tell nobody any more."""
        for node in tuple(self._streams):
            self.unlinked(node, broken=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _serve(self, node: NodeId, frame: pb.ControlFrame) -> None:
        self.unlinked(node, broken=False)
        stream = _Stream(self._calls, self._clock, node, frame.call)
        if not self._votes():
            stream.refuse(ErrorCode.NOT_CONTROLLER, f"Node {self._calls.node_id} does not vote.")
            return
        self._streams[node] = stream
        stream.tell(self._what_is_known())
        stream.start(self._quorum, frame.observe.after_index)
        if self._timer is None:
            self._look()

    def _look(self) -> None:
        self._streams = {node: stream for node, stream in self._streams.items() if stream.is_open}
        if not self._streams:
            self._timer = None
            return
        self._timer = self._clock.call_later(LOOK_MS, self._look)
        self._looks += 1
        known = self._what_is_known()
        encoded = known.SerializeToString()
        if encoded != self._told or self._looks % TELL_EVERY == 0:
            self._told = encoded
            for stream in self._streams.values():
                stream.tell(known)

    def _what_is_known(self) -> pb.ControlQuorum:
        quorum = self._quorum
        membership = quorum.membership
        return pb.ControlQuorum(
            leader=quorum.leader,
            term=quorum.term,
            voters=[
                pb.ControlVoter(node_id=voter.node, endpoint=membership.endpoints.get(voter, ""))
                for voter in sorted(membership.voters)
            ],
        )


class _Stream:
    """What one observer is told. Implements `LogObserver`."""

    def __init__(self, calls: Calls, clock: Clock, node: NodeId, call: int) -> None:
        self.is_open = True
        self._end: Callable[[], None] = lambda: None
        self._calls, self._clock, self._node, self._call = calls, clock, node, call
        self._waiting: deque[Iterator[pb.ControlFrame]] = deque()
        self._next: pb.ControlFrame | None = None
        self._waiting_bytes = 0
        self._timer: Timer | None = None

    def start(self, quorum: Quorum, after_index: int) -> None:
        """Be told of what is committed."""
        self._end = quorum.observe(self, after_index)
        if not self.is_open:  # it was too much already
            self._stop_observing()

    def observe(self, item: Snapshot | Entry) -> None:
        """Committed. May be called in the middle of `Quorum.observe`, and after `close`."""
        if not self.is_open:
            return
        if isinstance(item, Snapshot):
            self._waiting.append(self._chunks(item))
        else:
            entry = pb.ControlObserved(index=item.index, term=item.term, data=item.data)
            self._waiting_bytes += len(item.data)
            self._waiting.append(self._one(entry, len(item.data)))
        self._pump()
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self.refuse(ErrorCode.THROTTLING_QUOTA_EXCEEDED, "too much waits; ask again")

    def tell(self, known: pb.ControlQuorum) -> None:
        """In its order among the rest, unless something waits already: the next time, then."""
        if self.is_open and not self._waiting and self._next is None:
            self._waiting.append(self._one(pb.ControlObserved(quorum=known), 0))
            self._pump()

    def refuse(self, code: ErrorCode, message: str) -> None:
        """End it; the observer is told, once there is room."""
        self._waiting.clear()
        self._next = pb.ControlFrame(call=self._call, refusal=pb.ControlRefusal(error_code=code, message=message))
        self._stop_observing()
        self._pump()

    def close(self) -> None:
        """The link is gone, or the observer asked anew."""
        self.is_open = False
        self._waiting.clear()
        self._next = None
        if self._timer is not None:
            self._timer.cancel()
        self._stop_observing()

    def _stop_observing(self) -> None:
        self.is_open = False
        end, self._end = self._end, lambda: None
        end()

    def _chunks(self, snapshot: Snapshot) -> Iterator[pb.ControlFrame]:
        data = snapshot.data
        for start in range(0, max(len(data), 1), CHUNK_BYTES):
            part = pb.ControlObserved(
                index=snapshot.index,
                term=snapshot.term,
                data=data[start : start + CHUNK_BYTES],
                snapshot=True,
                more=start + CHUNK_BYTES < len(data),
            )
            yield pb.ControlFrame(call=self._call, observed=part)

    def _one(self, observed: pb.ControlObserved, size_bytes: int) -> Iterator[pb.ControlFrame]:
        yield pb.ControlFrame(call=self._call, observed=observed)
        self._waiting_bytes -= size_bytes

    def _pump(self) -> None:
        if self._timer is not None:
            return
        while True:
            if self._next is None and not self._take():
                return
            assert self._next is not None
            if not self._calls.push(self._node, self._next):
                self._timer = self._clock.call_later(RETRY_MS, self._again)
                return
            self._next = None

    def _take(self) -> bool:
        """The next frame, if there is one."""
        while self._waiting:
            self._next = next(self._waiting[0], None)
            if self._next is not None:
                return True
            self._waiting.popleft()
        return False

    def _again(self) -> None:
        self._timer = None
        if self._calls.is_linked(self._node):
            self._pump()
        else:
            self.close()

"""How a node that does not vote learns of the cluster's metadata: it follows the log of a voter that it reaches.

    IDLE ── this node has no part in the quorum, and a link stands ──▶ FOLLOWING(voter)
     ▲                                                                   │
     └── the link or the stream ends; silence; the voter knows no leader ┘   then the next voter

A member of the quorum has its own log and stays idle; but one that hears of no leader for long may have been removed
without being told, and asks.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

import structlog

from ottla.broker.control.calls import Calls
from ottla.broker.control.listeners import LinkListener, Unreachable
from ottla.core.ports import Clock, Timer
from ottla.core.types import NodeId
from ottla.raft.quorum import Entry, Snapshot
from ottla.v1 import control_pb2 as pb

logger = structlog.get_logger(__name__)

LOOK_MS: Final = 500.0
SEEKING_MS: Final = 100.0  # while there is somebody to be found
SILENT_AFTER_MS: Final = 2_500.0  # a voter tells something every 500 ms
LEADERLESS_AFTER_MS: Final = 2_500.0


class ObservingNode(Protocol):
    """What the node makes of it."""

    @property
    def has_own_log(self) -> bool:
        """Whether it is a member of the quorum whose log the controller is fed from."""

    @property
    def own_leader(self) -> NodeId | None:
        """Who leads the quorum, as this member of it knows."""

    @property
    def offset(self) -> int:
        """Up to where it knows the metadata log."""

    def observed(self, item: Snapshot | Entry) -> None:
        """The next thing that is committed."""

    def told_of_quorum(self, leader: NodeId | None, voters: Mapping[NodeId, str]) -> None:
        """Who leads, and where the voters are."""


class Observer(LinkListener):
    """One node's. Used on the loop."""

    def __init__(self, node: ObservingNode, calls: Calls, clock: Clock) -> None:
        self._node, self._calls, self._clock = node, calls, clock
        self._linked: dict[NodeId, None] = {}  # whom to ask next comes first
        self._followed: NodeId | None = None
        self._end: Callable[[], None] = lambda: None
        self._heard_ms = 0.0  # of the followed voter, and of a leader
        self._led_ms = clock.monotonic_ms()
        self._snapshot: list[bytes] = []
        self._timer: Timer | None = None
        calls.listen(self)

    def start(self) -> None:
        """From now on."""
        if self._timer is None:
            self._look()

    def stop(self) -> None:
        """Follow nobody."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._leave()

    @property
    def followed(self) -> NodeId | None:
        """The voter whose log this node follows now."""
        return self._followed

    def linked(self, node: NodeId) -> None:
        self._linked[node] = None
        if self._timer is not None and self._followed is None:
            self._consider()

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        self._linked.pop(node, None)
        if node == self._followed:
            self._leave()
            self._seek()

    # -- whom to follow

    def _look(self) -> None:
        self._timer = self._clock.call_later(LOOK_MS, self._look)
        self._consider()
        if self._followed is None and not self._node.has_own_log:
            self._seek()

    def _seek(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._clock.call_later(SEEKING_MS, self._look)

    def _consider(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if self._node.own_leader is not None:
            self._led_ms = now_ms
        if self._node.has_own_log and now_ms - self._led_ms < LEADERLESS_AFTER_MS:
            self._leave()
        elif self._followed is None:
            self._follow_next(now_ms)
        elif now_ms - self._heard_ms > SILENT_AFTER_MS:
            self._turn_away("nothing, or no leader, was heard of from it")

    def _follow_next(self, now_ms: float) -> None:
        for node in self._linked:
            question = pb.ControlFrame(observe=pb.ControlObserve(after_index=self._node.offset))
            try:
                end = self._calls.stream(node, question, partial(self._received, node))
            except Unreachable:
                continue
            self._followed, self._end, self._heard_ms = node, end, now_ms
            self._snapshot.clear()
            return

    def _turn_away(self, why: str) -> None:
        node = self._followed
        logger.info("this node follows another voter's log from now on", voter=node, why=why)
        self._leave()
        if node in self._linked:  # last, the next time
            del self._linked[node]
            self._linked[node] = None
        self._seek()

    def _leave(self) -> None:
        self._followed = None
        end, self._end = self._end, lambda: None
        end()

    # -- what it tells

    def _received(self, node: NodeId, frame: pb.ControlFrame | None) -> None:
        if node != self._followed:
            return
        if frame is None:
            self._turn_away("its stream ended")
            return
        observed = frame.observed
        if observed.HasField("quorum"):
            self._take_quorum(observed.quorum)
            return
        self._heard_ms = self._clock.monotonic_ms()
        if not observed.snapshot:
            self._node.observed(Entry(observed.index, observed.term, observed.data))
            return
        self._snapshot.append(observed.data)
        if not observed.more:
            data = b"".join(self._snapshot)
            self._snapshot.clear()
            self._node.observed(Snapshot(observed.index, observed.term, data))

    def _take_quorum(self, quorum: pb.ControlQuorum) -> None:
        leader = NodeId(quorum.leader) if quorum.HasField("leader") else None
        if leader is not None:  # a voter without one is perhaps cut off from the others
            self._heard_ms = self._clock.monotonic_ms()
        voters = {NodeId(voter.node_id): voter.endpoint for voter in quorum.voters if voter.endpoint}
        self._node.told_of_quorum(leader, voters)

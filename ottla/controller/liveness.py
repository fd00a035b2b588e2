"""Which brokers are gone, judged by the streams that lead from them to the active controller.

| what is known of a broker                           | fenced                                            |
|-----------------------------------------------------|---------------------------------------------------|
| its stream is open                                  | a session after it was last heard                 |
| its stream broke                                    | a grace after that                                |
| likewise, and then nothing listened where it did    | at once                                           |
| its stream was given up or replaced                 | a session after it was last heard                 |
| no stream yet, since this controller took over      | a session after that                              |
| likewise, and a connection to it was refused, reset | a grace after that                                |

A killed process breaks its streams at once, and its host answers for it that nothing listens any more; a machine that
lost its power, or a cut wire, is merely silent. The grace lets a connection break without consequence. A new controller
cannot tell by streams, which never led to it: so it connects by itself and reports what comes of that.

Time during which the tracker itself was not asked (its process was paused) counts against nobody. What it says is
advice: a broker is fenced when that is committed, and is named again after a grace until then.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ottla.controller.image import BrokerImage
from ottla.core.types import NodeId

GRACE_MS: Final = 300.0
SESSION_MS: Final = 2000.0  # broker.session.timeout.ms


@dataclass(slots=True)
class _Session:
    """What is known of one broker. `epoch`: of the incarnation whose stream it is."""

    epoch: int
    since_ms: float  # last heard; before that: since when a sign of life is waited for
    open: bool = False
    broken_ms: float | None = None  # its stream broke, or it refused a connection
    ended: bool = False  # its process has
    metadata_offset: int = -1


class Liveness:
    """Told by the driver what happens, and asked regularly, at least every grace, who is to be fenced."""

    def __init__(self, *, grace_ms: float = GRACE_MS, session_ms: float = SESSION_MS) -> None:
        self.grace_ms, self.session_ms = grace_ms, session_ms
        self._sessions: dict[NodeId, _Session] = {}
        self._fenced: frozenset[NodeId] = frozenset()
        self._asked_ms: float | None = None

    # -- events

    def new_controller(self, now_ms: float, brokers: Mapping[NodeId, BrokerImage]) -> None:
        """The node decides from now on: nothing is known of anybody yet."""
        self._sessions = {one.id: _Session(one.epoch, now_ms) for one in brokers.values()}
        self._asked_ms = now_ms
        self.follow(brokers, now_ms)

    def follow(self, brokers: Mapping[NodeId, BrokerImage], now_ms: float) -> None:
        """What is registered changed."""
        self._fenced = frozenset(one.id for one in brokers.values() if one.fenced)
        self._sessions = {one: session for one, session in self._sessions.items() if one in brokers}
        for broker in brokers.values():
            session = self._sessions.get(broker.id)
            if session is None or session.epoch < broker.epoch:
                self._sessions[broker.id] = _Session(broker.epoch, now_ms)

    def stream_opened(self, broker: NodeId, epoch: int, now_ms: float) -> None:
        """A broker's stream came in, and was found to be of the incarnation that is registered."""
        known = self._sessions.get(broker)
        if known is not None and known.epoch > epoch:
            return
        offset = known.metadata_offset if known is not None and known.epoch == epoch else -1
        self._sessions[broker] = _Session(epoch, now_ms, open=True, metadata_offset=offset)

    def stream_broken(self, broker: NodeId, epoch: int, now_ms: float) -> None:
        """A broker's stream ended. One of an older incarnation means nothing any more."""
        session = self._session(broker, epoch)
        if session is not None and session.open:
            session.open, session.broken_ms = False, now_ms

    def stream_ended(self, broker: NodeId) -> None:
        """The stream that led to it is no more, for a reason that says nothing of the broker: only silence counts now.

        It may come back over another one; or the other one is of its next incarnation, which is then no duplicate.
        """
        session = self._sessions.get(broker)
        if session is not None:
            session.open = False

    def heard(self, broker: NodeId, epoch: int, now_ms: float, metadata_offset: int = -1) -> None:
        """Something came over its stream, e.g. a heartbeat with the offset that its metadata have."""
        session = self._session(broker, epoch)
        if session is not None:
            session.since_ms = max(session.since_ms, now_ms)
            session.metadata_offset = max(session.metadata_offset, metadata_offset)

    def connection_refused(self, broker: NodeId, now_ms: float) -> None:
        """A connection of this controller's own to the broker was refused or reset."""
        session = self._sessions.get(broker)
        if session is not None and not session.open and session.broken_ms is None:
            session.broken_ms = now_ms

    def process_ended(self, broker: NodeId) -> None:
        """A link to it broke, and then nothing listened where it did."""
        session = self._sessions.get(broker)
        if session is not None and not session.open:
            session.ended = True

    def tick(self, now_ms: float) -> list[NodeId]:
        """Who is to be fenced now, in the order of ids."""
        self._forgive_pause(now_ms)
        due = sorted(
            broker
            for broker, session in self._sessions.items()
            if broker not in self._fenced and self._deadline_ms(session) <= now_ms
        )
        for broker in due:  # named again when that was not committed
            session = self._sessions[broker]
            session.open = session.ended = (
                False  # whoever registers under that id is no duplicate of one that is silent
            )
            session.since_ms = now_ms + self.grace_ms - self.session_ms
            if session.broken_ms is not None:
                session.broken_ms = now_ms
        return due

    # -- what is known

    def is_live(self, broker: NodeId) -> bool:
        """Whether its incarnation is still heard of: another one with the same id must be refused."""
        session = self._sessions.get(broker)
        return session is not None and session.open

    def metadata_offset(self, broker: NodeId) -> int:
        """Up to where it knows the metadata log, as it last told; -1 when it did not."""
        session = self._sessions.get(broker)
        return session.metadata_offset if session is not None else -1

    def next_deadline_ms(self) -> float | None:
        """When the next broker is to be fenced if nothing happens."""
        watched = [self._deadline_ms(one) for broker, one in self._sessions.items() if broker not in self._fenced]
        return min(watched, default=None)

    def reached(self, metadata_offset: int, *, but: Iterable[NodeId] = ()) -> bool:
        """Whether every broker that is not fenced knows the metadata log so far."""
        waived = {*self._fenced, *but}
        return all(
            session.metadata_offset >= metadata_offset
            for broker, session in self._sessions.items()
            if broker not in waived
        )

    def _session(self, broker: NodeId, epoch: int) -> _Session | None:
        session = self._sessions.get(broker)
        return session if session is not None and session.epoch == epoch else None

    def _deadline_ms(self, session: _Session) -> float:
        if session.ended:
            return -math.inf
        silent_ms = session.since_ms + self.session_ms
        return silent_ms if session.broken_ms is None else min(silent_ms, session.broken_ms + self.grace_ms)

    def _forgive_pause(self, now_ms: float) -> None:
        asked_ms, self._asked_ms = self._asked_ms, now_ms
        paused_ms = 0.0 if asked_ms is None else now_ms - asked_ms - self.grace_ms
        if paused_ms <= 0:
            return
        for session in self._sessions.values():
            session.since_ms = min(session.since_ms + paused_ms, now_ms)
            if session.broken_ms is not None:
                session.broken_ms = min(session.broken_ms + paused_ms, now_ms)

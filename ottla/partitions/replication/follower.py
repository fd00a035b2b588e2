"""What a follower does in which state: subscribe, cut where it diverged, take what the leader sends.

                       lead               connected           accepted
    NO_LEADER ────────────────▶ WAITING ────────────▶ SUBSCRIBING ────────▶ STREAMING
        ▲                        ▲   ▲                  │   ▲  │ diverged,     │ begin anew
        │ lose (from any state)  │   │ disconnected,    │   │  ▼ begin anew    ▼
        └────────────────────────┘   │ refused (pause)  │   └─ CUTTING ◀───────┘
                                     └──────────────────┘      │ done: subscribe, or wait for the connection
                                                               ▼ failed
                                                             OFFLINE  until the node starts again

The table is `_LEGAL`; an event that has no place in a state is an error, but for those that cross a change of state on
the wire: they bear the number of an old subscription and never get here. While the log is being cut the leader may
change and the connection may break: both are remembered, nothing else happens before the cut is done.

Pure: each event returns what is to be done. Sources: KIP-101 and KIP-279 (cutting by epochs), KIP-595 (the shape).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from ottla.core.errors import OttlaError
from ottla.core.types import NodeId
from ottla.partitions.replication.divergence import BeginAnew, Diverged, LogView, cut_at
from ottla.partitions.replication.types import NO_LEADER


class Step(Enum):
    """Where a follower is."""

    NO_LEADER = "no leader known"
    WAITING = "waiting for the connection"
    SUBSCRIBING = "subscribing"
    CUTTING = "truncating"
    STREAMING = "streaming"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Tell the leader where the log ends."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Cut the log at `offset`. `lossy`: below the high watermark, so acknowledged records go."""

    offset: int
    lossy: bool


@dataclass(frozen=True, slots=True)
class StartAnew:
    """Forget the whole log; it begins at `offset` now."""

    offset: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait a little, then `retry`."""


Action = Subscribe | Truncate | StartAnew | Pause

_LEGAL: Final[dict[str, frozenset[Step]]] = {
    "lead": frozenset(Step) - {Step.OFFLINE},
    "connected": frozenset({Step.NO_LEADER, Step.WAITING, Step.CUTTING}),
    "disconnected": frozenset(Step),
    "retry": frozenset({Step.NO_LEADER, Step.WAITING, Step.CUTTING, Step.SUBSCRIBING, Step.STREAMING}),
    "accepted": frozenset({Step.SUBSCRIBING}),
    "diverged": frozenset({Step.SUBSCRIBING}),
    "begin_anew": frozenset({Step.SUBSCRIBING, Step.STREAMING}),
    "refused": frozenset({Step.SUBSCRIBING, Step.STREAMING}),
    "data": frozenset({Step.STREAMING}),
    "cut": frozenset({Step.CUTTING}),
    "failed": frozenset(Step),
}


class UnexpectedEvent(OttlaError):
    """An event that has no place in the state; the connection it came over is closed."""


class FollowerState:
    """One partition that another node leads."""

    def __init__(self) -> None:
        self.step = Step.NO_LEADER
        self.leader: NodeId = NO_LEADER
        self.leader_epoch = -1
        self.online = False  # the connection to the leader stands

    def lead(self, leader: NodeId, leader_epoch: int, *, online: bool) -> list[Action]:
        """The metadata name a leader, or none. `online`: there is a connection to it already."""
        self._check("lead")
        self.leader, self.leader_epoch, self.online = leader, leader_epoch, online and leader != NO_LEADER
        return [] if self.step is Step.CUTTING else self._begin()

    def connected(self) -> list[Action]:
        self._check("connected")
        self.online = True
        return self._begin() if self.step is Step.WAITING else []

    def disconnected(self) -> None:
        self._check("disconnected")
        self.online = False
        if self.step in (Step.SUBSCRIBING, Step.STREAMING):
            self.step = Step.WAITING

    def accepted(self) -> None:
        """The leader found the log to be a beginning of its own."""
        self._check("accepted")
        self.step = Step.STREAMING

    def data(self) -> None:
        """Batches came."""
        if self.step is not Step.STREAMING:  # the only one; to look it up in the table costs more
            self._check("data")

    def diverged(self, answer: Diverged, log: LogView, high_watermark: int) -> list[Action]:
        """The leader's log is another one from some offset on."""
        self._check("diverged")
        offset = cut_at(log, answer)
        if offset >= log.log_end_offset:
            # Nothing to cut, though the leader says that the logs differ: it knows nothing of an epoch of ours.
            self.step = Step.WAITING
            return [Pause()]
        self.step = Step.CUTTING
        return [Truncate(offset, offset < high_watermark)]

    def begin_anew(self, answer: BeginAnew, log: LogView) -> list[Action]:
        """The leader has nothing any more that would follow our last record."""
        self._check("begin_anew")
        if answer.offset <= log.log_end_offset:
            self.step = Step.WAITING  # it came from an older state of the leader
            return [Pause()]
        self.step = Step.CUTTING
        return [StartAnew(answer.offset)]

    def refused(self) -> list[Action]:
        """The leader does not know of this leadership yet or any more, or cannot read its log."""
        self._check("refused")
        self.step = Step.WAITING
        return [Pause()]

    def retry(self) -> list[Action]:
        """The pause is over."""
        self._check("retry")
        return self._begin() if self.step is Step.WAITING else []

    def cut(self) -> list[Action]:
        """The log was cut, or begun anew."""
        self._check("cut")
        return self._begin()

    def failed(self) -> None:
        """The log is out of service."""
        self._check("failed")
        self.step = Step.OFFLINE

    def _begin(self) -> list[Action]:
        if self.leader == NO_LEADER:
            self.step = Step.NO_LEADER
        elif not self.online:
            self.step = Step.WAITING
        else:
            self.step = Step.SUBSCRIBING
            return [Subscribe()]
        return []

    def _check(self, event: str) -> None:
        if self.step not in _LEGAL[event]:
            raise UnexpectedEvent(f"{event} while {self.step.value}")

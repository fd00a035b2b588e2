"""The narrow interface of the metadata log: what everything above consensus may know of it.

Bytes are proposed, become committed at an index, and are applied in the order of their indexes, on every node the same.
How they are agreed on is the implementation's affair: `single_voter.SingleVoterLog` for a quorum of one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from ottla.core.errors import OttlaError
from ottla.core.types import NodeId


class NotLeader(OttlaError):
    """Only the leader proposes; `leader` is who that is, as far as this node knows."""

    def __init__(self, leader: NodeId | None) -> None:
        super().__init__(f"the quorum's leader is node {leader}" if leader is not None else "the quorum has no leader")
        self.leader = leader


@dataclass(frozen=True, slots=True)
class Entry:
    """One committed entry of the log."""

    index: int
    term: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state that all entries up to `index` lead to."""

    index: int
    term: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """Where a proposal was committed, and what the state machine answered when it was applied."""

    index: int
    result: object


class StateMachine(Protocol):
    """What the committed log is replayed into. All calls come on the loop, one after the other."""

    def apply(self, entry: Entry) -> object:
        """Called once for each entry, in order. The result goes to whoever proposed it on this node."""

    def snapshot(self) -> Callable[[], bytes]:
        """The state after the last applied entry, frozen now; the function that encodes it may run in a thread."""

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole state."""

    def leadership_changed(self, leader: NodeId | None, term: int) -> None:
        """Proposals of an earlier term that are not applied yet may be lost."""


class LogObserver(Protocol):
    """Follows the committed log without a part in it."""

    def observe(self, item: Snapshot | Entry) -> None:
        """A snapshot when what was asked for is compacted away, then every entry, in order."""


class Quorum(Protocol):
    """One node's view of the metadata log."""

    @property
    def is_leader(self) -> bool: ...
    @property
    def leader(self) -> NodeId | None: ...
    @property
    def term(self) -> int: ...
    @property
    def commit_index(self) -> int: ...

    def propose(self, data: bytes) -> Awaitable[Committed]:
        """Queue `data`, in the order of calls; resolves after it is committed and applied on this node.

        Raises NotLeader at once or when leadership ends (whether it gets committed is then unknown), StorageError
        when this node's journal failed.
        """

    def read_barrier(self) -> Awaitable[int]:
        """Resolves when this node has applied all that was committed anywhere when it was called; NotLeader."""

    def observe(self, observer: LogObserver, after_index: int) -> Callable[[], None]:
        """Send what is committed after `after_index`, then what will be; returns the function that ends it."""

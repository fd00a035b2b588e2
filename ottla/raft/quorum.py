"""The narrow interface of the metadata log: what everything above consensus may know of it.

Bytes are proposed, become committed at an index, and are applied in the order of their indexes, on every node the same.
How they are agreed on is the implementation's affair (`driver.RaftNode`).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ottla.core.errors import OttlaError
from ottla.core.types import NodeId
from ottla.raft.core.errors import MembershipError, Overloaded
from ottla.raft.core.membership import Member, Membership

__all__ = [
    "Committed",
    "Entry",
    "LogObserver",
    "Member",
    "Membership",
    "MembershipError",
    "NotLeader",
    "Overloaded",
    "ProposalLost",
    "Quorum",
    "RequestId",
    "SessionExpired",
    "Snapshot",
    "StateMachine",
]


class NotLeader(OttlaError):
    """Only the leader does this; `leader` is who that is, as far as this node knows."""

    def __init__(self, leader: NodeId | None, reason: str = "") -> None:
        who = f"the quorum's leader is node {leader}" if leader is not None else "the quorum has no leader"
        super().__init__(reason or who)
        self.leader = leader


class ProposalLost(NotLeader):
    """Leadership ended before the proposal was committed: whether it ever will be is unknown.

    A proposal with a `RequestId` may be sent again, to whoever leads: it is applied once.
    """


class SessionExpired(OttlaError):
    """The session was never opened or was dropped for newer ones: nothing was applied. Open a new one."""


@dataclass(frozen=True, slots=True)
class RequestId:
    """Names a proposal across retries (dissertation 6.3): it is applied once, and each retry gets the first result.

    `client` comes from `Quorum.open_session`; `sequence` counts from 1. The client promises that it sends none of its
    proposals below `resolved_below` again, so that their results may be forgotten.
    """

    client: int
    sequence: int
    resolved_below: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One committed entry of the log, as the state machine sees it."""

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
    result: bytes


class StateMachine(Protocol):
    """What the committed log is replayed into. All calls come on the loop, one after the other."""

    def apply(self, entry: Entry) -> bytes:
        """Called once for each proposal, in order (indexes may skip: the quorum's own entries are not shown).

        The result goes to whoever proposed it, also to one who retries later, so it is kept in snapshots: keep it
        short. An exception is a defect: it is logged, and stands for an empty result on every node alike.
        """

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
    def commit_index(self) -> int:
        """The index of the last entry that is applied here."""

    @property
    def membership(self) -> Membership:
        """The newest one, committed or not."""

    @property
    def last_index(self) -> int:
        """The end of this node's log, committed or not."""

    def matched(self) -> Mapping[Member, int]:
        """Up to which entry each member is known to hold the log durably; only the leader knows."""

    def propose(self, data: bytes, request: RequestId | None = None) -> Awaitable[Committed]:
        """Queue `data`, in the order of calls; resolves after it is committed and applied on this node.

        Raises NotLeader or Overloaded when it was not proposed, ProposalLost when leadership ends first (whether it
        gets committed is then unknown), SessionExpired, StorageError when this node's journal failed.
        """

    def open_session(self) -> Awaitable[int]:
        """A client id for `RequestId`. Raises as `propose`."""

    def read_barrier(self) -> Awaitable[int]:
        """Resolves when this node has applied all that was committed anywhere when it was called; NotLeader."""

    def observe(self, observer: LogObserver, after_index: int) -> Callable[[], None]:
        """Send what is committed after `after_index`, then what will be; returns the function that ends it."""

    def add_voter(self, member: Member, endpoint: str) -> Awaitable[None]:
        """Bring a new member up to date; resolves when it is a voter and that is committed.

        Raises NotLeader, MembershipError (not allowed, or not now), ProposalLost.
        """

    def remove_member(self, member: Member) -> Awaitable[None]:
        """Resolves when the removal is committed. Raises as `add_voter`."""

    def transfer_leadership(self, node: NodeId) -> Awaitable[None]:
        """Resolves when another leads. Raises NotLeader, MembershipError, ProposalLost when it took too long."""

"""What the log consists of, and what a node must not forget."""

from dataclasses import dataclass
from enum import IntEnum

from ottla.raft.core.membership import Member, Membership


class EntryKind(IntEnum):
    """What an entry carries."""

    EMPTY = 0  # a new leader's first entry: it commits what earlier terms left (section 5.4.2)
    DATA = 1  # a proposal
    MEMBERSHIP = 2  # the members from here on
    SESSION = 3  # opens a client's session; the client's id is the entry's index


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log. `client` (a session) and `sequence` name a proposal across retries; 0 and 0 where nobody
    retries.
    """

    index: int
    term: int
    kind: EntryKind = EntryKind.EMPTY
    data: bytes = b""
    client: int = 0
    sequence: int = 0
    resolved_below: int = 0
    """The client knows the outcome of all its proposals of a smaller sequence, and retries none of them."""

    @property
    def size_bytes(self) -> int:
        return 48 + len(self.data)


@dataclass(frozen=True, slots=True)
class HardState:
    """Persisted before any message that depends on it."""

    term: int
    vote: Member | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the entries up to `index` led to: the state machine's `data`, and who is a member."""

    index: int
    term: int
    membership: Membership
    data: bytes


@dataclass(frozen=True, slots=True)
class ReadState:
    """What was committed when the read named by `context` was asked for lies at `index` or before: read once that is
    applied.
    """

    context: object
    index: int

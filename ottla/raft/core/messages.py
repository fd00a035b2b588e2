"""What members say to each other. Each message carries its sender, its addressee and the sender's term.

Replies carry the number of the request that they answer, so that a late one is recognised.
"""

from dataclasses import dataclass

from ottla.raft.core.entries import Entry
from ottla.raft.core.membership import Member, Membership


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Common to all messages."""

    source: Member
    target: Member
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRequest(Message):
    """RequestVote (section 5.2). With `pre`, the question whether a candidate of `term` would be elected: nobody's
    term changes by it (dissertation 9.6). With `transfer`, the leader itself asked for this election, so that the rule
    against disturbing a living leader does not hold (dissertation 4.2.3).
    """

    last_index: int
    last_term: int
    pre: bool = False
    transfer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteResponse(Message):
    """Granted: `term` is the one asked for. Refused: it is the voter's own."""

    granted: bool
    pre: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendRequest(Message):
    """AppendEntries (section 5.3) with entries, or with a new commit index alone."""

    number: int
    previous_index: int
    previous_term: int
    commit: int
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResponse(Message):
    """Matched: the log equals the leader's up to `index`, durably. Else: `index`, of `hint_term`, is the last place
    where the two logs may agree.
    """

    number: int
    matched: bool
    index: int
    hint_term: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """Says that the leader lives, and asks whether it still leads: `round` is what read barriers wait for."""

    round: int
    commit: int  # never beyond what the follower is known to match


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatResponse(Message):
    """Echoes the round."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotChunk(Message):
    """InstallSnapshot (section 7): `data` at `offset` of a snapshot of `size` bytes, each with its CRC-32."""

    number: int
    index: int
    index_term: int
    membership: Membership
    size: int
    checksum: int
    offset: int
    data: bytes
    data_checksum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotResponse(Message):
    """`offset` bytes of the snapshot at `index` have arrived whole; the next chunk starts there."""

    number: int
    index: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutNow(Message):
    """The leader asks its addressee to be elected at once (dissertation 3.10)."""


FROM_LEADER = (AppendRequest, Heartbeat, SnapshotChunk, TimeoutNow)

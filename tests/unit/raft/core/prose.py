"""The core's messages, entries and roles in words, for transcripts."""

from collections.abc import Sequence

from ottla.raft.core import Entry, EntryKind, Member, Membership, Raft
from ottla.raft.core.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Message,
    SnapshotChunk,
    SnapshotResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)


def message_in_words(message: Message) -> str:
    return f"{message.source.node}→{message.target.node}  term {message.term}: {_said(message)}"


def _said(message: Message) -> str:
    match message:
        case VoteRequest(last_index=index, last_term=term, pre=pre, transfer=transfer):
            question = "would you vote for me" if pre else "vote for me"
            return question + (", the leader asked me to" if transfer else "") + f"; my log ends at {index}/{term}"
        case VoteResponse(granted=granted, pre=pre):
            return ("I would" if granted else "I would not") if pre else ("you have my vote" if granted else "no")
        case AppendRequest(previous_index=index, previous_term=term, commit=commit, entries=entries):
            return f"after {index}/{term} append {log_in_words(entries)}; committed to {commit}"
        case AppendResponse(matched=True, index=index):
            return f"I have all to {index}"
        case AppendResponse(index=index, hint_term=term):
            return f"no match; perhaps at {index}/{term}"
        case Heartbeat(round=number, commit=commit):
            return f"heartbeat {number}; committed to {commit}"
        case HeartbeatResponse(round=number):
            return f"heard {number}"
        case SnapshotChunk(index=index, size=size, offset=offset, data=data):
            return f"snapshot to {index}, bytes {offset} to {offset + len(data)} of {size}"
        case SnapshotResponse(index=index, offset=offset):
            return f"snapshot to {index}, I have {offset} bytes"
        case TimeoutNow():
            return "seek election now"
    raise TypeError(f"no words for {message}")


def log_in_words(entries: Sequence[Entry]) -> str:
    return " ".join(f"{entry.index}/{entry.term}:{_content(entry)}" for entry in entries) or "nothing"


def _content(entry: Entry) -> str:
    match entry.kind:
        case EntryKind.EMPTY:
            return "-"
        case EntryKind.MEMBERSHIP:
            return membership_in_words(Membership.decode(entry.data))
        case EntryKind.SESSION:
            return "session"
    return entry.data.decode()


def membership_in_words(membership: Membership) -> str:
    learners = f"+learner{_numbers(membership.learners)}" if membership.learners else ""
    return f"voters{_numbers(membership.voters)}{learners}"


def _numbers(members: "frozenset[Member]") -> str:
    return "(" + ",".join(str(member.node) for member in sorted(members)) + ")"


def role_in_words(raft: Raft) -> str:
    words = {"Follower": "follows", "PreCandidate": "asks around", "Candidate": "seeks votes", "Leader": "leads"}
    role = words[type(raft.role).__name__]
    whom = f" {raft.leader.node}" if role == "follows" and raft.leader is not None else ""
    return f"{role}{whom} in term {raft.term}"

"""Messages, entries and members in a few words, for the trace of a run that failed."""

from typing import Any

from ottla.raft.core.entries import Entry
from ottla.raft.core.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Message,
    SnapshotChunk,
    SnapshotResponse,
    VoteRequest,
    VoteResponse,
)


def describe(thing: Any) -> str:
    """One line."""
    if isinstance(thing, Message):
        return f"{type(thing).__name__} term {thing.term} {_content(thing)}"
    if isinstance(thing, Entry):
        return f"{thing.index}:{thing.term}"
    text = str(thing)
    return text if len(text) < 200 else f"{text[:200]}…"


def _content(message: Message) -> str:
    match message:
        case VoteRequest(last_index=index, last_term=term, pre=pre, transfer=transfer):
            return f"log ends {index}:{term}{' pre' * pre}{' transfer' * transfer}"
        case VoteResponse(granted=granted, pre=pre):
            return f"{'granted' if granted else 'refused'}{' pre' * pre}"
        case AppendRequest(number=number, previous_index=index, previous_term=term, commit=commit, entries=entries):
            held = f"{describe(entries[0])}…{describe(entries[-1])}" if entries else "nothing"
            return f"#{number} after {index}:{term}: {held}, commit {commit}"
        case AppendResponse(number=number, matched=matched, index=index, hint_term=term):
            return f"#{number} matched {index}" if matched else f"#{number} refused, hint {index}:{term}"
        case Heartbeat(round=number, commit=commit):
            return f"round {number}, commit {commit}"
        case HeartbeatResponse(round=number):
            return f"round {number}"
        case SnapshotChunk(number=number, index=index, index_term=term, size=size, offset=offset, data=data):
            return f"#{number} {index}:{term}, bytes {offset}+{len(data)} of {size}"
        case SnapshotResponse(number=number, index=index, offset=offset):
            return f"#{number} {index}, next byte {offset}"
    return ""

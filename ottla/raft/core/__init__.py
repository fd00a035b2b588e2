"""The consensus core: Raft as a pure state machine.

Events go in (`step`, `tick`, `propose`, `persisted`), a `Ready` comes out: what to persist, what to send, what to
apply. No clock, socket, file, thread or random source of its own; a driver owns those. Read `raft.py` first, next to
"In Search of an Understandable Consensus Algorithm (Extended Version)" (Ongaro and Ousterhout 2014), whose sections
the comments name; where the source is "Consensus: Bridging Theory and Practice" (Ongaro 2014), they say dissertation.
"""

from ottla.raft.core.entries import Entry, EntryKind, HardState, ReadState, Snapshot
from ottla.raft.core.errors import MembershipError, NotLeading, Overloaded, SafetyViolation
from ottla.raft.core.membership import Member, Membership
from ottla.raft.core.raft import Config, Raft, Ready

__all__ = [
    "Config",
    "Entry",
    "EntryKind",
    "HardState",
    "Member",
    "Membership",
    "MembershipError",
    "NotLeading",
    "Overloaded",
    "Raft",
    "ReadState",
    "Ready",
    "SafetyViolation",
    "Snapshot",
]

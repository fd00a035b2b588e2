"""The replicated state of one node: the user's state machine, with the sessions of its clients beside it.

Committed entries go in, in order; each proposal is applied once, whatever was sent again; what is shown to observers is
what was applied. The state of both goes into one snapshot.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import Final

import structlog

from ottla.core.errors import DecodeError
from ottla.raft.core import Entry as LogEntry
from ottla.raft.core import EntryKind
from ottla.raft.core import Snapshot as LogSnapshot
from ottla.raft.quorum import Entry, LogObserver, SessionExpired, Snapshot, StateMachine
from ottla.raft.sessions import Sessions, Standing

logger = structlog.get_logger(__name__)

_SESSIONS_BYTES: Final = struct.Struct(">I")
_index = attrgetter("index")

Outcome = bytes | SessionExpired


class Replica:
    """`machine` at `applied_index`."""

    def __init__(self, machine: StateMachine, *, kept_entries: int) -> None:
        self.applied_index = 0
        self._machine, self._kept_entries = machine, kept_entries
        self._sessions = Sessions()
        self._snapshot: Snapshot | None = None  # the newest one; observers begin with it when they are far behind
        self._applied: list[Entry] = []  # from a little before the snapshot on
        self._first_kept = 0  # observers behind this index need the snapshot
        self._observers: list[LogObserver] = []

    def apply(self, entry: LogEntry) -> Outcome:
        """A committed entry, the one after `applied_index`."""
        self.applied_index = entry.index
        if entry.kind is EntryKind.DATA:
            return self._apply_once(entry) if entry.client else self._apply(entry)
        if entry.kind is EntryKind.SESSION:
            self._sessions.open(entry.index)
        return b""

    def _apply_once(self, entry: LogEntry) -> Outcome:
        sessions, client, sequence = self._sessions, entry.client, entry.sequence
        standing = sessions.standing(client, sequence)
        sessions.use(client, entry.resolved_below)
        if standing is Standing.UNKNOWN:
            return SessionExpired(f"session {client} is not known, or proposal {sequence} of it is long resolved")
        if standing is not Standing.NEW:
            assert isinstance(standing, bytes)
            return standing
        result = self._apply(entry)
        sessions.record(client, sequence, result)
        return result

    def _apply(self, entry: LogEntry) -> bytes:
        shown = Entry(entry.index, entry.term, entry.data)
        self._applied.append(shown)
        try:
            result = self._machine.apply(shown)
        except Exception:  # a defect of the state machine: the same on every node, and the log must go on
            logger.exception("a committed entry could not be applied", index=entry.index)
            result = b""
        for observer in tuple(self._observers):
            observer.observe(shown)
        return result

    def known_result(self, client: int, sequence: int) -> bytes | None:
        """What an earlier attempt of this proposal had for a result, if it was applied."""
        standing = self._sessions.standing(client, sequence)
        return standing if isinstance(standing, bytes) else None

    # -- snapshots

    def freeze(self) -> Callable[[], bytes]:
        """The state now; what is returned encodes it and may run in a thread."""
        sessions, encode = self._sessions.encode(), self._machine.snapshot()
        return lambda: b"".join((_SESSIONS_BYTES.pack(len(sessions)), sessions, encode()))

    def compacted(self, snapshot: LogSnapshot) -> None:
        """A snapshot of this node's own is durable: forget what only observers far behind would need."""
        _, self._snapshot = _split(snapshot)
        keep_from = snapshot.index - self._kept_entries
        del self._applied[: bisect_right(self._applied, keep_from, key=_index)]
        self._first_kept = max(self._first_kept, keep_from)

    def restore(self, snapshot: LogSnapshot) -> None:
        """Replace the whole state. Raises DecodeError for what `freeze` did not make."""
        sessions, shown = _split(snapshot)
        self._sessions = Sessions.decode(sessions)
        self._snapshot, self._first_kept, self.applied_index = shown, snapshot.index, snapshot.index
        self._applied.clear()
        self._machine.restore(shown)
        for observer in tuple(self._observers):
            observer.observe(shown)

    # -- observers

    def observe(self, observer: LogObserver, after_index: int) -> Callable[[], None]:
        """See `Quorum.observe`."""
        if self._snapshot is not None and after_index < self._first_kept:
            observer.observe(self._snapshot)
            after_index = self._snapshot.index
        for entry in self._applied:
            if entry.index > after_index:
                observer.observe(entry)
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)


def _split(snapshot: LogSnapshot) -> tuple[bytes, Snapshot]:
    """The sessions, and the state machine's own part."""
    data = snapshot.data
    if len(data) < _SESSIONS_BYTES.size:
        raise DecodeError(f"a snapshot of {len(data)} bytes")
    end = _SESSIONS_BYTES.size + _SESSIONS_BYTES.unpack_from(data)[0]
    return data[_SESSIONS_BYTES.size : end], Snapshot(snapshot.index, snapshot.term, data[end:])

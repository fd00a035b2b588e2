"""The log of one member, in memory: the entries that are kept, the newest snapshot, and three marks.

    base_index ≤ snapshot.index ≤ applied ≤ commit ≤ last_index        stable ≤ last_index

`base_index` is the index before the first kept entry: some entries below the snapshot stay for followers that are a
little behind. `stable` is how far the journal holds what stands here. Memberships count from the moment they are
appended (dissertation 4.1), so the log keeps them, and truncation brings an earlier one back.
"""

from collections.abc import Sequence

from ottla.raft.core.entries import Entry, EntryKind, Snapshot
from ottla.raft.core.errors import SafetyViolation
from ottla.raft.core.membership import Membership


class RaftLog:
    """Indexes start at 1; index 0 of term 0 is the empty beginning that all logs have in common."""

    __slots__ = ("_memberships", "applied", "base_index", "base_term", "commit", "entries", "snapshot", "stable",
                 "uncommitted_bytes")  # fmt: skip

    def __init__(self, snapshot: Snapshot, entries: Sequence[Entry] = ()) -> None:
        self.entries: list[Entry] = []
        self.reset(snapshot)
        self.append(entries)
        self.stable = self.last_index

    def reset(self, snapshot: Snapshot) -> None:
        """The snapshot replaces everything."""
        self.snapshot = snapshot
        self.entries.clear()
        self.uncommitted_bytes = 0
        self.base_index, self.base_term = snapshot.index, snapshot.term
        self.stable = self.commit = self.applied = snapshot.index
        self._memberships: list[tuple[int, Membership]] = [(snapshot.index, snapshot.membership)]

    # -- looking

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.base_term

    @property
    def membership(self) -> Membership:
        """The newest one in the log, committed or not."""
        return self._memberships[-1][1]

    @property
    def membership_index(self) -> int:
        """Where the newest membership was appended."""
        return self._memberships[-1][0]

    def membership_at(self, index: int) -> Membership:
        """The members as of an index that is not compacted away."""
        return next(m for at, m in reversed(self._memberships) if at <= index)

    def term_at(self, index: int) -> int | None:
        """None where the log has nothing, or nothing any more."""
        if index == self.base_index:
            return self.base_term
        if self.base_index < index <= self.last_index:
            return self.entries[index - self.base_index - 1].term
        return None

    def slice(self, start: int, stop: int, max_bytes: int) -> tuple[Entry, ...]:
        """Entries from `start` and before `stop`, at most `max_bytes` of them but at least one."""
        found: list[Entry] = []
        size = 0
        for entry in self.entries[start - self.base_index - 1 : stop - self.base_index - 1]:
            size += entry.size_bytes
            if found and size > max_bytes:
                break
            found.append(entry)
        return tuple(found)

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as up-to-date as this one (section 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def agrees_at_most(self, index: int, term: int) -> tuple[int, int]:
        """The last place at or below `index` whose term is not above `term`: where two logs may agree. One refusal
        then skips a whole term (section 5.3, at its end).
        """
        at = min(index, self.last_index)
        while at >= self.base_index and (self.term_at(at) or 0) > term:
            at -= 1  # to just before the base, if need be: then only a snapshot helps
        return at, self.term_at(at) or 0

    # -- changing

    def append(self, entries: Sequence[Entry]) -> None:
        """At the end, in order of index."""
        for entry in entries:
            if entry.index != self.last_index + 1:
                raise SafetyViolation(f"entry {entry.index} would follow entry {self.last_index}")
            self.entries.append(entry)
            self.uncommitted_bytes += entry.size_bytes
            if entry.kind is EntryKind.MEMBERSHIP:
                self._memberships.append((entry.index, Membership.decode(entry.data)))

    def merge(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """A leader's entries, whose predecessor matches. Only a conflict of terms truncates: what a late or repeated
        request does not mention may be acknowledged already. Returns the entries that are new.
        """
        for n, entry in enumerate(entries):
            term = self.term_at(entry.index)
            if entry.index > self.base_index and term != entry.term:
                if term is not None:
                    self.truncate(entry.index)
                self.append(entries[n:])
                return entries[n:]
        return ()

    def truncate(self, index: int) -> None:
        """Forget `index` and all after it."""
        if index <= self.commit:
            raise SafetyViolation(f"entry {index} conflicts, but entries up to {self.commit} are committed")
        gone = self.entries[index - self.base_index - 1 :]
        del self.entries[index - self.base_index - 1 :]
        self.uncommitted_bytes -= sum(entry.size_bytes for entry in gone)
        self.stable = min(self.stable, index - 1)
        while self._memberships[-1][0] >= index:
            self._memberships.pop()

    def commit_to(self, index: int) -> None:
        """Never goes back; beyond the end of the log would be a violation."""
        if index > self.last_index:
            raise SafetyViolation(f"commit index {index} lies beyond the last entry {self.last_index}")
        if index > self.commit:
            committed = self.entries[self.commit - self.base_index : index - self.base_index]
            self.uncommitted_bytes -= sum(entry.size_bytes for entry in committed)
            self.commit = index

    def compact(self, snapshot: Snapshot, keep_from: int) -> None:
        """Replace applied entries by a snapshot of what they led to, but keep those from `keep_from` on."""
        if not self.snapshot.index <= snapshot.index <= self.applied:
            raise SafetyViolation(f"a snapshot at {snapshot.index}, but {self.applied} is applied")
        self.snapshot = snapshot
        base = max(self.base_index, min(keep_from - 1, snapshot.index))
        self.base_term = self.term_at(base) or 0
        del self.entries[: base - self.base_index]
        self.base_index = base
        current = [(at, m) for at, m in self._memberships if at > base]
        self._memberships = [(base, self.membership_at(base)), *current]

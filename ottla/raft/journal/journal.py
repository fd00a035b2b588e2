"""The journal: what one member of the quorum must not forget, on stable storage before anything depends on it.

    <number>.segment          hard states and entries, in frames; the newest one is written to
    <index>-<term>.snapshot   the state that the entries up to there led to
    *.new                     unfinished; a start removes them

All that one `persist` is handed goes into one frame with one sync. A segment's opening carries the hard state and where
the log ended, so earlier segments may go once a snapshot stands for their entries. A snapshot that the leader sent
restarts the log: it is made durable under its name, then a segment that says that nothing before it counts; that
segment's renaming is the moment at which the one log is replaced by the other.

After a failed write or sync nobody knows what the files hold: the journal refuses everything, and the next start finds
out (`recovery`).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol, Self

from ottla.core.errors import StorageError
from ottla.core.ports import Files
from ottla.raft.core import Entry, HardState, Member, Membership, SafetyViolation, Snapshot
from ottla.raft.journal.frames import FORMAT_VERSION
from ottla.raft.journal.outline import Outline, Place, check_order
from ottla.raft.journal.records import Opening, encode_records
from ottla.raft.journal.recovery import Recovered, recover
from ottla.raft.journal.segments import create_segment, size_for
from ottla.raft.journal.snapshots import snapshot_name, snapshot_places, write_snapshot

DEFAULT_SEGMENT_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """What a start finds."""

    hard_state: HardState
    snapshot: Snapshot
    """Of index 0 and with the bootstrap membership in a new directory."""
    entries: list[Entry]
    """Those after the snapshot."""
    torn_bytes: int
    """Of an unfinished write, which nothing depended on. It is gone now."""


class Change(Protocol):
    """What is to be persisted together, in this order; `ottla.raft.core.Ready` is one."""

    @property
    def hard_state(self) -> HardState | None: ...
    @property
    def snapshot(self) -> Snapshot | None:
        """Received from the leader: replaces the whole log."""

    @property
    def entries(self) -> Sequence[Entry]:
        """The first one replaces what is held at its index and after."""


class Journal:
    """Every method blocks. At most one of `persist` and `trim` at a time; `save_snapshot` may run beside `persist`."""

    def __init__(self, files: Files, directory: str, member: Member, segment_bytes: int, recovered: Recovered) -> None:
        self._files, self._directory, self._member = files, directory, member
        self._segment_bytes = segment_bytes
        self._hard_state, self._outline = recovered.hard_state, recovered.outline
        self._segments = recovered.segments
        self._frames: deque[tuple[int, int]] = recovered.frames
        self._unusable = ""
        self.size_bytes = sum(size for _, size in self._frames)
        """Of what was written since the last snapshot, to know when the next one is due."""

    @classmethod
    def open(
        cls,
        files: Files,
        directory: str,
        *,
        member: Member,
        bootstrap: Membership,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
    ) -> tuple[Self, Stored]:
        """Read the journal, or make one whose first members are `bootstrap`. What is returned is durable.

        Raises CorruptLog for damage, StorageError when the files are another member's or a newer version's.
        """
        recovered = recover(files, directory, member, bootstrap, segment_bytes)
        journal = cls(files, directory, member, segment_bytes, recovered)
        journal._remove_segments()
        stored = Stored(recovered.hard_state, recovered.snapshot, recovered.entries, recovered.torn_bytes)
        return journal, stored

    def persist(self, changes: Sequence[Change]) -> None:
        """All of it is durable when this returns. If it raises, any first part of it may be, at the next start.

        Raises SafetyViolation, before anything is written, for what Raft never asks for.
        """
        self._check_usable()
        plan = _Plan(self._hard_state, self._outline)
        for change in changes:
            plan.add(change)
        with self._fail_for_good():
            if plan.snapshot is not None:
                self._restart(plan.snapshot, plan.restart_state)
            if plan.new_state is not None or plan.entries:
                self._append(plan.new_state, plan.entries)
            self._hard_state, self._outline = plan.hard_state, plan.outline

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Durable beside the log, of which it stands for a part. After an OSError the journal goes on without it."""
        self._check_usable()
        write_snapshot(self._files, self._directory, snapshot, "saved")

    def trim(self, snapshot: Snapshot) -> None:
        """Let go of what a saved snapshot stands for. After an OSError some of it is still there, until the next time.

        A snapshot that was overtaken by a received one goes itself.
        """
        self._check_usable()
        place = Place(snapshot.index, snapshot.term)
        if place.index >= self._outline.base.index:
            if self._outline.term_at(place.index) != place.term:
                raise SafetyViolation(
                    f"a snapshot of entry {place.index} of term {place.term}, which is not in the log"
                )
            if not self._files.exists(f"{self._directory}/{snapshot_name(place)}"):
                raise StorageError(f"the snapshot of entry {place.index} was not saved")
            self._outline.compact(place)
            while self._frames and self._frames[0][0] <= place.index:
                self._frames.popleft()
            self.size_bytes = sum(size for _, size in self._frames)
        self._remove_segments()
        self._remove_snapshots()

    def close(self) -> None:
        """Everything is durable already."""
        self._unusable = self._unusable or "the journal is closed"
        self._segments[-1].close()

    # -- writing

    def _append(self, state: HardState | None, entries: Sequence[Entry]) -> None:
        body = encode_records(state, entries)
        if not self._segments[-1].has_room(len(body)):
            self._add_segment(self._hard_state, self._outline.last, len(body))
        last_index = entries[-1].index if entries else self._outline.last_index
        size = self._segments[-1].write(body, max((entry.index for entry in entries), default=0))
        self._frames.append((last_index, size))
        self.size_bytes += size

    def _add_segment(self, state: HardState, base: Place, body_bytes: int, *, restarts: bool = False) -> None:
        previous = self._segments[-1]
        opening = Opening(
            version=FORMAT_VERSION, member=self._member, size=size_for(body_bytes, self._segment_bytes),
            restarts=restarts, base=base, previous_end=previous.end, hard_state=state,
        )  # fmt: skip
        segment = create_segment(self._files, self._directory, previous.number + 1, opening)
        previous.close()
        self._segments.append(segment)

    def _restart(self, snapshot: Snapshot, state: HardState) -> None:
        place = Place(snapshot.index, snapshot.term)
        write_snapshot(self._files, self._directory, snapshot, "received")
        self._add_segment(state, place, 0, restarts=True)
        self._hard_state = state
        self._outline = Outline(place)
        self._frames.clear()
        self.size_bytes = 0
        while len(self._segments) > 1:
            self._remove_first()
        self._remove_snapshots()

    # -- removing

    def _remove_segments(self) -> None:
        """From the oldest on, those of which nothing follows the snapshot. None that was synced need be so removed:
        what comes back after a crash is removed at the start.
        """
        while len(self._segments) > 1 and self._segments[0].last_index <= self._outline.base.index:
            self._remove_first()

    def _remove_first(self) -> None:
        with suppress(FileNotFoundError):
            self._files.remove(self._segments[0].path)
        del self._segments[0]

    def _remove_snapshots(self) -> None:
        """Older ones only: a newer one may just have been saved."""
        for place in snapshot_places(self._files.list_directory(self._directory)):
            if place.index < self._outline.base.index:
                self._files.remove(f"{self._directory}/{snapshot_name(place)}")

    # -- failing

    def _check_usable(self) -> None:
        if self._unusable:
            raise StorageError(self._unusable)

    @contextmanager
    def _fail_for_good(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._unusable = (
                f"writing the metadata log in {self._directory} failed before ({error}); what it holds is found out "
                "when the node is started again"
            )
            raise


class _Plan:
    """What several changes come to. What precedes a received snapshot is not written, but for the hard state."""

    def __init__(self, hard_state: HardState, outline: Outline) -> None:
        self.hard_state, self.outline = hard_state, outline.copy()
        self.snapshot: Snapshot | None = None
        self.restart_state = hard_state  # when the snapshot came
        self.new_state: HardState | None = None
        self.entries: list[Entry] = []

    def add(self, change: Change) -> None:
        if change.hard_state is not None:
            self._set_state(change.hard_state)
        if change.snapshot is not None:
            self._restart(change.snapshot)
        for entry in change.entries:
            self.outline.put(entry.index, entry.term)
        self.entries += change.entries

    def _set_state(self, state: HardState) -> None:
        check_order(self.hard_state, state)
        self.hard_state = self.new_state = state

    def _restart(self, snapshot: Snapshot) -> None:
        if snapshot.index <= self.outline.base.index:
            raise SafetyViolation(f"a snapshot of entry {snapshot.index} after one of {self.outline.base.index}")
        self.outline.restart(Place(snapshot.index, snapshot.term))
        self.snapshot, self.restart_state = snapshot, self.hard_state
        self.new_state, self.entries = None, []

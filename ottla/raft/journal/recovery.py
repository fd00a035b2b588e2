"""What a start finds, and puts in order before anything depends on it.

The segments are the truth, and a snapshot counts when they hold its place: a received one is named before the segment
that restarts the log after it, and until that segment has its name, the old log stands and the snapshot is a leftover.
Of the segments those count that have their successors: from the newest one back to where the log restarts, or to the
first gap in their numbers, as a crash may undo some removals of a `trim` and not others. Each one's opening says how
the one before ended, so only the newest may end in an unfinished write.

What is found was perhaps never synced, and can be read all the same: the process may have died before the sync, or the
sync failed and left the pages clean. Only the last frame can be so, since each was durable before the next was begun.
It is written again, so that the sync means something for it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ottla.core.errors import DecodeError
from ottla.core.ports import Files
from ottla.raft.core import Entry, HardState, Member, Membership, SafetyViolation, Snapshot
from ottla.raft.journal.errors import damage
from ottla.raft.journal.frames import FORMAT_VERSION, HEADER_BYTES, Frame, FrameKind, find_header, is_torn, read_frame
from ottla.raft.journal.outline import BEGINNING, UNKNOWN_TERM, Outline, Place, check_order
from ottla.raft.journal.records import Opening, decode_records
from ottla.raft.journal.segments import (
    NEW_SUFFIX,
    Segment,
    create_segment,
    peek_opening,
    read_opening,
    segment_name,
    segment_numbers,
    size_for,
)
from ottla.raft.journal.snapshots import read_snapshot, snapshot_name, snapshot_places, write_snapshot

NOTHING = HardState(0, None)


@dataclass(slots=True)
class Recovered:
    """All that the directory holds, in order and durable."""

    hard_state: HardState
    snapshot: Snapshot
    entries: list[Entry]  # after the snapshot
    outline: Outline
    segments: list[Segment]
    frames: deque[tuple[int, int]]  # of the entries after the snapshot: (last index, bytes)
    torn_bytes: int


def recover(files: Files, directory: str, member: Member, bootstrap: Membership, segment_bytes: int) -> Recovered:
    """Raises CorruptLog for damage, StorageError for the journal of another member or of a newer version; no file that
    counts was changed then.
    """
    files.make_directory(directory)
    files.sync_directory(directory.rpartition("/")[0])
    names = files.list_directory(directory)
    files.sync_directory(directory)  # the names that were found, too, may be in memory only
    for name in names:
        if name.endswith(NEW_SUFFIX):
            files.remove(f"{directory}/{name}")  # first of all, as the disk may be full
    numbers, places = segment_numbers(names), snapshot_places(names)
    if not numbers:
        if places:
            raise damage(f"{directory}/{snapshot_name(places[-1])}", 0, "there is this snapshot, but no segment")
        _create(files, directory, member, segment_bytes)
        numbers = [1]
    log = _Log(files, directory, member)
    log.read(numbers)
    if log.is_new and not places:  # the segment is made first: a snapshot alone is no unfinished beginning
        write_snapshot(files, directory, Snapshot(0, 0, bootstrap, b""), "first")
        places = [BEGINNING]
    place = log.newest_of(places)
    snapshot = read_snapshot(files, directory, place)
    log.make_durable()
    for number in numbers:
        if number < log.segments[0].number:
            files.remove(f"{directory}/{segment_name(number)}")
    for other in places:
        if other != place:
            files.remove(f"{directory}/{snapshot_name(other)}")
    log.outline.compact(place)
    entries = [entry for entry in log.entries if entry.index > place.index]
    frames = deque(frame for frame in log.frames if frame[0] > place.index)
    return Recovered(log.hard_state, snapshot, entries, log.outline, log.segments, frames, log.torn_bytes)


def _create(files: Files, directory: str, member: Member, segment_bytes: int) -> None:
    opening = Opening(
        version=FORMAT_VERSION, member=member, size=size_for(0, segment_bytes), restarts=True,
        base=BEGINNING, previous_end=0, hard_state=NOTHING,
    )  # fmt: skip
    create_segment(files, directory, 1, opening).close()


@dataclass(slots=True)
class _Log:
    files: Files
    directory: str
    member: Member
    hard_state: HardState = NOTHING
    outline: Outline = field(default_factory=lambda: Outline(BEGINNING))
    entries: list[Entry] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    frames: deque[tuple[int, int]] = field(default_factory=deque)
    torn_bytes: int = 0
    restarts: bool = False  # the first segment's entries follow its base
    _last_frame: bytes = b""

    @property
    def is_new(self) -> bool:
        """Nothing was ever written here."""
        return self.restarts and self.outline.last == BEGINNING and self.hard_state == NOTHING and not self.frames

    # -- reading

    def read(self, numbers: Sequence[int]) -> None:
        chain = self._chain(numbers)
        for number in chain:
            self._read_segment(number, newest=number == chain[-1])

    def _path(self, number: int) -> str:
        return f"{self.directory}/{segment_name(number)}"

    def _chain(self, numbers: Sequence[int]) -> list[int]:
        number = first = numbers[-1]
        while number in numbers:
            first = number
            if peek_opening(self.files, self._path(number), number, self.member).restarts:
                break
            number -= 1
        return list(range(first, numbers[-1] + 1))

    def _read_segment(self, number: int, *, newest: bool) -> None:
        path = self._path(number)
        content = self.files.read_bytes(path)
        opening, frame = read_opening(content, path, number, self.member)
        if len(content) < opening.size:
            raise damage(path, len(content), f"the segment ends there, but was made with {opening.size} bytes")
        segment = Segment(path, number, opening.size, frame.end)
        self._join(opening, path)
        self.segments.append(segment)
        start = 0
        while (following := read_frame(content, number, segment.end)) is not None:
            start, frame = segment.end, following
            self._replay(frame, segment)
            segment.end = frame.end
        if newest:
            self._last_frame = content[start : segment.end]
            self._judge_tail(content, segment)

    def _join(self, opening: Opening, path: str) -> None:
        if not self.segments:
            self.restarts = opening.restarts
            self.outline.restart(opening.base)
            self.hard_state = opening.hard_state
            return
        previous = self.segments[-1]
        if opening.previous_end != previous.end:
            raise damage(
                previous.path, previous.end, f"a frame there is unreadable, of {opening.previous_end} bytes of frames"
            )
        if opening.base != self.outline.last or opening.hard_state != self.hard_state:
            raise damage(path, 0, f"the segment does not follow {previous.path}")

    def _replay(self, frame: Frame, segment: Segment) -> None:
        at, last_index = segment.end, 0
        if frame.kind is not FrameKind.RECORDS:
            raise damage(segment.path, at, "a frame of another kind is there")
        try:
            for record in decode_records(frame.body):
                if isinstance(record, HardState):
                    self._replay_state(record)
                else:
                    self._replay_entry(record)
                    last_index = record.index
                    segment.last_index = max(segment.last_index, record.index)
        except (DecodeError, SafetyViolation) as error:
            raise damage(segment.path, at, str(error)) from error
        self.frames.append((last_index or self.outline.last_index, frame.end - at))

    def _replay_state(self, state: HardState) -> None:
        check_order(self.hard_state, state)
        self.hard_state = state

    def _replay_entry(self, entry: Entry) -> None:
        outline = self.outline
        if entry.index <= outline.base.index and not self.restarts:
            # It replaces what stood in a segment that is gone, as all of it was in a snapshot later.
            outline.restart(Place(entry.index - 1, UNKNOWN_TERM))
        outline.put(entry.index, entry.term)
        del self.entries[entry.index - outline.base.index - 1 :]
        self.entries.append(entry)

    # -- the end

    def _judge_tail(self, content: bytes, segment: Segment) -> None:
        end = segment.end
        tail = len(content[end:].rstrip(b"\0"))
        if not tail:
            return
        later = find_header(content, segment.number, end)
        if later is not None:
            raise damage(segment.path, end, f"a frame there is unreadable, but another follows at byte {later}")
        if not is_torn(content, segment.number, end):
            raise damage(segment.path, end, "the last frame was written to its end and is unreadable")
        self.torn_bytes = tail

    def make_durable(self) -> None:
        """The last frame again, and zeros for what was torn behind it: its header last, without which the rest would
        look like damage, were this interrupted.
        """
        segment = self.segments[-1]
        segment.file = self.files.open(segment.path)
        header_bytes = min(HEADER_BYTES, self.torn_bytes)
        if self.torn_bytes > header_bytes:
            segment.file.pwritev([bytes(self.torn_bytes - header_bytes)], segment.end + header_bytes, sync=True)
        start = segment.end - len(self._last_frame)
        segment.file.pwritev([self._last_frame + bytes(header_bytes)], start, sync=True)

    def newest_of(self, places: Sequence[Place]) -> Place:
        """The newest snapshot that belongs to the log."""
        for place in reversed(places):
            if self.outline.term_at(place.index) == place.term:
                return place
        base = self.outline.base
        raise damage(
            self.segments[0].path,
            0,
            f"the log goes on there after entry {base.index}, but no snapshot reaches it, nor an earlier segment",
        )

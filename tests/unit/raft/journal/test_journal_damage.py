"""What was durable and is not what was written any more is refused, with file, position and advice."""

from random import Random

import pytest

from ottla.core.errors import CorruptLog
from ottla.raft.core import HardState, Snapshot
from ottla.raft.journal import snapshots
from tests.unit.raft.journal.model import BOOTSTRAP, DIRECTORY, ONE, OTHERS, Handed, State, Subject, entries


def several_segments() -> Subject:
    """Three segments of some frames each, behind a snapshot of three chunks; no byte that counts for much is zero."""
    subject = Subject(segment_bytes=700)
    subject.open()
    subject.persist(Handed(hard_state=HardState(1, ONE)), Handed(snapshot=Snapshot(5, 1, OTHERS, b"s" * 150)))
    for index in range(6, 16):
        subject.persist(Handed(hard_state=HardState(index, None)), entries(index, index + 1, size=20))
    return subject


def refused(subject: Subject) -> CorruptLog | None:
    """Why a start refuses; it must then do so again."""
    try:
        subject.open()
    except CorruptLog as error:
        with pytest.raises(CorruptLog):
            subject.open()
        return error
    return None


def paths(subject: Subject, suffix: str) -> list[str]:
    return [f"{DIRECTORY}/{name}" for name in subject.names() if name.endswith(suffix)]


def flip(subject: Subject, path: str, at: int, bit: int) -> None:
    file = subject.files.open(path)
    (byte,) = file.pread(1, at)
    file.pwritev([bytes([byte ^ 1 << bit])], at)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 64)


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing() -> None:
    subject = several_segments()
    state = subject.state
    segments = paths(subject, ".segment")
    assert len(segments) >= 3
    unused = 0
    for path in [*segments, *paths(subject, ".snapshot")]:
        used = len(subject.files.read_bytes(path).rstrip(b"\0"))
        for at in [*range(used), *range(used, subject.files.size(path), 7)]:
            flip(subject, path, at, at % 8)
            error = refused(subject)
            if at < used:
                assert error is not None, f"byte {at} of {path} was flipped"
                assert error.path == path
                assert error.position <= at
                assert "`ottla node replace`" in str(error)
                flip(subject, path, at, at % 8)
            else:  # free space of a segment; a start puts back the zeros where it is going to write
                unused += 1
                assert error is None
                assert subject.state == state
    assert unused > 50


def test_the_last_frame_too_is_refused_when_it_was_written_to_its_end() -> None:
    subject = several_segments()
    path = paths(subject, ".segment")[-1]
    end = len(subject.files.read_bytes(path).rstrip(b"\0"))
    flip(subject, path, end - 30, 3)
    error = refused(subject)
    assert error is not None
    assert "the last frame was written to its end and is unreadable" in str(error)


def test_where_the_last_frame_holds_sectors_of_zeros_damage_passes_for_an_unfinished_write() -> None:
    """The limit of it: nothing else tells the two apart."""
    subject = Subject(segment_bytes=8000)
    subject.open()
    subject.persist(entries(1, 3))
    one = entries(3, 4).entries[0]
    zeros = type(one)(3, 1, one.kind, bytes(2000))
    subject.persist(Handed(entries=[zeros]))
    path = paths(subject, ".segment")[-1]
    flip(subject, path, len(subject.files.read_bytes(path).rstrip(b"\0")) - 10, 1)
    subject.possible = [State(subject.state.hard_state, subject.state.base, subject.state.entries[:2])]
    assert subject.restart().torn_bytes > 2000


def test_a_frame_before_the_last_one_is_missed_also_when_all_of_it_is_zeros() -> None:
    subject = Subject(segment_bytes=8000)
    subject.open()
    ends = []
    for index in range(1, 6):
        subject.persist(entries(index, index + 1))
        ends.append(len(subject.files.read_bytes(paths(subject, ".segment")[-1]).rstrip(b"\0")))
    path = paths(subject, ".segment")[-1]
    subject.files.open(path).pwritev([bytes(ends[2] - ends[1])], ends[1])
    error = refused(subject)
    assert error is not None
    assert (error.path, error.position) == (path, ends[1])
    assert f"but another follows at byte {ends[2]}" in str(error)


def test_a_missing_segment_is_missed() -> None:
    for missing in range(3):
        subject = several_segments()
        segments = paths(subject, ".segment")
        subject.files.remove(segments[missing])
        error = refused(subject)
        assert error is not None
        assert error.path in segments
        assert "no snapshot reaches it, nor an earlier segment" in str(error)


def test_a_segment_that_was_cut_short_is_refused() -> None:
    for path in paths(several_segments(), ".segment"):
        subject = several_segments()
        subject.files.open(path).truncate(400)
        error = refused(subject)
        assert error is not None
        assert (error.path, error.position) == (path, 400)


def test_missing_snapshots_and_segments_are_missed() -> None:
    subject = several_segments()
    for path in paths(subject, ".snapshot"):
        subject.files.remove(path)
    assert refused(subject) is not None
    subject = Subject()
    subject.open()
    subject.persist(entries(1, 3))
    subject.files.remove(paths(subject, ".snapshot")[0])  # it says who the first members were
    assert refused(subject) is not None
    subject = several_segments()
    for path in paths(subject, ".segment"):
        subject.files.remove(path)
    error = refused(subject)
    assert error is not None
    assert "there is this snapshot, but no segment" in str(error)


def test_a_snapshot_that_was_cut_short_or_goes_on_behind_its_end_is_refused() -> None:
    path = paths(several_segments(), ".snapshot")[0]
    size = several_segments().files.size(path)
    for cut in (0, 10, 60, size - 1, size + 1):
        subject = several_segments()
        subject.files.open(path).truncate(cut)
        error = refused(subject)
        assert error is not None
        assert error.path == path


def test_segments_of_two_journals_are_not_mixed() -> None:
    one, other = several_segments(), Subject(segment_bytes=700)
    other.open()
    other.persist(Handed(hard_state=HardState(1, ONE)), Handed(snapshot=Snapshot(5, 1, BOOTSTRAP, b"s" * 150)))
    for index in range(6, 16):
        other.persist(Handed(hard_state=HardState(index, None)), entries(index, index + 1, size=19))
    path = paths(one, ".segment")[1]
    content = other.files.read_bytes(path)
    one.files.open(path).pwritev([content], 0)
    error = refused(one)
    assert error is not None
    assert error.path in paths(one, ".segment")[:2]


@pytest.mark.parametrize("seed", range(20))
def test_segments_that_a_trim_removed_may_come_back_in_part(seed: int) -> None:
    random = Random(seed)
    subject = several_segments()
    gone = {path: subject.files.read_bytes(path) for path in subject_files(subject)}
    own = Snapshot(14, 1, OTHERS, b"own")
    subject.save(own)
    subject.trim(own)
    for path, content in gone.items():
        if not subject.files.exists(path) and random.random() < 0.5:
            subject.files.open(path, create=True).pwritev([content], 0)
    stored = subject.restart()
    assert (stored.snapshot, len(stored.entries)) == (own, 1)
    assert len(subject.names()) == 2


def subject_files(subject: Subject) -> list[str]:
    return paths(subject, ".segment") + paths(subject, ".snapshot")

"""The rules of the journal, one by one; crashes in between are in `test_journal_crashes` and `test_journal_model`."""

import errno
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from ottla.core.errors import StorageError
from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Entry, EntryKind, HardState, Member, Membership, SafetyViolation, Snapshot
from ottla.raft.journal import Journal, Stored
from ottla.raft.journal.snapshots import CHUNK_BYTES
from ottla.testing.sim.files import SimFile
from tests.unit.raft.journal.model import (
    BOOTSTRAP,
    DIRECTORY,
    NO_STATE,
    ONE,
    OTHERS,
    SEGMENT_BYTES,
    TWO,
    Handed,
    Subject,
    entries,
    entry,
    opened,
    snapshot,
)


def failing(operation: str, code: int = errno.EIO, part: str = "") -> Callable[[str, str], None]:
    """Each operation of this kind fails, on files whose names have this part."""

    def before(happens: str, path: str) -> None:
        if happens == operation and part in path:
            raise OSError(code, "it failed")

    return before


def operations(subject: Subject, action: Callable[[], object]) -> list[str]:
    """What the action does to files."""
    seen: list[str] = []
    subject.files.before = lambda operation, path: seen.append(operation)
    action()
    subject.heal()
    return seen


# -- a start


def test_a_new_directory_holds_the_first_members_and_nothing_else() -> None:
    subject = Subject()
    assert subject.open() == Stored(NO_STATE, Snapshot(0, 0, BOOTSTRAP, b""), [], 0)
    assert subject.journal.size_bytes == 0


def test_the_first_members_are_those_of_the_first_start() -> None:
    subject = opened()
    _, stored = Journal.open(subject.files, DIRECTORY, member=ONE, bootstrap=OTHERS)
    assert stored.snapshot.membership == BOOTSTRAP


def test_everything_comes_back_as_it_was_handed_in() -> None:
    subject = opened()
    state = HardState(3, TWO)
    some = [
        Entry(1, 2, EntryKind.EMPTY),
        Entry(2, 2, EntryKind.MEMBERSHIP, OTHERS.encode()),
        Entry(3, 3, EntryKind.DATA, b"data", client=2**63, sequence=7, resolved_below=6),
    ]
    subject.persist(Handed(hard_state=state), Handed(entries=some))
    assert subject.restart() == Stored(state, Snapshot(0, 0, BOOTSTRAP, b""), some, 0)


def test_a_journal_of_another_member_is_refused() -> None:
    subject = opened()
    subject.persist(entries(1, 3))
    other_directory = Member(ONE.node, Uuid(b"9" * 16))
    for member in (TWO, other_directory, Member(NodeId(3), ONE.directory)):
        with pytest.raises(StorageError, match=r"is of the metadata log of node 1 .*each node keeps its own"):
            Journal.open(subject.files, DIRECTORY, member=member, bootstrap=BOOTSTRAP)
    assert len(subject.restart().entries) == 2


@pytest.mark.parametrize("written", ["segments", "snapshots"])
def test_a_newer_format_is_refused(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject()
    with monkeypatch.context() as patch:
        module = {"segments": "recovery", "snapshots": "snapshots"}[written]
        patch.setattr(f"ottla.raft.journal.{module}.FORMAT_VERSION", 2)
        with pytest.raises(StorageError, match="has format 2, of a newer version of Ottla"):
            subject.open()
    with pytest.raises(StorageError, match=r"reads up to 1: start the newer version"):
        subject.open()


# -- persist


def test_all_changes_are_one_write_and_one_sync() -> None:
    subject = opened(1 << 20)
    changes = [Handed(hard_state=HardState(1, ONE)), entries(1, 200), Handed(), entries(200, 2000)]
    assert operations(subject, lambda: subject.persist(*changes)) == ["write", "sync"]
    assert operations(subject, lambda: subject.persist(Handed(hard_state=HardState(2, None)))) == ["write", "sync"]
    assert len(subject.cut_power(1).entries) == 1999


def test_nothing_to_persist_is_no_write() -> None:
    subject = opened()
    assert operations(subject, lambda: subject.persist(Handed(), Handed())) == []
    assert operations(subject, lambda: subject.persist()) == []


def test_an_entry_replaces_what_is_held_at_its_index_and_after() -> None:
    subject = opened()
    subject.persist(entries(1, 6))
    subject.persist(Handed(entries=[entry(3, 2)]))
    subject.persist(entries(4, 7, term=2), entries(5, 6, term=3))
    terms = [(e.index, e.term) for e in subject.restart().entries]
    assert terms == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)]


def test_what_raft_never_asks_for_is_refused_before_anything_is_written() -> None:
    subject = opened()
    subject.persist(Handed(hard_state=HardState(2, ONE)), entries(1, 4, term=2))
    subject.persist(Handed(snapshot=snapshot(10, 2)))

    def refused(*changes: Handed) -> None:
        with pytest.raises(SafetyViolation):
            subject.journal.persist(changes)

    assert not operations(subject, lambda: refused(entries(12, 13, 2)))  # a gap
    assert not operations(subject, lambda: refused(entries(11, 13, 2), entries(10, 11, 2)))  # of the snapshot
    assert not operations(subject, lambda: refused(entries(11, 12, 1)))  # of an older term than the one before
    assert not operations(subject, lambda: refused(Handed(hard_state=HardState(1, None))))
    assert not operations(subject, lambda: refused(Handed(hard_state=HardState(2, TWO))))
    assert not operations(subject, lambda: refused(Handed(snapshot=snapshot(10, 2))))
    subject.persist(entries(11, 12, 2))
    assert subject.restart().entries == [entry(11, 2)]


def test_a_closed_journal_takes_nothing() -> None:
    subject = opened()
    subject.journal.close()
    subject.journal.close()
    with pytest.raises(StorageError, match="closed"):
        subject.journal.persist([entries(1, 2)])


# -- segments


def test_a_segment_has_its_size_from_the_beginning() -> None:
    subject = opened()
    path = f"{DIRECTORY}/0000000001.segment"
    assert subject.files.size(path) == SEGMENT_BYTES
    subject.persist(entries(1, 4))
    assert subject.files.size(path) == SEGMENT_BYTES


def test_full_segments_are_followed_by_new_ones_and_an_entry_larger_than_a_segment_has_its_own() -> None:
    subject = opened()
    for index in range(1, 21):
        subject.persist(entries(index, index + 1))
    subject.persist(entries(21, 22, size=1000))
    subject.persist(entries(22, 24))
    sizes = [subject.files.size(f"{DIRECTORY}/{name}") for name in subject.names() if name.endswith(".segment")]
    assert len(sizes) > 4
    assert [size > SEGMENT_BYTES for size in sizes] == [False] * (len(sizes) - 2) + [True, False]
    assert [e.index for e in subject.restart().entries] == list(range(1, 24))


def test_term_and_vote_outlive_the_segment_that_they_were_written_to() -> None:
    subject = opened()
    subject.persist(Handed(hard_state=HardState(5, TWO)))
    for index in range(1, 30):
        subject.persist(entries(index, index + 1, 5))
    own = snapshot(29, 5)
    subject.save(own)
    subject.trim(own)
    assert len(subject.names()) == 2
    stored = subject.cut_power(1)
    assert (stored.hard_state, stored.snapshot, stored.entries) == (HardState(5, TWO), own, [])


def test_entries_rewritten_in_a_later_segment_survive_the_trimming_of_the_earlier_one() -> None:
    subject = opened(2000)
    subject.persist(entries(1, 13))
    subject.persist(entries(13, 18))  # the second segment
    subject.persist(entries(10, 13, term=2))
    own = snapshot(11, 2)
    subject.save(own)
    subject.trim(own)
    assert [name for name in subject.names() if "segment" in name] == ["0000000001.segment", "0000000002.segment"]
    assert subject.restart().entries == [entry(12, 2)]
    subject.persist(entries(13, 15, term=2))
    own = snapshot(12, 2)
    subject.save(own)
    subject.trim(own)
    assert [name for name in subject.names() if "segment" in name] == ["0000000002.segment"]
    assert subject.restart().entries == [entry(13, 2), entry(14, 2)]


# -- snapshots


def test_a_received_snapshot_replaces_the_whole_log() -> None:
    subject = opened()
    subject.persist(Handed(hard_state=HardState(1, ONE)), entries(1, 20))
    received = snapshot(50, 3)
    subject.persist(
        entries(20, 22), Handed(HardState(4, TWO), received), Handed(entries=[entry(51, 4)]), entries(52, 54, 4)
    )
    assert len(subject.names()) == 2
    stored = subject.cut_power(1)
    assert (stored.hard_state, stored.snapshot) == (HardState(4, TWO), received)
    assert [(e.index, e.term) for e in stored.entries] == [(51, 4), (52, 4), (53, 4)]


def test_a_received_snapshot_alone_is_two_new_files_and_carries_the_hard_state_with_it() -> None:
    subject = opened()
    received = Handed(HardState(4, TWO), snapshot(50, 3))
    done = operations(subject, lambda: subject.persist(entries(1, 3), received))
    assert [one for one in done if one in ("sync", "rename", "sync_directory")] == 2 * [
        "sync",
        "rename",
        "sync_directory",
    ]
    assert subject.restart().hard_state == HardState(4, TWO)


def test_of_two_received_snapshots_only_the_last_one_is_written() -> None:
    subject = opened()
    subject.persist(Handed(HardState(3, None), snapshot(50, 3)), entries(51, 53, 3), Handed(snapshot=snapshot(60, 3)))
    assert [name for name in subject.names() if "snapshot" in name] == ["00000000000000000060-0000000003.snapshot"]
    stored = subject.restart()
    assert (stored.hard_state.term, stored.snapshot.index, stored.entries) == (3, 60, [])


def test_a_received_snapshot_that_did_not_restart_the_log_counts_for_nothing() -> None:
    subject = opened()
    subject.persist(entries(1, 4))
    subject.journal.save_snapshot(snapshot(50, 3))  # as a crash leaves it
    stored = subject.restart()
    assert (stored.snapshot.index, len(stored.entries)) == (0, 3)
    assert not any("50-" in name for name in subject.names())


def test_a_saved_snapshot_stands_for_its_entries_at_the_next_start_also_when_nothing_was_trimmed() -> None:
    subject = opened()
    subject.persist(entries(1, 4), entries(4, 30))
    own = snapshot(10)
    subject.save(own)
    stored = subject.restart()
    assert (stored.snapshot, stored.entries[0].index) == (own, 11)
    assert len([name for name in subject.names() if "snapshot" in name]) == 1


def test_a_snapshot_of_several_chunks_comes_back() -> None:
    subject = opened()
    subject.persist(entries(1, 4))
    for size in (CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5):
        own = Snapshot(3, 1, OTHERS, Random(size).randbytes(size))
        subject.save(own)
        assert subject.restart().snapshot == own


def test_trim_lets_go_of_older_snapshots_and_of_segments_that_the_snapshot_stands_for() -> None:
    subject = opened()
    for index in range(1, 31):
        subject.persist(entries(index, index + 1))
    before = subject.names()
    own = snapshot(20)
    subject.save(own)
    assert set(before) < set(subject.names())
    subject.trim(own)
    assert set(subject.names()) - set(before) == {"00000000000000000020-0000000001.snapshot"}
    assert len(subject.names()) < len(before) - 3
    assert [e.index for e in subject.cut_power(1).entries] == list(range(21, 31))


def test_the_size_is_what_was_written_since_the_snapshot() -> None:
    subject = opened(20_000)
    sizes = [subject.journal.size_bytes]
    for index in range(1, 11):
        subject.persist(entries(index, index + 1, size=30))
        sizes.append(subject.journal.size_bytes)
    steps = {after - before for before, after in pairwise(sizes)}
    assert all(120 < step < 300 for step in steps)
    own = snapshot(8)
    subject.save(own)
    assert subject.journal.size_bytes == sizes[10]
    subject.trim(own)
    assert subject.journal.size_bytes == sizes[10] - sizes[8]
    subject.restart()
    assert subject.journal.size_bytes == sizes[10] - sizes[8]
    subject.persist(Handed(snapshot=snapshot(30)))
    assert subject.journal.size_bytes == 0


def test_trim_refuses_a_snapshot_that_was_not_saved_or_is_not_of_this_log() -> None:
    subject = opened()
    subject.persist(entries(1, 4))
    with pytest.raises(StorageError, match="was not saved"):
        subject.trim(snapshot(2))
    for other in (snapshot(2, 2), snapshot(4)):
        subject.journal.save_snapshot(other)
        with pytest.raises(SafetyViolation):
            subject.trim(other)
    assert len(subject.restart().entries) == 3


def test_a_saved_snapshot_that_a_received_one_overtook_is_let_go() -> None:
    subject = opened()
    subject.persist(entries(1, 10))
    received = snapshot(50, 3)
    subject.persist(Handed(snapshot=received))
    own = snapshot(5)
    subject.save(own)  # it was under way when the other came
    subject.trim(own)
    assert len(subject.names()) == 2
    assert subject.restart().snapshot == received


def test_a_snapshot_that_cannot_be_saved_leaves_the_journal_as_it_was() -> None:
    subject = opened()
    subject.persist(entries(1, 10))
    before = subject.names()
    subject.files.before = failing("write", errno.ENOSPC, "saved")
    with pytest.raises(OSError, match="it failed"):
        subject.save(snapshot(5))
    subject.heal()
    assert subject.names() == before
    subject.persist(entries(10, 12))
    assert len(subject.restart().entries) == 11


def test_what_a_failed_snapshot_left_behind_is_not_part_of_the_next_one() -> None:
    subject = opened()
    subject.persist(entries(1, 10))

    def before(operation: str, path: str) -> None:
        if operation in ("sync", "remove") and "saved" in path:
            raise OSError(errno.EIO, "it failed")

    subject.files.before = before
    with pytest.raises(OSError, match="it failed"):
        subject.save(snapshot(5, size=500))
    subject.heal()
    own = snapshot(6, size=10)
    subject.save(own)
    assert subject.restart().snapshot == own


# -- failures


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_after_a_failed_write_or_sync_everything_is_refused(operation: str) -> None:
    subject = opened()
    subject.persist(entries(1, 3))
    subject.files.before = failing(operation)
    with pytest.raises(OSError, match="it failed"):
        subject.persist(entries(3, 4))

    def refused(action: Callable[[], None]) -> None:
        with pytest.raises(StorageError, match=r"failed before.*it failed.*when the node is started again"):
            action()

    actions: list[Callable[[], None]] = [
        lambda: subject.journal.persist([entries(3, 4)]),
        lambda: subject.journal.persist([]),
        lambda: subject.journal.save_snapshot(snapshot(2)),
        lambda: subject.journal.trim(snapshot(2)),
    ]
    for action in actions:
        assert operations(subject, lambda action=action: refused(action)) == []  # type: ignore[misc]
    subject.journal.close()
    subject.restart()


def test_what_a_failed_sync_left_readable_is_durable_when_a_start_returned_it() -> None:
    for seed in range(20):
        subject = opened()
        subject.persist(entries(1, 3))
        subject.files.before = failing("sync")
        with pytest.raises(OSError, match="it failed"):
            subject.persist(entries(3, 5))
        subject.heal()
        assert len(subject.restart().entries) == 4
        assert len(subject.cut_power(seed).entries) == 4


def test_a_full_disk_leaves_no_half_made_segment() -> None:
    subject = opened()
    subject.persist(entries(1, 8))
    subject.files.before = failing("write", errno.ENOSPC, ".new")
    with pytest.raises(OSError, match="it failed"):
        subject.persist(entries(8, 12))
    assert not [name for name in subject.names() if name.endswith(".new")]
    with pytest.raises(StorageError, match="failed before"):
        subject.journal.persist([])
    subject.heal()
    assert len(subject.restart().entries) == 7
    subject.persist(entries(8, 12))


def test_a_start_removes_what_was_half_made_first_of_all() -> None:
    subject = opened()
    subject.persist(entries(1, 3))
    for name in ("0000000002.segment.new", "saved.new", "received.new", "first.new"):
        subject.files.open(f"{DIRECTORY}/{name}", create=True).pwritev([b"half"], 0)
    subject.restart()
    assert len(subject.names()) == 2


# -- the end of the newest segment


def tail(subject: Subject, data: bytes, at: int = 0) -> int:
    """Write into the free part of the newest segment; where that is."""
    path = f"{DIRECTORY}/{[name for name in subject.names() if name.endswith('.segment')][-1]}"
    file: SimFile = subject.files.open(path)
    end = len(subject.files.read_bytes(path).rstrip(b"\0"))
    file.pwritev([data], end + at, sync=True)
    return end


def unfinished(subject: Subject) -> bytes:
    """The next frame, as it would be written."""
    copy = Subject(subject.files.after_power_cut(), subject.segment_bytes, list(subject.possible))
    copy.open()
    end = tail(copy, b"")
    copy.persist(entries(subject.state.last_index + 1, subject.state.last_index + 2, size=150))
    path = f"{DIRECTORY}/{[name for name in copy.names() if name.endswith('.segment')][-1]}"
    return copy.files.read_bytes(path)[end:].rstrip(b"\0")


@pytest.mark.parametrize("part", [0.01, 0.04, 0.1, 0.5, 0.99])
def test_an_unfinished_write_is_cut_off_and_never_comes_back(part: float) -> None:
    subject = opened(4000)
    subject.persist(entries(1, 8))
    frame = unfinished(subject)
    torn = frame[: int(len(frame) * part)].rstrip(b"\0")
    tail(subject, torn)
    stored = subject.restart()
    assert (stored.torn_bytes, len(stored.entries)) == (len(torn), 7)
    assert subject.cut_power(1).torn_bytes == 0
    subject.persist(entries(8, 9))
    assert len(subject.restart().entries) == 8


def test_a_write_without_its_first_sectors_is_cut_off() -> None:
    subject = opened(4000)
    subject.persist(entries(1, 8))
    frame = unfinished(subject)
    tail(subject, frame[600:], 600)
    stored = subject.restart()
    assert (stored.torn_bytes, len(stored.entries)) == (len(frame), 7)


def test_memberships_need_no_endpoints() -> None:
    subject = opened()
    plain = Snapshot(9, 1, Membership(frozenset({ONE})), b"")
    subject.persist(Handed(snapshot=plain))
    assert subject.restart().snapshot == plain

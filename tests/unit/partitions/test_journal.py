"""The shared journal: what it says is durable is redone after a crash, what it retired never is."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import CorruptLog
from ottla.core.types import Uuid
from ottla.partitions.checkpoints import PARTITION_METADATA_FILE, encode_partition_metadata
from ottla.partitions.journal import DIRECTORY, JournaledWrite, JournalFailed, SharedJournal
from ottla.partitions.journal_frames import entry_header, frame_header, read_frames
from ottla.partitions.late_writes import LATE_WRITE_MS
from ottla.partitions.segment import Segment
from ottla.partitions.write_job import Run, WriteJob
from ottla.testing.sim.clock import SimClock
from ottla.testing.sim.disk import SimDisk

TOPIC_ID, OTHER_TOPIC_ID = Uuid(b"0123456789abcdef"), Uuid(b"fedcba9876543210")
FILE_BYTES = 4096


WRITTEN_MS = 3 * LATE_WRITE_MS  # after so long the segments have what was committed


class Owner:
    """In the place of a log: what it hears of its late writes."""

    def __init__(self) -> None:
        self.heard: list[Exception | None] = []

    def late_written(self, job: WriteJob, error: Exception | None) -> None:
        self.heard.append(error)


class Bench:
    """A journal and two segments; `write` appends to a segment through the journal."""

    def __init__(self, seed: int = 0) -> None:
        self.clock, self.random = SimClock(), Random(seed)
        self.disk = SimDisk(self.clock, self.random)
        self.segments = [Segment(f"t-{n}", 0, created=True) for n in range(2)]
        for segment in self.segments:
            self.disk.files.make_directory(segment.directory)
            metadata = f"{segment.directory}/{PARTITION_METADATA_FILE}"
            self.disk.files.write_atomically(metadata, encode_partition_metadata(TOPIC_ID))
            self.disk.files.open(segment.path(), create=True)
            self.disk.files.sync_directory(segment.directory)
        self.disk.files.sync_directory("")
        self.durable: list[bytes] = [b"", b""]
        self.owners = [Owner(), Owner()]
        self.topic_id = TOPIC_ID
        self.start(clean=True)

    def start(self, *, clean: bool) -> None:
        self.journal = SharedJournal(self.disk, self.clock, file_bytes=FILE_BYTES)
        self.redone = self.journal.recover(clean=clean)
        self.journal.prepare()
        self.clock.run_for(1000)

    def crash(self) -> None:
        self.disk.files.before = None
        self.disk.crash()
        self.start(clean=False)

    def write(self, *pieces: bytes, wait_ms: float = WRITTEN_MS) -> list[Exception | None]:
        """One commit with a piece for each segment; returns what each was told."""
        told: list[Exception | None] = []
        writes = []
        for n, (segment, piece) in enumerate(zip(self.segments, pieces, strict=False)):
            run = Run(segment, segment.size)
            run.views, run.size = [memoryview(piece)], len(piece)
            segment.size += len(piece)
            job = WriteJob(self.disk, self.topic_id, [run], 0)
            job.sync = False
            writes.append(JournaledWrite(job, self.note(told, n, piece, job)))
        self.journal.commit(writes, lambda: None)
        self.clock.run_for(wait_ms)
        return told

    def note(
        self, told: list[Exception | None], n: int, piece: bytes, job: WriteJob
    ) -> Callable[[Exception | None], None]:
        def done(error: Exception | None) -> None:
            told.append(error)
            if error is None:
                self.durable[n] += piece
                self.journal.late.add(self.owners[n], job)

        return done

    def content(self, n: int) -> bytes:
        file: Any = self.disk.files.open(self.segments[n].path())
        return bytes(file.pread(1 << 20, 0))

    def retire(self) -> list[Exception | None]:
        told: list[Exception | None] = []
        self.journal.retire(told.append)
        self.clock.run_for(1000)
        return told


@pytest.mark.parametrize("seed", range(30))
def test_what_was_committed_is_redone_after_a_crash(seed: int) -> None:
    bench = Bench(seed)
    for n in range(5):
        assert bench.write(b"a%d" % n * 20, b"b%d" % n * 30, wait_ms=50) == [None, None]
    bench.write(b"lost?" * 20, b"lost?" * 20, wait_ms=bench.random.random() * 10)
    bench.crash()
    for n in range(2):
        assert bench.content(n).startswith(bench.durable[n])


@pytest.mark.parametrize("seed", range(30))
def test_files_take_turns_and_nothing_is_lost(seed: int) -> None:
    bench = Bench(seed)
    taken = 0
    for n in range(120):
        pieces = (b"%04d" % n * 40, b"%04d" % n * 10)
        if bench.journal.accepts(sum(map(len, pieces)), 2):
            bench.write(*pieces, wait_ms=20)  # so the segments lack some of it whenever the files take turns
            taken += 1
        else:
            bench.clock.run_for(100)  # the other file is being retired
    assert taken > 100
    bench.crash()
    for n in range(2):
        assert bench.content(n).startswith(bench.durable[n])


def test_what_was_retired_is_not_redone() -> None:
    bench = Bench()
    bench.write(b"old" * 10, b"old" * 10)
    assert bench.retire() == [None]
    file = bench.disk.files.open(bench.segments[0].path())
    file.pwritev([b"new" * 10], 0, sync=True)  # as after a truncation
    bench.crash()
    assert bench.redone == 0
    assert bench.content(0) == b"new" * 10


def test_who_retires_at_the_end_of_a_commit_waits_for_the_others_of_it() -> None:
    bench = Bench()
    told: list[Exception | None] = []
    writes = []
    for n, segment in enumerate(bench.segments):
        run = Run(segment, 0)
        run.views, run.size = [memoryview(b"journaled")], 9
        job = WriteJob(bench.disk, TOPIC_ID, [run], 0)
        job.sync = False

        def done(_: Exception | None, n: int = n, job: WriteJob = job) -> None:
            bench.journal.late.add(bench.owners[n], job)
            if not n:
                bench.journal.retire(told.append)

        writes.append(JournaledWrite(job, done))
    bench.journal.commit(writes, lambda: None)
    bench.clock.run_until(lambda: bool(told))
    assert told == [None]
    bench.crash()
    assert bench.redone == 0
    assert [bench.content(n) for n in range(2)] == [b"journaled"] * 2


def test_what_was_redone_is_not_redone_again_before_the_files_are_ready() -> None:
    bench = Bench()
    bench.write(b"old" * 10, b"old" * 10)
    bench.disk.crash()
    bench.journal = SharedJournal(bench.disk, bench.clock, file_bytes=FILE_BYTES)
    assert bench.journal.recover(clean=False) == 60
    bench.journal.prepare()  # its job waits for a slow disk
    told: list[Exception | None] = []
    bench.journal.retire(told.append)
    assert told == [None]
    file = bench.disk.files.open(bench.segments[0].path())
    file.pwritev([b"new" * 10], 0, sync=True)  # as after a truncation
    bench.crash()
    assert bench.redone == 0
    assert bench.content(0) == b"new" * 10


def test_a_deleted_segment_and_a_namesake_of_another_topic_are_passed_over() -> None:
    bench = Bench()
    bench.write(b"x" * 50, b"y" * 50)
    bench.disk.files.remove(bench.segments[0].path())
    bench.disk.files.sync_directory("t-0")
    other = encode_partition_metadata(Uuid(b"fedcba9876543210"))
    bench.disk.files.write_atomically(f"t-1/{PARTITION_METADATA_FILE}", other)
    bench.start(clean=False)
    assert bench.redone == 0
    assert not bench.disk.files.exists(bench.segments[0].path())


def test_a_topic_made_anew_under_its_name_is_redone_behind_what_the_former_one_left() -> None:
    bench = Bench()
    bench.write(b"former")
    segment = bench.segments[0] = Segment("t-0", 0, created=True)
    files = bench.disk.files
    files.remove_tree("t-0")
    files.make_directory("t-0")
    files.write_atomically(f"t-0/{PARTITION_METADATA_FILE}", encode_partition_metadata(OTHER_TOPIC_ID))
    files.open(segment.path(), create=True)
    files.sync_directory("t-0")
    files.sync_directory("")
    bench.topic_id, bench.durable[0] = OTHER_TOPIC_ID, b""
    bench.write(b"present")
    bench.crash()
    assert bench.content(0) == b"present"


def test_after_a_failed_sync_nothing_is_taken_and_the_node_redoes_it() -> None:
    bench = Bench()
    assert bench.write(b"kept" * 10) == [None]

    def fail(operation: str, path: str) -> None:
        if operation == "sync" and path.startswith(DIRECTORY):
            raise OSError(5, "Input/output error")

    bench.disk.files.before = fail
    (error,) = bench.write(b"failed" * 10)
    assert isinstance(error, OSError)
    assert not bench.journal.accepts(10, 1)
    bench.crash()
    assert bench.content(0).startswith(b"kept" * 10)


@pytest.mark.parametrize("stop", ["crash", "retire"])
def test_what_a_full_disk_kept_from_its_segment_stays_in_the_journal(stop: str) -> None:
    bench = Bench()
    bench.write(b"a" * 100, b"b" * 100)

    def full(operation: str, path: str) -> None:
        if operation == "write" and path.startswith("t-0"):
            raise OSError(28, "No space left on device")

    bench.disk.files.before = full
    assert bench.write(b"acknowledged" * 10, b"written" * 10) == [None, None]
    first, second = (owner.heard[-1] for owner in bench.owners)
    assert isinstance(first, OSError)
    assert second is None
    assert not bench.journal.accepts(10, 1)
    if stop == "retire":
        (refused,) = bench.retire()
        assert isinstance(refused, JournalFailed)
    bench.crash()
    assert bench.content(0) == b"a" * 100 + b"acknowledged" * 10
    assert bench.content(1) == b"b" * 100 + b"written" * 10


def test_a_segment_that_cannot_be_synced_keeps_the_journal_for_the_next_start() -> None:
    bench = Bench()
    bench.write(b"x" * 100)

    def fail(operation: str, path: str) -> None:
        if operation == "sync" and path.startswith("t-0"):
            bench.disk.files.before = None  # the kernel tells it once
            raise OSError(5, "Input/output error")

    bench.disk.files.before = fail
    told: list[Exception | None] = []
    bench.journal.retire(told.append)
    bench.journal.retire(told.append)  # waits for the first one
    bench.clock.run_for(1000)
    assert [type(error) for error in told] == [JournalFailed, JournalFailed]
    bench.crash()
    assert bench.content(0) == b"x" * 100


def test_a_segment_whose_own_write_job_failed_keeps_the_journal_too() -> None:
    bench = Bench()
    bench.write(b"x" * 100)

    def fail(operation: str, path: str) -> None:
        if operation == "sync" and path.startswith("t-0"):
            bench.disk.files.before = None
            raise OSError(5, "Input/output error")

    bench.disk.files.before = fail
    run = Run(bench.segments[0], 100)
    run.views, run.size = [memoryview(b"large")], 5
    with pytest.raises(OSError, match="Input/output error"):
        WriteJob(bench.disk, TOPIC_ID, [run], 0)()
    (refused,) = bench.retire()
    assert isinstance(refused, JournalFailed)
    bench.crash()
    assert bench.content(0).startswith(b"x" * 100)


def test_a_file_is_empty_before_it_is_overwritten() -> None:
    bench = Bench()
    while bench.journal._active is bench.journal._files[0]:
        bench.write(b"x" * 100, wait_ms=20)
        assert bench.journal.accepts(100, 1)
    bench.clock.run_for(1000)
    path = f"{DIRECTORY}/0.journal"
    assert list(read_frames(bench.disk.files.read_bytes(path), path)) == [[]]


def test_damage_in_the_middle_is_named() -> None:
    bench = Bench()
    for n in range(3):
        bench.write(b"%d" % n * 100)
    path = f"{DIRECTORY}/0.journal"
    file = bench.disk.files.open(path)
    file.pwritev([b"\xff"], 300, sync=True)
    with pytest.raises(CorruptLog, match=r"0.journal is damaged at byte .* a valid one follows"):
        SharedJournal(bench.disk, bench.clock, file_bytes=FILE_BYTES).recover(clean=False)


def test_after_a_clean_stop_nothing_is_read_but_epochs_go_on() -> None:
    bench = Bench()
    bench.write(b"x" * 50)
    bench.retire()
    before = bench.journal._epoch
    bench.start(clean=True)
    assert bench.journal._epoch > before


@given(st.binary(max_size=400), st.integers(0, 2**63), st.integers(1, 2**63))
def test_no_bytes_make_reading_frames_raise_anything_but_damage(noise: bytes, position: int, epoch: int) -> None:
    entry = entry_header(TOPIC_ID, b"t-0", 0, position, 5) + b"bytes"
    good = frame_header(epoch, 0, 1, [entry], len(entry)) + entry
    try:
        frames = list(read_frames(good + noise, "f"))
    except CorruptLog:
        return
    assert bytes(frames[0][0].data) == b"bytes"
    assert len(list(read_frames(noise, "f"))) <= 1

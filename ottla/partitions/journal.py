"""The journal that a node's partitions share: many small commits, one sync.

A sync costs the same for one record as for many, and each file needs its own. So the batches that several logs queued
in one turn of the loop go into one frame of a file that was filled with zeros in advance (overwriting needs no change
of the file system's own metadata), and are durable with its sync. They are written to their segments later, those of
many commits at once (`late_writes`). Large commits go straight to their segments; `Environment` decides.

Two files take turns. When one is full, the segments that it speaks for are written and synced, off the loop, and it is
emptied. After a crash `recover` writes what the files hold to its places: that is physical redo, it may be repeated at
will, and it comes before any log looks at its segments. Whoever replaces or shortens a segment calls `retire` first, or
old bytes would come back with a redo. A segment that is gone, and a directory of another topic id, are passed over.

Bytes count as durable once the journal has them, also when their segment then takes them not (a full disk). So after
any failure nothing of the journal is overwritten any more: the next start redoes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from ottla.core.errors import StorageError
from ottla.core.ports import Clock, Disk, File, Files
from ottla.core.types import Buffer, Uuid
from ottla.partitions.checkpoints import PARTITION_METADATA_FILE, read_partition_metadata
from ottla.partitions.journal_frames import (
    ENTRY_BYTES,
    FRAME_BYTES,
    Redo,
    entry_header,
    frame_header,
    read_epoch,
    read_frames,
)
from ottla.partitions.lanes import run_in_lanes
from ottla.partitions.late_writes import LateWrites
from ottla.partitions.segment import LOG_SUFFIX, Segment, file_name
from ottla.partitions.write_job import WriteJob

DIRECTORY: Final = "journal"
DEFAULT_FILE_BYTES: Final = 16 << 20
_ZEROS: Final = bytes(1 << 20)
_LACKING: Final = "a segment did not take what the journal holds"

JobDone = Callable[[Exception | None], None]


class JournalFailed(StorageError):
    """The journal holds what a segment may lack, and can let go of nothing until the next start has redone it."""


logger: Final = structlog.get_logger(__name__)


class JournalFile:
    """One of the two files, and the segments whose bytes it alone may hold durably."""

    __slots__ = ("epoch", "file", "path", "position", "unsynced")

    def __init__(self, path: str) -> None:
        self.path = path
        self.file: File | None = None
        self.epoch = 0
        self.position = 0
        self.unsynced: dict[Segment, None] = {}


@dataclass(slots=True)
class JournaledWrite:
    """The queued batches of one log, and who hears that they are durable: their segments have them later."""

    job: WriteJob
    done: JobDone


class SharedJournal:
    """Use `recover`, then `prepare`; while it is `usable`, not `busy`, and `accepts` says so, `commit`."""

    def __init__(self, disk: Disk, clock: Clock, *, file_bytes: int = DEFAULT_FILE_BYTES) -> None:
        self._disk, self._file_bytes = disk, file_bytes
        self.late = LateWrites(disk, clock, self._fail)
        self._files = [JournalFile(f"{DIRECTORY}/{n}.journal") for n in (0, 1)]
        self._active = self._files[0]
        self._epoch = 0
        self.usable = False  # both files are there, and nothing failed
        self.failed = False  # what it holds must stay for the next start
        self.busy = False  # a commit is under way
        self._retiring = False
        self._waiting: list[JobDone] = []  # for a retirement of everything

    # -- at start

    def recover(self, *, clean: bool) -> int:
        """Write what the files hold to its places, durably; how many bytes. Blocks: at start, before logs are opened.

        Nothing of it counts afterwards: logs may be shortened before `prepare` comes to the files. After a `clean` stop
        nothing is left to be redone. Raises CorruptLog, StorageError or OSError: the node must not start without the
        records that only the journal holds.
        """
        files = self._disk.files
        redone = 0
        found, full = [], []
        for journal in self._files:
            if files.exists(journal.path):
                content = files.read_bytes(journal.path) if not clean else _beginning(files, journal.path)
                found.append((read_epoch(content), content, journal.path))
        for _, content, path in sorted(found, key=lambda one: one[0]):
            if not clean and (entries := [entry for frame in read_frames(content, path) for entry in frame]):
                redone += _redo(files, entries)
                full.append(path)
        self._epoch = max((epoch for epoch, _, _ in found), default=0)
        for path in full:
            self._epoch += 1
            _empty(files, path, self._epoch)
        return redone

    def prepare(self) -> None:
        """Make both files ready, off the loop; commits are accepted when they are."""

        def prepared(opened: list[File] | None, error: Exception | None) -> None:
            if opened is None:
                logger.warning("no journal: every log is synced by itself", error=str(error))
                return
            for journal, file in zip(self._files, opened, strict=True):
                journal.file = file
            self.usable = True

        self._epoch += 1
        self._disk.submit(partial(self._make_files, self._epoch), prepared)

    def _make_files(self, epoch: int) -> list[File]:
        files = self._disk.files
        files.make_directory(DIRECTORY)
        files.sync_directory("")
        opened = []
        for journal in self._files:
            file = files.open(journal.path, create=True)
            for position in range(file.size(), self._file_bytes, len(_ZEROS)):
                file.pwritev([_ZEROS[: self._file_bytes - position]], position)
            file.sync()
            self._reset(journal, file, epoch)
            opened.append(file)
        files.sync_directory(DIRECTORY)
        return opened

    @staticmethod
    def _reset(journal: JournalFile, file: File, epoch: int) -> None:
        """An empty frame of a new epoch: nothing that stood there counts any more."""
        journal.epoch, journal.position = epoch, _write_empty_frame(file, epoch)

    # -- commits

    def accepts(self, size_bytes: int, writes: int) -> bool:
        """Whether a commit of so many bytes may go in now. Never twice at a time."""
        if not self.usable or self.busy or self._waiting:
            return False
        room = self._file_bytes - self._active.position
        needed = FRAME_BYTES + size_bytes + writes * (ENTRY_BYTES + 255) * 2
        return needed <= room or (needed <= self._file_bytes // 2 and self._swap())

    def _swap(self) -> bool:
        other = self._files[1 - self._files.index(self._active)]
        if other.unsynced or self._retiring:
            return False  # still being synced: commits go straight to their segments meanwhile
        full, self._active = self._active, other
        self._retire(full)
        return True

    def commit(self, writes: Sequence[JournaledWrite], done: Callable[[], None]) -> None:
        """Make the queued batches of several logs durable together; then call each write's `done`, and `done`.

        Each write's `done` adds to `late`, unless there was an error, what its segments lack now.
        """
        journal = self._active
        body: list[Buffer] = []
        entries = 0
        for write in writes:
            for run in write.job.runs:
                segment = run.segment
                directory = segment.directory.encode()
                header = entry_header(write.job.topic_id, directory, segment.base_offset, run.position, run.size)
                body.append(header)
                body += run.views
                entries += 1
                journal.unsynced[segment] = None
        size = sum(map(len, body))
        position, epoch = journal.position, journal.epoch
        journal.position = position + FRAME_BYTES + size
        self.busy = True

        def finished(_: None, error: Exception | None) -> None:
            if error is not None:
                self._fail(error)
            for write in writes:  # still busy: who wants a retirement meanwhile gets it when `late` has all of them
                write.done(error)
            self.busy = False
            done()
            if self._waiting:
                self._retire_all()

        def work() -> None:
            assert journal.file is not None
            header = frame_header(epoch, position, entries, body, size)
            journal.file.pwritev([header, *body], position, sync=True)

        self._disk.submit(work, finished)

    def _fail(self, error: Exception) -> None:
        """Nobody knows what a file holds after a failed write or sync: the next start shall read the journal.

        That of a segment too: then these bytes are durable nowhere else.
        """
        if self.failed:
            return
        self.usable, self.failed = False, True
        logger.error("the journal failed; every log is synced by itself until the node restarts", error=str(error))

    # -- making room

    def _retire(self, journal: JournalFile) -> None:
        """Write and sync the segments that this file speaks for, and empty it: were its first frame overwritten while
        the others count, a torn write there would look like damage in front of them.
        """
        self._retiring = True
        self._epoch += 1
        epoch = self._epoch

        def written() -> None:
            if self.failed:
                synced(None, JournalFailed(_LACKING))
            else:
                self._disk.submit(work, synced)

        def work() -> None:
            assert journal.file is not None
            for segment in journal.unsynced:
                _sync(self._disk.files, segment)
            self._reset(journal, journal.file, epoch)

        def synced(_: None, error: Exception | None) -> None:
            self._retiring = False
            if error is not None:
                self._fail(error)
            else:
                journal.unsynced.clear()
            if self._waiting:
                self._retire_all()

        self.late.write_all(written)

    def retire(self, done: JobDone) -> None:
        """Let nothing of the journal count any more: all that it holds is synced where it belongs. `done(error)`."""
        if not self.usable and not self.failed:  # it never took anything
            done(None)
            return
        self._waiting.append(done)
        self._retire_all()

    def _retire_all(self) -> None:
        if self.busy or self._retiring:
            return  # called again when that is over
        if self.failed:
            refused, self._waiting = self._waiting, []
            for done in refused:
                done(JournalFailed("the journal failed before"))
            return
        waiting = list(self._waiting)
        segments = {**self._files[0].unsynced, **self._files[1].unsynced}
        self._retiring = True
        self._epoch += 1
        epoch = self._epoch

        def written() -> None:
            if self.failed:
                finished(None, JournalFailed(_LACKING))
                return
            syncs = [partial(_sync, self._disk.files, segment) for segment in segments]
            run_in_lanes(self._disk, syncs, synced)

        def synced(errors: dict[int, Exception]) -> None:
            if errors:
                finished(None, next(iter(errors.values())))
            else:
                self._disk.submit(reset, finished)

        def reset() -> None:
            for journal in self._files:
                assert journal.file is not None
                self._reset(journal, journal.file, epoch)

        def finished(_: None, error: Exception | None) -> None:
            self._retiring = False
            if error is not None:
                self._fail(error)
            else:
                for journal in self._files:
                    journal.unsynced.clear()
            del self._waiting[: len(waiting)]
            for done in waiting:
                done(None if error is None else JournalFailed(str(error)))
            if self._waiting:
                self._retire_all()

        self.late.write_all(written)


def _write_empty_frame(file: File, epoch: int) -> int:
    """Durably, at the beginning; its size."""
    header = frame_header(epoch, 0, 0, (), 0)
    file.pwritev([header], 0, sync=True)
    return len(header)


def _empty(files: Files, path: str, epoch: int) -> None:
    file = files.open(path)
    try:
        _write_empty_frame(file, epoch)
    finally:
        file.close()


def _beginning(files: Files, path: str) -> bytes:
    file = files.open(path)
    try:
        return file.pread(FRAME_BYTES, 0)
    finally:
        file.close()


def _sync(files: Files, segment: Segment) -> None:
    try:
        file = files.open(segment.path())
    except FileNotFoundError:  # forgotten by retention, or its topic was deleted
        return
    try:
        file.sync()
    finally:
        file.close()
    if segment.failed:  # the kernel tells of it once, and then takes the pages for clean
        raise StorageError(f"{segment.path()} failed before")


def _redo(files: Files, entries: Sequence[Redo]) -> int:
    """Write all entries to their segments and sync these; how many bytes.

    A topic that was deleted and made anew has entries of both lives under one path: only the present one's count.
    """
    opened: dict[tuple[str, Uuid], File | None] = {}
    written = 0
    try:
        for entry in entries:
            path = f"{entry.directory}/{file_name(entry.base_offset, LOG_SUFFIX)}"
            key = (path, entry.topic_id)
            if key not in opened:
                opened[key] = _open_for_redo(files, entry, path)
            file = opened[key]
            if file is not None:
                file.pwritev([entry.data], entry.position)
                written += len(entry.data)
        for file in opened.values():
            if file is not None:
                file.sync()
    finally:
        for file in opened.values():
            if file is not None:
                file.close()
    return written


def _open_for_redo(files: Files, entry: Redo, path: str) -> File | None:
    try:
        if read_partition_metadata(files, f"{entry.directory}/{PARTITION_METADATA_FILE}") != entry.topic_id:
            return None
        return files.open(path)
    except FileNotFoundError:
        return None

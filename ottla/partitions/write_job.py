"""The job that puts a log's queued batches into its files and syncs them. Runs off the loop."""

from collections.abc import Callable
from typing import Final

from ottla.core.ports import Disk, File
from ottla.core.types import Uuid
from ottla.partitions.checkpoints import PARTITION_METADATA_FILE, encode_partition_metadata
from ottla.partitions.segment import Segment
from ottla.partitions.segment_files import replace_file

FORGET_FROM_BYTES: Final = 64 << 10  # for less, the call costs more than it saves


class Run:
    """Batches that follow each other in one segment."""

    __slots__ = ("file", "position", "segment", "size", "views")

    def __init__(self, segment: Segment, position: int) -> None:
        self.segment, self.position = segment, position
        self.views: list[memoryview] = []
        self.size = 0
        self.file: File | None = None


class WriteJob:
    """Write all runs in order and, with `sync`, make them durable.

    The job is done when all of it is durable, the end of an older segment like the beginning of a new one. `dirty`
    are the segments that hold bytes which earlier jobs wrote without a sync.

    What nobody will read from the files (`reread` is false: a follower's) leaves the page cache when it is synced. The
    kernel then takes the same warm pages for the next bytes, and not others again and again.
    """

    __slots__ = ("count", "dirty", "disk", "end_offset", "reread", "runs", "size", "sync", "topic_id",
                 "written")  # fmt: skip

    def __init__(self, disk: Disk, topic_id: Uuid, runs: list[Run], end_offset: int) -> None:
        self.disk, self.topic_id, self.runs, self.end_offset = disk, topic_id, runs, end_offset
        self.count = 0  # batches
        self.size = 0  # bytes
        self.sync = True
        self.reread = True  # somebody may read these bytes from the file
        self.dirty: list[Segment] = []
        self.written: Callable[[], None] | None = None  # to run on the loop between write and sync

    def follow(self, earlier: "WriteJob") -> None:
        """Take over what comes right before this job's own: one write, where the two meet in a segment."""
        runs, own = earlier.runs, self.runs
        if own and runs[-1].segment is own[0].segment:
            last, first = runs[-1], own[0]
            last.views += first.views
            last.size += first.size
            last.file = last.file or first.file
            own = own[1:]
        self.runs = runs + own
        self.count += earlier.count
        self.size += earlier.size

    def __call__(self) -> None:
        try:
            self._write_and_sync()
        except OSError:
            for segment in (*self.dirty, *(run.segment for run in self.runs)):
                segment.failed = True
            raise

    def _write_and_sync(self) -> None:
        if self.sync:
            queued = {run.segment for run in self.runs}
            for segment in self.dirty:
                if segment not in queued:
                    self._sync_only(segment)
        split = self.written is not None
        for run in self.runs:
            file = run.file
            if file is None:
                file = run.file = open_or_create(self.disk, run.segment, self.topic_id)
            whole = self.sync and run.segment in self.dirty
            file.pwritev(run.views, run.position, sync=self.sync and not split and not whole)
            if whole:
                file.sync()
        if split:
            assert self.written is not None
            self.disk.notify(self.written)
            if self.sync:
                for run in self.runs:
                    assert run.file is not None
                    run.file.sync()
        if self.sync and not self.reread:
            for run in self.runs:
                if run.size >= FORGET_FROM_BYTES:
                    assert run.file is not None
                    run.file.forget(run.position, run.size)

    def _sync_only(self, segment: Segment) -> None:
        file = self.disk.files.open(segment.path())
        try:
            file.sync()
        finally:
            file.close()


def open_or_create(disk: Disk, segment: Segment, topic_id: Uuid) -> File:
    """The segment's file; a new one's name (and directory) is durable when this returns."""
    files, directory = disk.files, segment.directory
    if segment.created:
        return files.open(segment.path())
    metadata = f"{directory}/{PARTITION_METADATA_FILE}"
    new = not files.exists(metadata)
    if new:  # its names need no order: nothing in the directory counts before this function returns
        files.make_directory(directory)
        replace_file(files, metadata, encode_partition_metadata(topic_id))
    file = files.open(segment.path(), create=True)
    files.sync_directory(directory)
    if new:
        files.sync_directory("")
    return file

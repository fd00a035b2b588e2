"""The log of one partition: a queue of batches in front of its segments, and the three ends.

    log end offset      what has an offset (in memory at least)
    written end offset  what its files hold
    durable end offset  what survives a power cut, in its files or in the shared journal

One write job is in flight at a time. Whatever is appended meanwhile goes into the next one: group commit. What went to
the journal reaches the files later (`late_writes`), and before anything else is done to them. What moves the ends is
told to the owner (`LogEvents`), who knows about high watermarks and waiting producers.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from ottla.core.ports import File
from ottla.core.types import Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.environment import Environment, journal_takes
from ottla.partitions.index import OffsetIndex
from ottla.partitions.journal import JournaledWrite
from ottla.partitions.reading import ReadBytes
from ottla.partitions.segment import Segment
from ottla.partitions.tail import Tail
from ottla.partitions.write_job import Run, WriteJob
from ottla.records.header import BatchHeader


class LogEvents(Protocol):
    """What the owner of a log hears; always on the loop."""

    def on_written(self) -> None:
        """The written or the durable end moved."""

    def on_roll(self, sealed: Segment) -> None:
        """The active segment got a successor; nothing of the successor is written yet."""

    def on_failed(self, error: Exception) -> None:
        """A write or a sync failed. The log takes nothing any more; what is not durable will never be."""


class Log:
    """Segments in order of offset (at least one), and what is queued for the last ones."""

    __slots__ = (
        "_count",
        "_events",
        "_exclusive",
        "_in_flight",
        "_run",
        "_runs",
        "_scheduled",
        "_size",
        "_written_notices",
        "config",
        "cursors",
        "directory",
        "dirty",
        "dirty_since_ms",
        "durable_end_offset",
        "environment",
        "failed",
        "generation",
        "held",
        "log_end_offset",
        "reread",
        "segments",
        "size_bytes",
        "tail",
        "topic_id",
        "written_end_offset",
    )

    def __init__(
        self,
        environment: Environment,
        directory: str,
        topic_id: Uuid,
        config: LogConfig,
        segments: list[Segment],
        events: LogEvents,
    ) -> None:
        self.environment, self.directory, self.topic_id, self.config = environment, directory, topic_id, config
        self.segments, self._events = segments, events
        end = segments[-1].next_offset
        self.log_end_offset = self.written_end_offset = self.durable_end_offset = end
        self.size_bytes = sum(segment.size for segment in segments)
        self.tail = Tail(end)
        self.dirty: list[Segment] = []  # written to, not synced
        self.dirty_since_ms = 0.0
        self.cursors: dict[int, tuple[Segment, int]] = {}  # offset → where its batch begins: readers come back
        self.generation = 0  # goes up when segments are replaced or shortened
        self.held: list[Callable[[], None]] | None = None  # reads that wait while files are replaced
        self.failed: Exception | None = None
        self.reread = True  # what is written now may soon be read from the files: by consumers, who come to leaders
        self._runs: list[Run] = []
        self._run: Run | None = None
        self._count = self._size = 0
        self._in_flight: WriteJob | None = None
        self._scheduled = False
        self._written_notices = False
        self._exclusive: deque[tuple[int, Callable[[], Any], Callable[[Any, Exception | None], None]]] = deque()

    @property
    def active(self) -> Segment:
        return self.segments[-1]

    @property
    def idle(self) -> bool:
        """Nothing queued, nothing in flight; what the journal has may still be on its way to the files."""
        return self._in_flight is None and not self._runs and not self._exclusive

    @property
    def has_job(self) -> bool:
        """A job on its files is under way, which those that are to be moved have to wait for, also when it failed."""
        return self._in_flight is not None

    @property
    def kept_end_offset(self) -> int:
        """What outlives this process: it is in the files, or in the journal."""
        return max(self.written_end_offset, self.durable_end_offset)

    @property
    def synced_end_offset(self) -> int:
        """What this replica has for the high watermark: with `ottla.flush.on.ack` only what is durable."""
        return self.durable_end_offset if self.config.flush_on_ack else self.kept_end_offset

    # -- append

    def append(self, view: memoryview, header: BatchHeader, last_offset: int, now_ms: int) -> None:
        """Queue a batch whose base offset is the log end offset. The view belongs to the log from now on."""
        size = len(view)
        segment = self.segments[-1]
        config = self.config
        if segment.full_for(header, size, last_offset, config, now_ms):
            segment = self.roll()
        if not segment.size:
            segment.first_timestamp = header.max_timestamp
        run = self._run
        if run is None:
            run = self._run = Run(segment, segment.size)
            self._runs.append(run)
        run.views.append(view)
        run.size += size
        segment.add(size, last_offset, header.max_timestamp, config.index_interval_bytes)
        segment.modified_ms = segment.modified_ms or now_ms
        self.tail.append(view, last_offset)
        self._count += 1
        self._size += size
        self.size_bytes += size
        self.log_end_offset = last_offset + 1
        if not self._scheduled and self._in_flight is None:
            self._scheduled = True
            self.environment.write_soon(self)

    def notice_written(self) -> None:
        """Somebody waits for what is queued to be written (not synced): tell the owner between the two."""
        self._written_notices = True

    def forget_oldest(self, count: int) -> list[Segment]:
        """Take the oldest segments out; their files are the caller's business."""
        removed = self.segments[:count]
        del self.segments[:count]
        self.generation += 1
        self.cursors.clear()
        for segment in removed:
            self.size_bytes -= segment.size
            self.environment.open_files.drop(segment)
            if segment in self.dirty:
                self.dirty.remove(segment)
        return removed

    def hold_reads(self) -> None:
        """Files are about to be replaced: what would open them waits, what has them open is repeated."""
        self.generation += 1
        self.cursors.clear()
        self.held = []

    def release_reads(self) -> None:
        self.generation += 1
        self.cursors.clear()
        held, self.held = self.held or [], None
        for read in held:
            read()

    def replace(self, base_offsets: Sequence[int], segment: Segment) -> None:
        """Put one segment in the place of those that begin at `base_offsets`."""
        first = next(n for n, old in enumerate(self.segments) if old.base_offset == base_offsets[0])
        old_segments = self.segments[first : first + len(base_offsets)]
        assert [old.base_offset for old in old_segments] == list(base_offsets)
        self.segments[first : first + len(base_offsets)] = [segment]
        for old in old_segments:
            self.size_bytes -= old.size
            self.environment.open_files.drop(old)
        self.size_bytes += segment.size

    def abandon(self) -> None:
        """Another log takes the place of this one."""
        self.generation += 1
        for segment in self.segments:
            self.environment.open_files.drop(segment)

    def roll(self) -> Segment:
        """Begin a new segment at the log end offset."""
        sealed = self.segments[-1]
        sealed.seal()
        segment = Segment(self.directory, self.log_end_offset)
        self.segments.append(segment)
        self._run = None
        self._events.on_roll(sealed)
        return segment

    # -- read

    def at_hand(self, segment: Segment) -> tuple[ReadBytes, OffsetIndex] | None:
        """How to read a segment without blocking, or None."""
        file = self.environment.open_files.get(segment)
        index = segment.index
        if file is None or index is None:
            return None
        return partial(self.environment.disk.read_cached, file), index

    def adopt(self, segment: Segment, file: File, index: OffsetIndex) -> None:
        """Keep what a job opened and loaded."""
        self.environment.open_files.adopt(segment, file)
        if segment.index is None:
            segment.index = index

    # -- write and sync

    def start_write(self) -> None:
        """Begin the next job on the files when there is something to do and nothing is in flight."""
        self._scheduled = False
        late = self.environment.late
        if self._in_flight is not None or self.failed is not None or late.is_writing(self):
            return
        if self._exclusive and self._exclusive[0][0] <= self.written_end_offset:
            self._start_exclusive()
        elif self._runs or (self._exclusive and late.holds(self)):
            config = self.config
            unflushed = self.log_end_offset - self.durable_end_offset
            self._start(sync=config.flush_on_ack or unflushed >= config.flush_messages)

    def block(self) -> None:
        """Hold all writes until `unblock`; for a log without any in flight."""
        assert self._in_flight is None
        self._in_flight = WriteJob(self.environment.disk, self.topic_id, [], self.written_end_offset)

    def unblock(self) -> None:
        self._in_flight = None
        self.start_write()

    def flush(self) -> None:
        """Sync what was written without a sync (`flush.ms`, a stop, a checkpoint)."""
        if self.dirty and self._in_flight is None and self.failed is None:
            self._start(sync=True)

    def exclusive(self, job: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        """Run a job on the files while no write is in flight, after everything that is queued now."""
        if self.failed is not None:
            self.environment.clock.call_soon(done, None, self.failed)
            return
        self._exclusive.append((self.log_end_offset, job, done))
        if self._in_flight is None and not self._scheduled:
            self._scheduled = True
            self.environment.write_soon(self)

    def replacing(self, job: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        """As `exclusive`, for a job that shortens or replaces segments: the journal lets go of them first, so that no
        redo brings old bytes back.
        """
        journal = self.environment.journal
        if journal is None:
            self.exclusive(job, done)
            return

        def quiet(_: object, error: Exception | None) -> None:
            if error is not None:
                done(None, error)
                return
            self.block()
            journal.retire(retired)

        def retired(error: Exception | None) -> None:
            if error is not None:
                finished(None, error)
            else:
                self.environment.disk.submit(job, finished)

        def finished(result: Any, error: Exception | None) -> None:
            self._in_flight = None
            done(result, error)
            self._go_on()

        self.exclusive(lambda: None, quiet)

    def _start(self, *, sync: bool) -> None:
        job = self._take_queued()
        late = self.environment.late.take(self)
        if late is not None:
            job.follow(late)
        job.sync, job.reread = sync, self.reread
        if self.dirty and sync:
            job.dirty = self.dirty
            self.dirty = []
        if self._written_notices and job.runs:
            self._written_notices = False
            job.written = lambda: self._job_written(job)
        self.environment.disk.submit(job, self._job_done)

    def _take_queued(self) -> WriteJob:
        """What is queued, as the job in flight."""
        runs, self._runs, self._run = self._runs, [], None
        environment = self.environment
        job = WriteJob(environment.disk, self.topic_id, runs, self.log_end_offset)
        job.count, job.size = self._count, self._size
        self._count = self._size = 0
        for run in runs:
            run.file = environment.open_files.get(run.segment)
        self._in_flight = job
        environment.writing[self] = environment.clock.monotonic_ms()
        return job

    def journal_bytes(self) -> int:
        """How much is queued, if the journal may carry it (`journal_takes`); else 0."""
        if self._in_flight is not None or self.failed is not None or self._exclusive or self.dirty:
            return 0
        if not self.config.flush_on_ack or not journal_takes(self._size, self._count):
            return 0
        return self._size if all(run.segment.created for run in self._runs) else 0

    def start_journaled_write(self) -> JournaledWrite:
        """Hand what is queued to the journal; only after `journal_bytes` said that it may be."""
        self._scheduled = False
        job = self._take_queued()
        job.sync = False
        return JournaledWrite(job, partial(self._journaled, job))

    def _journaled(self, job: WriteJob, error: Exception | None) -> None:
        """The journal holds it; its segments get it later."""
        self._in_flight = None
        self.environment.writing.pop(self, None)
        if error is not None:
            self.fail(error)
        else:
            self.environment.late.add(self, job)
        if self.failed is not None:
            return
        self.durable_end_offset = end_offset = job.end_offset
        if end_offset == self.log_end_offset:
            self._written_notices = False
        self._go_on()
        self._events.on_written()

    def late_written(self, job: WriteJob, error: Exception | None) -> None:
        """The files have what the journal had."""
        self._adopt_files(job)
        if error is not None:
            self.fail(error)
        if self.failed is None:
            self._account_written(job)
            self._go_on()

    def _job_written(self, job: WriteJob) -> None:
        if self.failed is None:
            self._account_written(job)
            self._events.on_written()

    def _account_written(self, job: WriteJob) -> None:
        if job.runs and self.written_end_offset < job.end_offset:
            for run in job.runs:
                run.segment.written = run.position + run.size
            self.written_end_offset = job.end_offset
            self.environment.tail_budget.written(self.tail, job.count, job.size)

    def _job_done(self, _: None, error: Exception | None) -> None:
        job = self._in_flight
        assert job is not None
        self._in_flight = None
        self.environment.writing.pop(self, None)
        self._adopt_files(job)
        self.environment.late.ended(self, error)
        if error is not None:
            self.fail(error)
        if self.failed is not None:
            return
        self._account_written(job)
        if job.sync:
            self.durable_end_offset = job.end_offset
        else:
            if not self.dirty:
                self.dirty_since_ms = self.environment.clock.monotonic_ms()
            self.dirty += [run.segment for run in job.runs if run.segment not in self.dirty]
        self._go_on()
        self._events.on_written()

    def _adopt_files(self, job: WriteJob) -> None:
        oldest = self.segments[0].base_offset
        for run in job.runs:
            if run.file is not None:
                run.segment.created = True
                if run.segment.base_offset >= oldest:  # else it was forgotten, and is about to be removed
                    self.environment.open_files.adopt(run.segment, run.file)

    def _go_on(self) -> None:
        """With what came while a job was in flight."""
        if self._exclusive:
            self.start_write()
        elif self._runs and not self._scheduled and self._in_flight is None:
            self._scheduled = True
            self.environment.write_soon(self)

    def _start_exclusive(self) -> None:
        _, job, done = self._exclusive.popleft()
        placeholder = WriteJob(self.environment.disk, self.topic_id, [], self.written_end_offset)

        def finished(result: Any, error: Exception | None) -> None:
            self._in_flight = None
            done(result, error)
            self._go_on()

        self._in_flight = placeholder
        self.environment.disk.submit(job, finished)

    def fail(self, error: Exception) -> None:
        """Take the log out of service; also for whoever finds damage in it."""
        if self.failed is not None:
            return
        self.failed = error
        self._runs.clear()
        self._run = None
        waiting, self._exclusive = self._exclusive, deque()
        for _, _, done in waiting:
            done(None, error)
        self._events.on_failed(error)

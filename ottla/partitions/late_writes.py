"""What the shared journal holds and the segments lack: written to them later, for many commits and all logs at once.

The bytes of a journaled commit are durable, and readers have them from memory. To give them to their segments at once
would cost a system call for each log in each commit, and each lets go of the interpreter's lock beside a busy loop.
So they wait here, and one job writes what there is of all logs: after a moment, when there is much of it, or when
somebody needs the files to have it (`write_all`). A log's own write job takes along what waits of this log (`take`).

    add ──▶ queued ── a job of this module, or of the log itself ──▶ under way ──▶ in the segment, or the journal failed

Of one log one thing is under way at a time, so its bytes reach the file in order. Until they do, only the journal has
them, and it must keep them: it calls `write_all` before it lets go of anything, and hears of every failure.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from ottla.core.ports import Clock, Disk
from ottla.partitions.write_job import WriteJob

LATE_WRITE_MS: Final = 100.0
# What waits is not within the budget of the tails, and is written at once when it comes to this much.
LATE_LOG_BYTES: Final = 256 << 10
LATE_BYTES: Final = 4 << 20


class LateLog(Protocol):
    """Whose bytes they are."""

    def late_written(self, job: WriteJob, error: Exception | None) -> None:
        """A job of this module ended that had these bytes of the log."""


class _Waiter:
    """Who waits until what was here has reached its files: how many jobs of each log have to end before."""

    __slots__ = ("done", "left")

    def __init__(self, left: dict[LateLog, int], done: Callable[[], None]) -> None:
        self.left, self.done = left, done

    def ended(self, log: LateLog) -> bool:
        """A job with bytes of this log ended; whether that was the last one."""
        left = self.left.pop(log, 0) - 1
        if left > 0:
            self.left[log] = left
        return not self.left


class LateWrites:
    """All of one node. `failed` hears of bytes that did not reach their segment, before the log does."""

    __slots__ = ("_armed", "_clock", "_disk", "_due", "_failed", "_queued", "_size", "_under_way", "_waiters",
                 "since_ms")  # fmt: skip

    def __init__(self, disk: Disk, clock: Clock, failed: Callable[[Exception], None]) -> None:
        self._disk, self._clock, self._failed = disk, clock, failed
        self._queued: dict[LateLog, WriteJob] = {}
        self._size = 0  # bytes that are queued
        self._due = False  # there is too much of one log
        self._under_way: set[LateLog] = set()  # in that one or in a job of the log's own
        self._armed = False
        self._waiters: list[_Waiter] = []
        self.since_ms: float | None = None  # when the job that is under way was begun (monotonic)

    def add(self, log: LateLog, job: WriteJob) -> None:
        """The journal has made these bytes durable."""
        self._size += job.size
        earlier = self._queued.get(log)
        if earlier is not None:
            job.follow(earlier)
        self._queued[log] = job
        if job.size >= LATE_LOG_BYTES:
            self._due = True
        self._look()

    def holds(self, log: LateLog) -> bool:
        """Whether bytes of this log are queued."""
        return log in self._queued

    def is_writing(self, log: LateLog) -> bool:
        """Whether bytes of this log are under way: then its files are to be left alone."""
        return log in self._under_way

    def take(self, log: LateLog) -> WriteJob | None:
        """What is queued of this log, for a job of its own, whose end it tells with `ended`; None: nothing."""
        job = self._queued.pop(log, None)
        if job is not None:
            self._size -= job.size
            self._under_way.add(log)
        return job

    def ended(self, log: LateLog, error: Exception | None) -> None:
        """A job of the log's own ended, which may have taken bytes from here."""
        if log in self._under_way:
            self._under_way.discard(log)
            if error is not None:
                self._failed(error)
            for waiter in self._ready(log):
                waiter.done()

    def write_all(self, done: Callable[[], None]) -> None:
        """Call `done` when all that is here by now has reached its files, or failed to; at once if there is nothing."""
        left = dict.fromkeys(self._under_way, 1)
        for log in self._queued:
            left[log] = left.get(log, 0) + 1
        if left:
            self._waiters.append(_Waiter(left, done))
            self._look()
        else:
            done()

    def _look(self) -> None:
        """Begin the next job if it is time."""
        if self.since_ms is not None or not self._queued:
            return
        if self._due or self._waiters or self._size >= LATE_BYTES:
            self._start()
        elif not self._armed:
            self._armed = True
            self._clock.call_later(LATE_WRITE_MS, self._waited)

    def _waited(self) -> None:
        self._armed = False
        if self.since_ms is None and self._queued:
            self._start()

    def _start(self) -> None:
        jobs, self._queued = self._queued, {}
        self._size, self._due = 0, False
        self._under_way.update(jobs)
        self.since_ms = self._clock.monotonic_ms()
        self._disk.submit(partial(_write, jobs), partial(self._written, jobs))

    def _written(
        self, jobs: dict[LateLog, WriteJob], errors: dict[LateLog, Exception] | None, error: Exception | None
    ) -> None:
        self.since_ms = None
        self._under_way.difference_update(jobs)
        if errors is None:
            assert error is not None
            errors = dict.fromkeys(jobs, error)
        for failure in errors.values():
            self._failed(failure)
        ready = [waiter for log in jobs for waiter in self._ready(log)]  # before a log that is told of it asks anew
        for log, job in jobs.items():
            log.late_written(job, errors.get(log))
        for waiter in ready:
            waiter.done()
        self._look()

    def _ready(self, log: LateLog) -> list[_Waiter]:
        """A job with bytes of this log ended: who waits for nothing more."""
        if not self._waiters:
            return []
        ready = [waiter for waiter in self._waiters if log in waiter.left and waiter.ended(log)]
        self._waiters = [waiter for waiter in self._waiters if waiter.left]
        return ready


def _write(jobs: dict[LateLog, WriteJob]) -> dict[LateLog, Exception]:
    """Without a sync; the errors of those that failed."""
    errors: dict[LateLog, Exception] = {}
    for log, job in jobs.items():
        try:
            job()
        except OSError as error:
            errors[log] = error
    return errors

"""What goes to the journal, one job at a time, off the loop.

While a job is under way whatever comes waits and goes into the next one together. Snapshots of the state are encoded
and written beside it; only dropping what they replace takes its turn.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from ottla.core.ports import Clock, Disk
from ottla.raft.core import Ready, Snapshot
from ottla.raft.journal import Journal

logger = structlog.get_logger(__name__)

T = TypeVar("T")


class Saving:
    """`persisted(readies)` when they are on stable storage; `failed(error)` when the journal is of no use any more."""

    def __init__(
        self,
        journal: Journal,
        disk: Disk,
        clock: Clock,
        *,
        persisted: Callable[[list[Ready]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._journal, self._disk, self._clock = journal, disk, clock
        self._persisted, self._failed = persisted, failed
        self._waiting: list[Ready] = []
        self._jobs: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._busy_since_ms: float | None = None
        self._closing: Callable[[], None] | None = None
        self._stopped = False
        self.saving_snapshot = False
        self._not_before_bytes = 0  # a snapshot could not be saved: not again before the journal has so many

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way."""
        return self._busy_since_ms is not None

    @property
    def busy_ms(self) -> float:
        """How long the job that is under way has taken so far; 0 when there is none."""
        return 0.0 if self._busy_since_ms is None else self._clock.monotonic_ms() - self._busy_since_ms

    def is_due(self, limit_bytes: int) -> bool:
        """Whether the state should be saved: the entries since the last snapshot have more than so many bytes."""
        return not self.saving_snapshot and self._journal.size_bytes > max(limit_bytes, self._not_before_bytes)

    def add(self, ready: Ready) -> None:
        """To be persisted, after all before it, by the next job."""
        self._waiting.append(ready)

    def go_on(self) -> None:
        """Start the next job, if none is under way."""
        if self._busy_since_ms is not None or self._stopped:
            return
        if self._waiting:
            readies, self._waiting = self._waiting, []
            if any(ready.must_persist for ready in readies):
                journal = self._journal
                self._submit(lambda: journal.persist(readies), lambda _: self._persisted(readies))
            else:
                self._persisted(readies)
        elif self._jobs:
            self._submit(*self._jobs.popleft())

    def save(self, make: Callable[[], Snapshot], done: Callable[[Snapshot], None]) -> None:
        """Save what `make` gives, beside other jobs; then drop what it replaces, and call `done`.

        A snapshot that cannot be saved (the disk is full) is tried again later: the journal goes on without.
        """
        journal = self._journal
        self.saving_snapshot = True

        def save() -> Snapshot:
            snapshot = make()
            journal.save_snapshot(snapshot)
            return snapshot

        def saved(snapshot: Snapshot | None, error: Exception | None) -> None:
            if self._stopped:
                return
            if snapshot is None:
                logger.warning("the metadata's state could not be saved; tried again later", error=str(error))
                self.saving_snapshot = False
                self._not_before_bytes = journal.size_bytes + (journal.size_bytes >> 2)
                return
            self._jobs.append((lambda: journal.trim(snapshot), lambda _: trimmed(snapshot)))
            self.go_on()

        def trimmed(snapshot: Snapshot) -> None:
            self.saving_snapshot, self._not_before_bytes = False, 0
            done(snapshot)

        self._disk.submit(save, saved)

    def stop(self) -> None:
        """Start nothing any more; what is under way ends in silence."""
        self._stopped = True

    def close(self, closed: Callable[[], None]) -> None:
        """Stop, and close the journal when the job under way has ended; then `closed`."""
        self._stopped, self._closing = True, closed
        if self._busy_since_ms is None:
            self._close()

    def _close(self) -> None:
        closed, self._closing = self._closing, None
        if closed is not None:
            self._journal.close()
            closed()

    def _submit(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        self._busy_since_ms = self._clock.monotonic_ms()

        def ended(result: Any, error: Exception | None) -> None:
            self._busy_since_ms = None
            if self._stopped:
                self._close()
            elif error is not None:
                self._failed(error)
            else:
                then(result)

        self._disk.submit(job, ended)

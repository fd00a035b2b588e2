"""What all logs of one node share: ports, open handles, the memory budget, the journal, and the start of write jobs."""

from collections.abc import Callable
from typing import Final, Protocol

from ottla.core.ports import Clock, Disk, Worker
from ottla.partitions.journal import JournaledWrite, SharedJournal
from ottla.partitions.late_writes import LateWrites
from ottla.partitions.open_files import OpenFiles
from ottla.partitions.tail import TailBudget

# What a log has queued beyond this goes straight to its own file: writing it twice would cost more than a sync.
JOURNAL_COMMIT_BYTES: Final = 8 << 10
# Unless it is many batches of a record or two: whoever sends those pays for requests, not for bytes, and with several
# in flight has every partition of a node at hand in every round, each with a job and a sync of its own otherwise.
JOURNAL_COMMIT_SMALL_BYTES: Final = 64 << 10
SMALL_BATCH_BYTES: Final = 2 << 10
# After so much of an active segment its indexes and the producers are saved: what a start after a crash has to read
# below the recovery point, headers only.
SAVE_EVERY_BYTES: Final = 16 << 20
# The same at a stop: to read less than this at the next start takes less than the syncs would.
SAVE_AT_STOP_BYTES: Final = 1 << 20


class Writes(Protocol):
    """A log that has something queued for its files."""

    def start_write(self) -> None:
        """Begin the log's own write job, if it can."""

    def journal_bytes(self) -> int:
        """How much is queued, if the journal may carry it (`journal_takes`); else 0."""

    def start_journaled_write(self) -> JournaledWrite:
        """Hand what is queued to the journal; only after `journal_bytes` said that it may be."""


class Environment:
    """One for each data directory.

    Logs that got batches in the same turn of the loop start to write together at its end, and whatever comes while
    they do goes into the next round: small commits of all logs as one of the journal, a large one as a job of its own.
    """

    __slots__ = ("_armed", "_dirty", "_held", "checkpoint", "clock", "disk", "failures", "journal", "late",
                 "on_failure", "open_files", "rounds", "save_at_stop_bytes", "save_every_bytes", "tail_budget",
                 "worker", "writing")  # fmt: skip

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        *,
        worker: Worker | None = None,
        open_files: OpenFiles | None = None,
        tail_budget: TailBudget | None = None,
        journal: SharedJournal | None = None,
    ) -> None:
        self.disk, self.clock, self.worker = disk, clock, worker
        self.open_files = open_files or OpenFiles()
        self.tail_budget = tail_budget or TailBudget()
        self.checkpoint: Callable[[Callable[[Exception | None], None]], None] = _no_checkpoint
        self.journal = journal
        # What only the journal holds; without one there never is anything.
        self.late = journal.late if journal is not None else LateWrites(disk, clock, lambda _: None)
        self.save_every_bytes, self.save_at_stop_bytes = SAVE_EVERY_BYTES, SAVE_AT_STOP_BYTES
        self._dirty: list[Writes] = []
        self._held: list[Writes] = []  # wait for the journal's commit that is under way
        self._armed = False
        self.rounds = 0  # of writes that were begun: whoever looks for changes knows when there is none
        self.failures = 0  # how often `failed` was called: whoever looks for those knows when
        self.on_failure: Callable[[], object] = _nobody  # called then
        self.writing: dict[object, float] = {}  # logs with a write under way, and since when; the oldest first

    def failed(self) -> None:
        """A partition has, or one that had is gone."""
        self.failures += 1
        self.on_failure()

    @property
    def oldest_write_ms(self) -> float | None:
        """Since when the oldest write that has not ended is under way (monotonic); None: there is none."""
        own, late = next(iter(self.writing.values()), None), self.late.since_ms
        return own if late is None else late if own is None else min(own, late)

    def write_soon(self, log: Writes) -> None:
        """Have what the log queued written, from the end of this turn of the loop on."""
        self._dirty.append(log)
        if not self._armed:
            self._armed = True
            self.clock.call_soon(self._start)

    def _start(self) -> None:
        self._armed = False
        self.rounds += 1
        dirty, self._dirty = self._dirty, []
        journal = self.journal
        if journal is None or not journal.usable:
            for log in dirty:
                log.start_write()
            return
        small: list[Writes] = []
        total = 0
        for log in dirty:
            size = log.journal_bytes()
            if size:
                small.append(log)
                total += size
            else:
                log.start_write()
        if not small:
            return
        if journal.busy:
            self._held += small
        elif journal.accepts(total, len(small)):
            journal.commit([log.start_journaled_write() for log in small], self._release)
        else:
            for log in small:
                log.start_write()

    def _release(self) -> None:
        """A commit of the journal ended: the next one carries all that came meanwhile."""
        self._dirty = self._held + self._dirty
        self._held = []
        if self._dirty:
            self._start()


def journal_takes(size_bytes: int, batches: int) -> bool:
    """Whether so much of one log had better go into the journal than straight to its file."""
    return size_bytes <= JOURNAL_COMMIT_BYTES or (
        size_bytes <= JOURNAL_COMMIT_SMALL_BYTES and size_bytes <= batches * SMALL_BATCH_BYTES
    )


def _nobody() -> None:
    """Looks for failures."""


def _no_checkpoint(done: Callable[[Exception | None], None]) -> None:
    """Until a `PartitionManager` puts its own here: nothing to save."""
    done(None)

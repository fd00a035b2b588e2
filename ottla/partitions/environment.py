"""What all logs of one node share: ports, open handles, the memory budget, and the start of write jobs."""

from collections.abc import Callable
from typing import Protocol

from ottla.core.ports import Clock, Disk, Worker
from ottla.partitions.open_files import OpenFiles
from ottla.partitions.tail import TailBudget


class Writes(Protocol):
    """A log that has something queued for its files."""

    def start_write(self) -> None: ...


class Environment:
    """One for each data directory.

    Logs that got batches in the same turn of the loop start their write jobs together at its end: what one turn
    read from all sockets goes to disk in one job for each log, and a job holds all batches that came meanwhile.
    """

    __slots__ = ("_armed", "_dirty", "checkpoint", "clock", "disk", "open_files", "tail_budget", "worker")

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        *,
        worker: Worker | None = None,
        open_files: OpenFiles | None = None,
        tail_budget: TailBudget | None = None,
    ) -> None:
        self.disk, self.clock, self.worker = disk, clock, worker
        self.open_files = open_files or OpenFiles()
        self.tail_budget = tail_budget or TailBudget()
        self.checkpoint: Callable[[Callable[[Exception | None], None]], None] = _no_checkpoint
        self._dirty: list[Writes] = []
        self._armed = False

    def write_soon(self, log: Writes) -> None:
        """Call `log.start_write()` at the end of this turn of the loop."""
        self._dirty.append(log)
        if not self._armed:
            self._armed = True
            self.clock.call_soon(self._start)

    def _start(self) -> None:
        self._armed = False
        dirty, self._dirty = self._dirty, []
        for log in dirty:
            log.start_write()


def _no_checkpoint(done: Callable[[Exception | None], None]) -> None:
    """Until a `PartitionManager` puts its own here: nothing to save."""
    done(None)

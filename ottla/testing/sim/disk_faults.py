"""What goes wrong with a node's files: failing writes and syncs, a full disk, power that is cut in mid-operation.

A `DiskFaults` is what `SimFiles.before` calls. It draws from its own random generator, so that a fault that is switched
off changes nothing else of a run.
"""

import errno
from collections import Counter
from typing import Final

from ottla.core.ports import Random
from ottla.testing.sim.files import PowerCut, ShortWrite

FAILING: Final = frozenset({"write", "sync", "truncate", "allocate", "rename", "sync_directory"})
GROWING: Final = frozenset({"write", "allocate", "mkdir"})


class DiskFaults:
    """Faults of one node's disk, counted by name in `seen`."""

    def __init__(self, random: Random, seen: Counter[str] | None = None) -> None:
        self._random = random
        self.seen = Counter() if seen is None else seen
        self.failing = 0.0  # the probability that an operation which changes something fails with EIO
        self.full = False
        self.power_cut_in: int | None = None  # this many operations from now

    def __call__(self, operation: str, path: str) -> None:
        if self.power_cut_in is not None:
            self.power_cut_in -= 1
            if self.power_cut_in <= 0:
                self.power_cut_in = None
                raise PowerCut
        if self.full and operation in GROWING:
            self.seen["ENOSPC"] += 1
            self._fail(errno.ENOSPC, "No space left on device", operation, path)
        if self.failing and operation in FAILING and self._random.random() < self.failing:
            self.seen["EIO"] += 1
            self._fail(errno.EIO, "Input/output error", operation, path)

    def _fail(self, number: int, text: str, operation: str, path: str) -> None:
        if operation == "write":
            error = ShortWrite(number, text, path)
            error.part = self._random.random()
            raise error
        raise OSError(number, text, path)

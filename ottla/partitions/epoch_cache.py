"""Which leader epoch began at which offset (KIP-101, KIP-279), as the `leader-epoch-checkpoint` keeps it."""

from collections.abc import Iterable
from typing import Final

UNDEFINED_EPOCH: Final = -1
UNDEFINED_OFFSET: Final = -1


class EpochCache:
    """(epoch, start offset), ascending in both."""

    __slots__ = ("entries",)

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        self.entries = list(entries)

    @property
    def latest(self) -> int:
        return self.entries[-1][0] if self.entries else UNDEFINED_EPOCH

    def assign(self, epoch: int, start_offset: int) -> bool:
        """A batch of `epoch` begins at `start_offset`; whether that was news."""
        if epoch < 0 or (self.entries and epoch <= self.entries[-1][0]):
            return False
        while self.entries and self.entries[-1][1] >= start_offset:
            self.entries.pop()
        self.entries.append((epoch, start_offset))
        return True

    def epoch_for(self, offset: int) -> int:
        """The epoch in which the record at `offset` was written."""
        found = UNDEFINED_EPOCH
        for epoch, start in self.entries:
            if start > offset:
                break
            found = epoch
        return found

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """Largest known epoch ≤ `epoch`, and the offset at which it ended; (-1, -1) when none is known."""
        if epoch == UNDEFINED_EPOCH or not self.entries:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == self.latest:
            return epoch, log_end_offset
        found = UNDEFINED_EPOCH
        for known, start in self.entries:
            if known > epoch:
                return (found, start) if found != UNDEFINED_EPOCH else (epoch, start)
            found = known
        return UNDEFINED_EPOCH, UNDEFINED_OFFSET  # a future epoch

    def truncate_end(self, offset: int) -> None:
        """Forget epochs that began at `offset` or later."""
        while self.entries and self.entries[-1][1] >= offset:
            self.entries.pop()

    def truncate_start(self, offset: int) -> None:
        """The log begins at `offset` now: its epoch begins there, older ones are forgotten."""
        while len(self.entries) > 1 and self.entries[1][1] <= offset:
            self.entries.pop(0)
        if self.entries and self.entries[0][1] < offset:
            self.entries[0] = (self.entries[0][0], offset)

"""The end of the logs, in memory: what is not written yet, and what was written lately.

Unwritten batches must stay. Written ones stay as long as the node's budget allows; it forgets the oldest write of any
partition first. A view pins its whole buffer, so callers hand in views whose buffer is about as large as the batch.
"""

from bisect import bisect_left
from collections import deque
from typing import Final

from ottla.core.types import Buffer

DEFAULT_BUDGET_BYTES: Final = 12 << 20
_JOIN_FROM_VIEWS: Final = 32  # more buffers than this cost a socket more than one copy does


class Tail:
    """The last batches of one log, by last offset. `base_offset` is the first offset that it can serve.

    A truncation replaces the whole object: the budget may still name the old one.
    """

    __slots__ = ("_head", "_lasts", "_views", "base_offset")

    def __init__(self, base_offset: int) -> None:
        self.base_offset = base_offset
        self._lasts: list[int] = []
        self._views: list[memoryview] = []
        self._head = 0

    def append(self, view: memoryview, last_offset: int) -> None:
        self._lasts.append(last_offset)
        self._views.append(view)

    def drop(self, count: int) -> None:
        """Forget the `count` oldest batches."""
        head = self._head
        self._views[head : head + count] = [_NOTHING] * count
        head += count
        self.base_offset = max(self.base_offset, self._lasts[head - 1] + 1)
        if head == len(self._lasts):
            self._lasts.clear()
            self._views.clear()
            head = 0
        elif head > 64 and head * 2 > len(self._lasts):
            del self._lasts[:head]
            del self._views[:head]
            head = 0
        self._head = head

    def leave_to_files(self, offset: int) -> None:
        """Serve nothing before `offset` any more: the files say it otherwise since a compaction."""
        self.base_offset = max(self.base_offset, offset)

    def __len__(self) -> int:
        return len(self._lasts) - self._head

    def read(self, offset: int, end_offset: int, max_bytes: int, minimum_one: bool) -> tuple[list[memoryview], int]:
        """Batches from the one that holds `offset` on, that end before `end_offset`, and their size."""
        lasts, views = self._lasts, self._views
        views_out: list[memoryview] = []
        size = 0
        for n in range(bisect_left(lasts, offset, self._head), len(lasts)):
            if lasts[n] >= end_offset:
                break
            view = views[n]
            if size + len(view) > max_bytes and (views_out or not minimum_one):
                break
            views_out.append(view)
            size += len(view)
        return views_out, size


def joined(views: list[memoryview]) -> list[Buffer]:
    """What a tail gave, in few buffers."""
    return list(views) if len(views) < _JOIN_FROM_VIEWS else [b"".join(views)]


_NOTHING: Final = memoryview(b"")


class TailBudget:
    """How many written bytes the tails of one node may keep."""

    __slots__ = ("_held_bytes", "_writes", "limit_bytes")

    def __init__(self, limit_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._held_bytes = 0
        self._writes: deque[tuple[Tail, int, int]] = deque()

    def written(self, tail: Tail, count: int, size_bytes: int) -> None:
        """The next `count` batches of the tail are in their file: they may be forgotten from now on."""
        self._writes.append((tail, count, size_bytes))
        self._held_bytes += size_bytes
        while self._held_bytes > self.limit_bytes:
            oldest, dropped, freed = self._writes.popleft()
            self._held_bytes -= freed
            oldest.drop(dropped)

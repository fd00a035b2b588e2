"""The open handles of one node's segments, bounded: the least recently used ones are closed.

Handles are opened by the jobs that need them, off the loop, and handed over here when the job is done; the loop's own
use is `get`. A handle that is dropped here stays open as long as a job still uses it: the last reference closes it.
"""

from collections import OrderedDict
from typing import Final

from ottla.core.ports import File
from ottla.partitions.segment import Segment

DEFAULT_LIMIT: Final = 1024


class OpenFiles:
    """Least recently used handles of `.log` files."""

    __slots__ = ("_files", "limit")

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self._files: OrderedDict[Segment, File] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def get(self, segment: Segment) -> File | None:
        file = self._files.get(segment)
        if file is not None:
            self._files.move_to_end(segment)
        return file

    def adopt(self, segment: Segment, file: File) -> None:
        """Keep a handle that a job opened, unless there is one already."""
        if self._files.setdefault(segment, file) is file and len(self._files) > self.limit:
            self._files.popitem(last=False)

    def drop(self, segment: Segment) -> None:
        """The segment's file is gone or replaced."""
        self._files.pop(segment, None)

"""A log that remembers what it holds, so that a checker can compare replicas after every step."""

from types import ModuleType
from typing import Any, NamedTuple

import ottla.partitions.partition
from ottla.partitions.log import Log
from ottla.records.header import BatchHeader, iterate_headers, read_header
from ottla.testing.sim.files import SimFiles


class Held(NamedTuple):
    """A batch."""

    base_offset: int
    next_offset: int
    epoch: int
    crc: int


class WatchedLog(Log):
    __slots__ = ("held_batches",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.held_batches: list[Held] = []
        files = self.environment.disk.files
        assert isinstance(files, SimFiles)
        for segment in self.segments:
            if segment.created:
                content = bytes(files.root.entries[self.directory].entries[segment.path().rpartition("/")[2]].content)  # type: ignore[union-attr]
                self.held_batches += [_held(header) for _, header in iterate_headers(content[: segment.size])]

    def append(self, view: memoryview, header: BatchHeader, last_offset: int, now_ms: int) -> None:
        super().append(view, header, last_offset, now_ms)
        self.held_batches.append(_held(read_header(view)))


def _held(header: BatchHeader) -> Held:
    return Held(header.base_offset, header.next_offset, header.partition_leader_epoch, header.crc)


_MODULE: ModuleType = ottla.partitions.partition


def watch_logs() -> None:
    """Partitions make watched logs from now on."""
    setattr(_MODULE, "Log", WatchedLog)  # noqa: B010 - it is no attribute that others may set


def unwatch_logs() -> None:
    setattr(_MODULE, "Log", Log)  # noqa: B010

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


class InTransaction(NamedTuple):
    """A batch of a producer's transaction, or the marker that ends it."""

    producer_id: int
    ends: bool


class WatchedLog(Log):
    """`held_batches`, and for each of them what it is in a transaction, or None."""

    __slots__ = ("held_batches", "transactions")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.held_batches: list[Held] = []
        self.transactions: list[InTransaction | None] = []
        files = self.environment.disk.files
        assert isinstance(files, SimFiles)
        for segment in self.segments:
            if segment.created:
                content = bytes(files.root.entries[self.directory].entries[segment.path().rpartition("/")[2]].content)  # type: ignore[union-attr]
                for _, header in iterate_headers(content[: segment.size]):
                    self._remember(header)

    def append(self, view: memoryview, header: BatchHeader, last_offset: int, now_ms: int) -> None:
        super().append(view, header, last_offset, now_ms)
        self._remember(read_header(view))

    def _remember(self, header: BatchHeader) -> None:
        self.held_batches.append(_held(header))
        in_one = header.is_transactional and header.producer_id >= 0
        self.transactions.append(InTransaction(header.producer_id, header.is_control) if in_one else None)


def _held(header: BatchHeader) -> Held:
    return Held(header.base_offset, header.next_offset, header.partition_leader_epoch, header.crc)


_MODULE: ModuleType = ottla.partitions.partition


def watch_logs() -> None:
    """Partitions make watched logs from now on."""
    setattr(_MODULE, "Log", WatchedLog)  # noqa: B010 - it is no attribute that others may set


def unwatch_logs() -> None:
    setattr(_MODULE, "Log", Log)  # noqa: B010

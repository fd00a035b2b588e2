"""What the logs of running replicas hold, so that a checker can compare replicas after every step.

It is read as readers of a log see it, from its tail and its files, and nothing in the log is replaced for it: the
simulated nodes are production code, compiled or not. Whoever asks after every step has each batch as it was appended,
also where a compaction takes it out later.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ottla.partitions.log import Log
from ottla.partitions.partition import Partition
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


class Content:
    """The batches of one log, in order, and for each of them what it is in a transaction, or None, and its details:
    what `detail` makes of it.
    """

    __slots__ = ("_detail", "_end", "batches", "details", "log", "transactions")

    def __init__(self, log: Log, detail: Callable[[memoryview], Any]) -> None:
        self.log, self._detail = log, detail
        self.batches: list[Held] = []
        self.transactions: list[InTransaction | None] = []
        self.details: list[Any] = []
        self._end = 0  # read to this offset

    def read_on(self) -> None:
        """To the log end offset."""
        log = self.log
        end = log.log_end_offset
        if end == self._end:
            return
        if log.tail.base_offset > self._end:
            self._read_files(log.tail.base_offset)
        views, _ = log.tail.read(self._end, end, 1 << 62, True)
        for view in views:
            self._remember(read_header(view), view)
        self._end = end

    def _read_files(self, end: int) -> None:
        log = self.log
        files = log.environment.disk.files
        assert isinstance(files, SimFiles)
        directory = files.root.entries.get(log.directory)
        for segment in log.segments:
            if not segment.written or segment.next_offset <= self._end or segment.base_offset >= end:
                continue
            inode = directory.entries[segment.path().rpartition("/")[2]]  # type: ignore[union-attr]
            content = memoryview(bytes(inode.content[: segment.written]))  # type: ignore[union-attr]
            for position, header in iterate_headers(content):
                if self._end <= header.base_offset < end:
                    self._remember(header, content[position:])
        self._end = end

    def _remember(self, header: BatchHeader, data: memoryview) -> None:
        """A batch, with which `data` begins."""
        self.batches.append(Held(header.base_offset, header.next_offset, header.partition_leader_epoch, header.crc))
        in_one = header.is_transactional and header.producer_id >= 0
        self.transactions.append(InTransaction(header.producer_id, header.is_control) if in_one else None)
        self.details.append(self._detail(data))


class Contents:
    """Of all replicas that are looked at. `detail`: what else is to be known of a batch, with which the data begin."""

    def __init__(self, detail: Callable[[Partition, memoryview], Any] = lambda partition, data: None) -> None:
        self._detail = detail
        self._known: dict[Partition, Content] = {}

    def of(self, partition: Partition) -> Content:
        """As it is now; a log that takes the place of a truncated one is read anew."""
        content = self._known.get(partition)
        if content is None or content.log is not partition.log:
            content = self._known[partition] = Content(partition.log, partial(self._detail, partition))
        content.read_on()
        return content

    def epoch_of(self, partition: Partition, base_offset: int) -> int:
        """The leader epoch of the batch that begins there; -1 without one."""
        batches = reversed(self.of(partition).batches)
        return next((held.epoch for held in batches if held.base_offset == base_offset), -1)

    def holds(self, partition: Partition, held: Held) -> bool:
        """Whether a batch is there, or deleted with what was before the log start offset."""
        for known in reversed(self.of(partition).batches):
            if known.base_offset <= held.base_offset:
                return known == held
        return held.next_offset <= partition.log_start_offset

    def forget(self, partition: Partition) -> None:
        """It is removed, or its process has ended."""
        self._known.pop(partition, None)

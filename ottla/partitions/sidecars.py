"""Writing what lies beside the log files: indexes, transaction index, producer snapshots, leader epochs.

None of it is needed to keep a record; all of it makes the next start short. Producer snapshots come last: the offset of
one says up to where everything else was durable before (`recovery` trusts it that far, and no further than the recovery
point). What an index file holds below that offset is never written again in place, so no crash can tear it.
"""

from dataclasses import dataclass, field
from typing import Final

from ottla.core.ports import Files
from ottla.partitions.checkpoints import LEADER_EPOCH_FILE
from ottla.partitions.producer_snapshot import encode_snapshot, snapshot_offsets
from ottla.partitions.producer_state import ProducerSnapshot
from ottla.partitions.segment import (
    INDEX_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
    file_name,
)
from ottla.partitions.segment_files import replace_file

_SNAPSHOTS_KEPT: Final = 2


@dataclass(slots=True)
class IndexTail:
    """New bytes of an index file, from a position on."""

    path: str
    position: int
    data: bytes


@dataclass(slots=True)
class SidecarJob:
    """Runs off the loop; holds copies, so appends go on meanwhile."""

    files: Files
    directory: str
    indexes: list[IndexTail] = field(default_factory=list)
    transaction_indexes: list[tuple[str, bytes]] = field(default_factory=list)
    snapshots: list[tuple[int, ProducerSnapshot]] = field(default_factory=list)
    epochs: bytes | None = None
    kept_snapshots: set[int] = field(default_factory=set)  # base offsets of segments: their snapshots stay

    def add_index(self, segment: Segment) -> None:
        """Take what the segment's indexes have and their files have not."""
        if segment.index is None or segment.time_index is None:
            return
        for suffix, data, flushed in (
            (INDEX_SUFFIX, segment.index.data, segment.index_flushed),
            (TIME_INDEX_SUFFIX, segment.time_index.data, segment.time_index_flushed),
        ):
            if len(data) > flushed or not flushed:
                self.indexes.append(IndexTail(segment.path(suffix), flushed, bytes(data[flushed:])))
        segment.index_flushed, segment.time_index_flushed = len(segment.index.data), len(segment.time_index.data)

    def add_transactions(self, segment: Segment, data: bytes) -> None:
        self.transaction_indexes.append((segment.path(TRANSACTION_INDEX_SUFFIX), data))

    def __call__(self) -> None:
        files, directory = self.files, self.directory
        for tail in self.indexes:
            if tail.position:
                _append(files, tail)
            else:
                replace_file(files, tail.path, tail.data)
        for path, data in self.transaction_indexes:
            replace_file(files, path, data)
        if self.epochs is not None:
            replace_file(files, f"{directory}/{LEADER_EPOCH_FILE}", self.epochs)
        files.sync_directory(directory)
        if not self.snapshots:
            return
        for offset, snapshot in self.snapshots:
            replace_file(files, f"{directory}/{file_name(offset, SNAPSHOT_SUFFIX)}", encode_snapshot(snapshot))
        files.sync_directory(directory)
        for offset in snapshot_offsets(files.list_directory(directory))[:-_SNAPSHOTS_KEPT]:
            if offset not in self.kept_snapshots:
                files.remove(f"{directory}/{file_name(offset, SNAPSHOT_SUFFIX)}")


def _append(files: Files, tail: IndexTail) -> None:
    file = files.open(tail.path, create=True)
    try:
        file.pwritev([tail.data], tail.position, sync=True)
    finally:
        file.close()

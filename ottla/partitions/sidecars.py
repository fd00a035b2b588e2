"""Writing what lies beside the log files: indexes, transaction index, producer snapshots, leader epochs.

None of it is needed to keep a record; all of it makes the next start short. It is saved before the recovery point
passes what it describes: recovery trusts it below that point, and makes it anew above.
"""

from dataclasses import dataclass, field

from ottla.core.ports import Files
from ottla.partitions.checkpoints import LEADER_EPOCH_FILE
from ottla.partitions.producer_snapshot import snapshot_offsets
from ottla.partitions.segment import (
    INDEX_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
    file_name,
)

_SNAPSHOTS_KEPT = 2


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
    snapshots: list[tuple[int, bytes]] = field(default_factory=list)
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
            file = files.open(tail.path, create=True)
            try:
                if tail.data:
                    file.pwritev([tail.data], tail.position)
                file.truncate(tail.position + len(tail.data))
                file.sync()
            finally:
                file.close()
        for path, data in self.transaction_indexes:
            files.write_atomically(path, data)
        for offset, data in self.snapshots:
            files.write_atomically(f"{directory}/{file_name(offset, SNAPSHOT_SUFFIX)}", data)
        if self.epochs is not None:
            files.write_atomically(f"{directory}/{LEADER_EPOCH_FILE}", self.epochs)
        if self.snapshots:
            for offset in snapshot_offsets(files.list_directory(directory))[:-_SNAPSHOTS_KEPT]:
                if offset not in self.kept_snapshots:
                    files.remove(f"{directory}/{file_name(offset, SNAPSHOT_SUFFIX)}")
        files.sync_directory(directory)

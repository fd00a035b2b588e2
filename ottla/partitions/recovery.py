"""From the files of a partition to its state, after a clean stop and after a crash alike.

Two offsets say how much of it must be read. The recovery point (`recovery-point-offset-checkpoint`, written about once
a second and at a stop) says up to where the log was durable: what lies below it is trusted, what lies above it is
validated batch by batch. The newest producer snapshot at or below it is written after all that it speaks for: up to its
offset the index files are complete, and so are leader epochs and producers. So only headers are read between the two,
and of what lies below the snapshot nothing but the ends of the segments.

The first invalid byte above the recovery point is a torn tail: cut off, and reported with the number of bytes. An
invalid byte below it is damage: `CorruptLog`, the log is not changed, and the partition stays offline.

What survives above the recovery point is written and synced once more: when the process died after a failed sync, the
kernel may hold pages as clean that never reached the disk. What the sidecars say of it is forgotten before anything
can be appended, or the next crash would find them true of other records.

The journal that a node's partitions share comes first: before any log is opened, `journal.SharedJournal.recover` has
written what it holds to its places.
"""

from dataclasses import dataclass, field
from typing import Final

from ottla.core.errors import CorruptBatch, CorruptLog, StorageError
from ottla.core.ports import File, Files
from ottla.partitions.checkpoints import LEADER_EPOCH_FILE, read_epochs
from ottla.partitions.config import LogConfig
from ottla.partitions.epoch_cache import EpochCache
from ottla.partitions.producer_snapshot import encode_aborted, read_aborted, restore_snapshot
from ottla.partitions.producer_state import AbortedTransaction, ProducerStates
from ottla.partitions.reading import damage
from ottla.partitions.segment import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    LOG_SUFFIX,
    MAX_RELATIVE_OFFSET,
    SEGMENT_SUFFIXES,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
)
from ottla.partitions.segment_files import walk_headers
from ottla.partitions.trusted_indexes import resume, trust
from ottla.records.control import read_end_transaction_marker
from ottla.records.header import BatchHeader, read_header, validate

_CHUNK_BYTES: Final = 1 << 20


@dataclass(slots=True)
class RecoveredLog:
    """All that a partition starts from."""

    directory: str
    segments: list[Segment]
    log_start_offset: int
    epochs: list[tuple[int, int]] = field(default_factory=list)
    epochs_changed: bool = False  # their file says something else
    producers: ProducerStates = field(default_factory=ProducerStates)
    aborted: list[AbortedTransaction] = field(default_factory=list)
    saved_size: int = 0  # of the active segment: where what its sidecars say ends
    truncated_bytes: int = 0
    truncated_at: str = ""
    error: Exception | None = None  # the partition is to stay offline


def empty_log(directory: str, start_offset: int = 0) -> RecoveredLog:
    """A partition without files."""
    return RecoveredLog(directory, [Segment(directory, start_offset)], start_offset)


def recover(
    files: Files,
    directory: str,
    config: LogConfig,
    *,
    recovery_point: int,
    log_start_offset: int,
    now_ms: int,
    clean: bool = False,
    gaps: bool = False,
) -> RecoveredLog:
    """Read the directory. A damaged log comes back with `error` set; nothing of it was changed.

    `gaps`: what lies past the recovery point may have been compacted (a truncation reads such segments again).
    `clean`: the last stop made everything durable; otherwise what is found here is made durable first. `now_ms`: when
    producers whose batches are read count as last seen; their own timestamps may be anything.
    """
    try:
        return _Recovery(files, directory, config, recovery_point, log_start_offset, now_ms, clean, gaps).run()
    except (StorageError, CorruptBatch, OSError) as error:
        failed = empty_log(directory, log_start_offset)
        failed.error = error
        return failed


class _Recovery:
    def __init__(
        self,
        files: Files,
        directory: str,
        config: LogConfig,
        recovery_point: int,
        log_start_offset: int,
        now_ms: int,
        clean: bool,
        gaps: bool,
    ) -> None:
        self.now_ms, self.clean = now_ms, clean
        self.gaps = gaps or (config.cleanup_compact and not recovery_point)
        self.files, self.directory, self.config = files, directory, config
        self.recovery_point, self.log_start_offset = recovery_point, log_start_offset
        self.names = set(files.list_directory(directory))
        self.snapshot_offset = 0
        self.producers = ProducerStates()
        self.scanned_epochs: list[tuple[int, int]] = []
        self.scanned_aborted: list[AbortedTransaction] = []
        self.saved_size = 0
        self.truncated_bytes = 0
        self.truncated_at = ""

    def run(self) -> RecoveredLog:
        segments = self._find_segments()
        if not self.clean:
            self.files.sync_directory(self.directory)
        if not segments:
            if self.recovery_point > self.log_start_offset:
                raise damage(
                    self.directory, 0, f"no segment is left of a log that was durable to {self.recovery_point}"
                )
            return empty_log(self.directory, self.log_start_offset)
        self.snapshot_offset = restore_snapshot(
            self.files, self.directory, self.names, self.recovery_point, self.producers
        )
        first = max(sum(segment.base_offset <= self.snapshot_offset for segment in segments) - 1, 0)
        for n in range(first):
            trust(self.files, segments[n], segments[n + 1].base_offset, self.names)
        kept = segments[:first]
        for n, segment in enumerate(segments[first:], first):
            cut = self._scan(segment)
            kept.append(segment)
            if cut or (n + 1 < len(segments) and self._has_hole(segment, segments[n + 1])):
                self._remove(segments[n + 1 :])
                break
        for segment in kept[first:-1]:
            segment.seal()
        end_offset = kept[-1].next_offset
        if end_offset < self.recovery_point:
            raise damage(
                kept[-1].path(),
                kept[-1].size,
                f"the log ends at offset {end_offset} but was durable to {self.recovery_point}",
            )
        self._remove_leftovers()
        if end_offset < self.log_start_offset:  # records were deleted before they were durable
            self._remove(kept)
            return empty_log(self.directory, self.log_start_offset)
        return self._recovered(kept, end_offset)

    def _recovered(self, segments: list[Segment], end_offset: int) -> RecoveredLog:
        log = RecoveredLog(self.directory, segments, max(self.log_start_offset, segments[0].base_offset))
        log.truncated_bytes, log.truncated_at = self.truncated_bytes, self.truncated_at
        log.saved_size = self.saved_size
        saved_epochs: list[tuple[int, int]] = []
        if LEADER_EPOCH_FILE in self.names:
            saved_epochs = read_epochs(self.files, f"{self.directory}/{LEADER_EPOCH_FILE}")
        log.epochs = self._epochs(saved_epochs, log.log_start_offset)
        log.epochs_changed = log.epochs != saved_epochs
        log.aborted = self._aborted(segments, end_offset)
        log.producers = self.producers
        log.producers.end_offset = end_offset
        return log

    def _has_hole(self, segment: Segment, following: Segment) -> bool:
        """Whether the unsynced end of a segment is lost though a later segment is there.

        Above the recovery point nothing was compacted yet, so a gap is a loss; without any recovery point (its file is
        gone) the gaps of a compacted log must not be taken for one.
        """
        if segment.next_offset == following.base_offset:
            return False
        gaps = self.gaps or following.base_offset <= self.recovery_point
        if gaps and segment.next_offset < following.base_offset:
            segment.next_offset = following.base_offset
            return False
        return True

    def _find_segments(self) -> list[Segment]:
        segments = []
        for name in self.names:
            if name.endswith(LOG_SUFFIX) and name[: -len(LOG_SUFFIX)].isdecimal():
                segment = Segment(self.directory, int(name[: -len(LOG_SUFFIX)]), created=True)
                segment.size = segment.written = segment.unknown = self.files.size(segment.path())
                segments.append(segment)
        segments.sort(key=lambda segment: segment.base_offset)
        return segments

    def _scan(self, segment: Segment) -> bool:
        """Read from the snapshot on, validate from the recovery point on; whether the segment was cut."""
        path, file_size = segment.path(), segment.written
        file = self.files.open(path)
        try:
            resume(self.files, file, segment, self.snapshot_offset, self.names)
            self.saved_size = segment.size
            self._walk(file, segment, file_size)
            reason = self._validate(file, segment, file_size)
            valid = segment.size
            segment.written = valid
            if reason and segment.next_offset < self.recovery_point:
                raise damage(path, valid, f"{reason}; the log was durable to offset {self.recovery_point}")
            if reason:
                torn = self._count_torn(file, valid, file_size)
                if torn:
                    self.truncated_bytes += torn
                    self.truncated_at = self.truncated_at or f"{path} at byte {valid}"
                file.truncate(valid)
            self._make_durable(file, segment)
        finally:
            file.close()
        return bool(reason)

    def _walk(self, file: File, segment: Segment, file_size: int) -> None:
        """Account for the batches below the recovery point; what else there is, `_validate` judges."""
        if segment.next_offset >= self.recovery_point:
            return
        try:
            for position, header in walk_headers(file, segment.path(), segment.size, file_size):
                if header.base_offset < segment.next_offset or header.last_offset_delta < 0:
                    return
                if header.next_offset > self.recovery_point or position + header.size_bytes > file_size:
                    return
                self._account(file, segment, header)
                if header.next_offset == self.recovery_point:
                    return
        except CorruptLog:
            return

    def _validate(self, file: File, segment: Segment, file_size: int) -> str:
        """Account for every valid batch; why it ended before the end of the file, or nothing."""
        window, window_at = b"", segment.size
        while segment.size < file_size:
            at = segment.size - window_at
            try:
                header = self._batch_at(window, at)
            except CorruptBatch as error:
                if window_at + len(window) >= file_size and at == 0:
                    return str(error)
                length = self._length_at(window, at)
                wanted = max(_CHUNK_BYTES, length)
                if length > file_size - segment.size:
                    return str(error)
                if at == 0 and len(window) >= min(wanted, file_size - segment.size):
                    return str(error)
                window_at = segment.size
                window = file.pread(min(wanted, file_size - window_at), window_at)
                continue
            if header.base_offset != segment.next_offset and (
                not (self.gaps or self.config.cleanup_compact)  # a follower was sent what compaction had left
                or header.base_offset < segment.next_offset
                or header.last_offset - segment.base_offset > MAX_RELATIVE_OFFSET
            ):  # the CRC does not cover the base offset
                return f"a batch with base offset {header.base_offset} where {segment.next_offset} was due"
            self._account(file, segment, header)
        return ""

    @staticmethod
    def _batch_at(window: bytes, at: int) -> BatchHeader:
        header = validate(window, at)
        if header.last_offset_delta < 0:
            raise CorruptBatch(f"a last offset delta of {header.last_offset_delta}")
        return header

    @staticmethod
    def _length_at(window: bytes, at: int) -> int:
        try:
            return read_header(window, at).size_bytes
        except CorruptBatch:
            return 0

    def _account(self, file: File, segment: Segment, header: BatchHeader) -> None:
        """The batch at the end of the segment is part of the log."""
        if not segment.size:
            segment.first_timestamp = header.max_timestamp
        epoch = header.partition_leader_epoch
        if epoch >= 0 and (not self.scanned_epochs or self.scanned_epochs[-1][0] != epoch):
            self.scanned_epochs.append((epoch, header.base_offset))
        if header.producer_id >= 0 and header.base_offset >= self.snapshot_offset:
            if not header.is_control:
                self.producers.record(header, header.base_offset, self.now_ms)
            elif header.record_count:  # Kafka's compaction may leave a marker's batch without the marker
                marker = read_end_transaction_marker(file.pread(header.size_bytes, segment.size))
                aborted = self.producers.record_marker(header, header.base_offset, self.now_ms, marker)
                if aborted is not None:
                    self.scanned_aborted.append(aborted)
        segment.add(header.size_bytes, header.last_offset, header.max_timestamp, self.config.index_interval_bytes)

    @staticmethod
    def _count_torn(file: File, valid: int, file_size: int) -> int:
        """Bytes past the valid end up to the last one that is not zero; zeros are space reserved in advance."""
        torn, position = 0, valid
        while position < file_size and (data := file.pread(min(_CHUNK_BYTES, file_size - position), position)):
            stripped = len(data.rstrip(b"\0"))
            if stripped:
                torn = position + stripped - valid
            position += len(data)
        return torn

    def _make_durable(self, file: File, segment: Segment) -> None:
        """Write what lies past the recovery point again, so that a sync means something for it."""
        assert segment.index is not None
        position = segment.index.lookup(self.recovery_point) if self.recovery_point > segment.base_offset else 0
        if segment.next_offset > self.recovery_point:
            while position < segment.size:
                data = file.pread(min(_CHUNK_BYTES, segment.size - position), position)
                file.pwritev([data], position)
                position += len(data)
        if segment.next_offset > self.recovery_point or not self.clean:
            file.sync()

    def _remove(self, segments: list[Segment]) -> None:
        for segment in segments:
            self.truncated_bytes += segment.written
            for suffix in SEGMENT_SUFFIXES:
                if self.files.exists(segment.path(suffix)):
                    self.files.remove(segment.path(suffix))
        if segments:
            self.files.sync_directory(self.directory)

    def _remove_leftovers(self) -> None:
        for name in self.names:
            if name.endswith((CLEANED_SUFFIX, DELETED_SUFFIX, ".tmp")):
                self.files.remove(f"{self.directory}/{name}")

    def _epochs(self, saved: list[tuple[int, int]], log_start_offset: int) -> list[tuple[int, int]]:
        """Below the snapshot as they were saved, above it as the batches say."""
        cache = EpochCache(saved)
        cache.truncate_end(self.snapshot_offset)
        for epoch, start in self.scanned_epochs:
            cache.assign(epoch, start)
        cache.truncate_start(log_start_offset)
        return cache.entries

    def _aborted(self, segments: list[Segment], end_offset: int) -> list[AbortedTransaction]:
        aborted: list[AbortedTransaction] = []
        for segment in segments:
            path = segment.path(TRANSACTION_INDEX_SUFFIX)
            if path.rpartition("/")[2] not in self.names:
                continue
            entries = read_aborted(self.files, path)
            kept = [entry for entry in entries if entry.last_offset < end_offset]
            if len(kept) != len(entries):  # of a log end that is gone; other records may get these offsets
                self.files.write_atomically(path, encode_aborted(kept))
            aborted += kept
        # In the log as well, or in two files when a crash came while one segment took the place of several.
        by_marker = {entry.last_offset: entry for entry in (*self.scanned_aborted, *aborted)}
        return [by_marker[last_offset] for last_offset in sorted(by_marker)]

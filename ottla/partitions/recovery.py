"""From the files of a partition to its state, after a clean stop and after a crash alike.

The recovery point (`recovery-point-offset-checkpoint`, written about once a second and at a stop) says up to which
offset the log was durable. What lies below it is trusted: only its last batches are looked at. What lies above it is
validated batch by batch. The first invalid byte above it is a torn tail: cut off, and reported with the number of
bytes. An invalid byte below it is damage: `CorruptLog`, nothing is changed, and the partition stays offline.

What survives above the recovery point is written and synced once more: when the process died after a failed sync, the
kernel may hold pages as clean that never reached the disk.

The journal that a node's partitions share comes first: before any log is opened, `journal.SharedJournal.recover` has
written what it holds to its places. After a crash the indexes of the segments from the recovery point on are filled
anew, so these segments are read from their beginning.
"""

from dataclasses import dataclass, field

from ottla.core.errors import CorruptBatch, StorageError
from ottla.core.ports import File, Files
from ottla.partitions.checkpoints import LEADER_EPOCH_FILE, read_epochs
from ottla.partitions.config import LogConfig
from ottla.partitions.epoch_cache import EpochCache
from ottla.partitions.index import OffsetIndex, TimeIndex
from ottla.partitions.producer_snapshot import encode_aborted, load_latest_snapshot, read_aborted
from ottla.partitions.producer_state import AbortedTransaction, ProducerStates
from ottla.partitions.reading import damage
from ottla.partitions.segment import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    MAX_RELATIVE_OFFSET,
    SEGMENT_SUFFIXES,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
)
from ottla.partitions.segment_files import read_optional, walk_headers
from ottla.partitions.validation import read_end_marker
from ottla.records.header import HEADER_BYTES, BatchHeader, read_header, validate

_CHUNK_BYTES = 1 << 20


@dataclass(slots=True)
class RecoveredLog:
    """All that a partition starts from."""

    directory: str
    segments: list[Segment]
    log_start_offset: int
    epochs: list[tuple[int, int]] = field(default_factory=list)
    producers: ProducerStates = field(default_factory=ProducerStates)
    aborted: list[AbortedTransaction] = field(default_factory=list)
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
    clean: bool = False,
    gaps: bool = False,
) -> RecoveredLog:
    """Read the directory. A damaged log comes back with `error` set; nothing of it was changed.

    `gaps`: what lies past the recovery point may have been compacted (a truncation reads such segments again).
    `clean`: the last stop made everything durable; otherwise what is found here is made durable first.
    """
    try:
        return _Recovery(files, directory, config, recovery_point, log_start_offset, clean, gaps).run()
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
        clean: bool,
        gaps: bool,
    ) -> None:
        self.clean = clean
        self.gaps = gaps or (config.cleanup_compact and not recovery_point)
        self.files, self.directory, self.config = files, directory, config
        self.recovery_point, self.log_start_offset = recovery_point, log_start_offset
        self.names = files.list_directory(directory)
        self.scanned_epochs: list[tuple[int, int]] = []
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
        first = max(sum(segment.base_offset <= self.recovery_point for segment in segments) - 1, 0)
        for n in range(first):
            self._trust(segments[n], segments[n + 1].base_offset)
        kept = segments[:first]
        for n, segment in enumerate(segments[first:], first):
            cut = self._scan(segment)
            kept.append(segment)
            if cut or (n + 1 < len(segments) and self._has_hole(segment, segments[n + 1])):
                self._remove(segments[n + 1 :])
                break
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
        log = RecoveredLog(self.directory, kept, max(self.log_start_offset, kept[0].base_offset))
        log.truncated_bytes, log.truncated_at = self.truncated_bytes, self.truncated_at
        log.epochs = self._epochs(end_offset)
        log.aborted = self._aborted(kept, end_offset)
        self._producers(log, end_offset)
        return log

    def _has_hole(self, segment: Segment, following: Segment) -> bool:
        """Whether the unsynced end of a segment is lost though a later segment is there.

        Above the recovery point nothing was compacted yet, so a gap is a loss; without any recovery point (its file is
        gone) the gaps of a compacted log must not be taken for one.
        """
        if segment.next_offset == following.base_offset:
            return False
        if self.gaps and segment.next_offset < following.base_offset:
            segment.next_offset = following.base_offset
            return False
        return True

    def _find_segments(self) -> list[Segment]:
        segments = []
        for name in self.names:
            if name.endswith(LOG_SUFFIX) and name[: -len(LOG_SUFFIX)].isdecimal():
                segment = Segment(self.directory, int(name[: -len(LOG_SUFFIX)]), created=True)
                segment.size = segment.written = self.files.size(segment.path())
                segments.append(segment)
        segments.sort(key=lambda segment: segment.base_offset)
        return segments

    def _trust(self, segment: Segment, next_offset: int) -> None:
        """A sealed segment below the recovery point: its numbers come from its indexes."""
        segment.next_offset = next_offset
        segment.index = segment.time_index = None
        tail = TimeIndex(segment.base_offset, read_optional(self.files, segment.path(TIME_INDEX_SUFFIX)))
        if len(tail) and tail.usable():
            segment.max_timestamp, segment.max_timestamp_offset = tail.entry(len(tail) - 1)
        else:
            self._walk(segment, 0)

    def _walk(self, segment: Segment, position: int) -> None:
        file = self.files.open(segment.path())
        try:
            for _, header in walk_headers(file, segment.path(), position, segment.written):
                if header.max_timestamp > segment.max_timestamp:
                    segment.max_timestamp, segment.max_timestamp_offset = header.max_timestamp, header.last_offset
        finally:
            file.close()

    def _scan(self, segment: Segment) -> bool:
        """Validate from the recovery point on; whether the segment was cut."""
        path, file_size = segment.path(), segment.written
        index, time_index, start = self._usable_indexes(segment, file_size)
        segment.index, segment.time_index = index, time_index
        segment.size = start
        file = self.files.open(path)
        try:
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
        segment.index_flushed = segment.time_index_flushed = 0
        return bool(reason)

    def _usable_indexes(self, segment: Segment, file_size: int) -> tuple[OffsetIndex, TimeIndex, int]:
        """Indexes below the recovery point, and the position from which on both are to be filled again."""
        base = segment.base_offset
        index = OffsetIndex(base, read_optional(self.files, segment.path(INDEX_SUFFIX)))
        time_index = TimeIndex(base, read_optional(self.files, segment.path(TIME_INDEX_SUFFIX)))
        if not self.clean or not index.usable(file_size) or not time_index.usable():
            # After a crash they may speak of batches that a truncation has replaced since they were saved.
            return OffsetIndex(base), TimeIndex(base), 0
        index.truncate(self.recovery_point)
        if not len(index):
            return index, TimeIndex(base), 0
        offset, position = index.entry(len(index) - 1)
        time_index.truncate(offset)
        if len(time_index):
            segment.max_timestamp, segment.max_timestamp_offset = time_index.entry(len(time_index) - 1)
        file = self.files.open(segment.path())
        try:
            header = read_header(file.pread(HEADER_BYTES, position))
            segment.first_timestamp = read_header(file.pread(HEADER_BYTES, 0)).max_timestamp
        except CorruptBatch:
            header = None
        finally:
            file.close()
        if header is None or header.last_offset != offset:
            return OffsetIndex(base), TimeIndex(base), 0  # the index does not belong to this log
        index.truncate(offset)
        segment.next_offset = header.base_offset
        return index, time_index, position

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
                not self.gaps
                or header.base_offset < segment.next_offset
                or header.last_offset - segment.base_offset > MAX_RELATIVE_OFFSET
            ):  # the CRC does not cover the base offset
                return f"a batch with base offset {header.base_offset} where {segment.next_offset} was due"
            if not segment.size:
                segment.first_timestamp = header.max_timestamp
            self._note(header)
            segment.add(header.size_bytes, header.last_offset, header.max_timestamp, self.config.index_interval_bytes)
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

    def _note(self, header: BatchHeader) -> None:
        epoch = header.partition_leader_epoch
        if epoch >= 0 and (not self.scanned_epochs or self.scanned_epochs[-1][0] != epoch):
            self.scanned_epochs.append((epoch, header.base_offset))

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

    def _epochs(self, end_offset: int) -> list[tuple[int, int]]:
        cache = EpochCache(read_epochs(self.files, f"{self.directory}/{LEADER_EPOCH_FILE}"))
        cache.truncate_end(end_offset)
        for epoch, start in self.scanned_epochs:
            cache.assign(epoch, start)
        return cache.entries

    def _aborted(self, segments: list[Segment], end_offset: int) -> list[AbortedTransaction]:
        aborted: list[AbortedTransaction] = []
        for segment in segments:
            path = segment.path(TRANSACTION_INDEX_SUFFIX)
            entries = read_aborted(self.files, path)
            kept = [entry for entry in entries if entry.last_offset < end_offset]
            if len(kept) != len(entries):  # of a log end that is gone; other records may get these offsets
                self.files.write_atomically(path, encode_aborted(kept))
            aborted += kept
        return aborted

    def _producers(self, log: RecoveredLog, end_offset: int) -> None:
        """The latest snapshot, and the batches since."""
        producers = log.producers
        offset = load_latest_snapshot(self.files, self.directory, end_offset, producers)
        known = {(aborted.producer_id, aborted.last_offset) for aborted in log.aborted}
        for segment in log.segments:
            if segment.next_offset <= offset or not segment.size:
                continue
            position = segment.index.lookup(offset) if segment.index is not None else 0
            file = self.files.open(segment.path())
            try:
                for at, header in walk_headers(file, segment.path(), position, segment.written):
                    if header.producer_id < 0 or header.base_offset < offset:
                        continue
                    if not header.is_control:
                        producers.record(header, header.base_offset, header.max_timestamp)
                        continue
                    marker = read_end_marker(file.pread(header.size_bytes, at))
                    aborted = producers.record_marker(header, header.base_offset, header.max_timestamp, marker)
                    if aborted is not None and (aborted.producer_id, aborted.last_offset) not in known:
                        log.aborted.append(aborted)
            finally:
                file.close()
        producers.end_offset = end_offset

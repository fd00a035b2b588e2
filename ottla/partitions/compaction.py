"""Compaction: of each key only the last record stays (KIP-58, KIP-534). Runs in a worker process, on sealed segments.

Two passes over the part below the cleanable end. The first remembers the last offset of each key in the dirty part;
the second writes what survives into `.cleaned` files, and the loop puts these in the place of their group of segments
(`install`). Kept besides: records without a key never existed here; each producer's last batch, emptied if need be,
so that its sequence is known; tombstones and transaction markers until `delete.retention.ms` after they were first
seen by a compaction, as the delete horizon in their batch says. Records of aborted transactions go; a marker counts as
seen only once nothing of its transaction is left, for without it whoever reads the rest takes the transaction for open.

A batch keeps its base offset, last offset, producer and sequence, so offsets have gaps afterwards and never change.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import Final

from ottla.core.errors import CorruptBatch, CorruptContents
from ottla.core.ports import File, Files
from ottla.core.types import Buffer
from ottla.partitions.idle_producers import ROW
from ottla.partitions.producer_snapshot import encode_aborted
from ottla.partitions.producer_state import AbortedTransaction, ProducerSnapshot
from ottla.partitions.reading import DAMAGE_ADVICE
from ottla.partitions.segment import (
    CLEANED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
)
from ottla.partitions.segment_files import INDEX_INTERVAL_BYTES, walk_headers
from ottla.records.control import read_end_transaction_marker
from ottla.records.filtering import filter_batch
from ottla.records.header import BatchHeader, validate
from ottla.records.scan import Entry, scan_batch

_DIGEST_BYTES: Final = 16
_MAX_OFFSETS_PER_SEGMENT: Final = 2**31 - 1
MAX_KEYS: Final = 1_000_000  # about 120 MB in the worker; what is beyond waits for the next round


@dataclass(frozen=True, slots=True)
class SealedSegment:
    """A segment as the worker needs it."""

    directory: str
    base_offset: int
    next_offset: int
    size_bytes: int

    def path(self, suffix: str = LOG_SUFFIX) -> str:
        return Segment(self.directory, self.base_offset).path(suffix)


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What to compact, and by which rules; decided on the loop, carried to the worker."""

    segments: tuple[SealedSegment, ...]  # from the log start to the cleanable end
    dirty_offset: int  # below it, keys are unique already
    segment_bytes: int
    now_ms: int
    delete_retention_ms: int
    aborted: tuple[AbortedTransaction, ...]  # by last offset
    producers: ProducerSnapshot  # whose last batches stay
    max_bytes_per_second: float = 0.0  # 0: without limit


@dataclass(slots=True)
class CleanedGroup:
    """`sources` become one segment under the base offset of the first."""

    sources: tuple[int, ...]  # base offsets
    size_bytes: int
    next_offset: int
    aborted: list[AbortedTransaction] = field(default_factory=list)  # that end in it, and of which something was left
    max_timestamp: int = -1
    max_timestamp_offset: int = -1


@dataclass(slots=True)
class CompactionResult:
    """Groups in order; `cleaned_to` is where the next round's dirty part begins."""

    groups: list[CleanedGroup] = field(default_factory=list)
    cleaned_to: int = 0


def compact(files: Files, plan: CompactionPlan, pause: Callable[[float], None] = lambda _: None) -> CompactionResult:
    """Write the `.cleaned` files; durable when it returns. CorruptLog when a segment is damaged."""
    throttle = _Throttle(plan.max_bytes_per_second, pause)
    offsets, cleaned_to = _last_offsets(files, plan, throttle)
    result = CompactionResult(cleaned_to=cleaned_to)
    sources = [segment for segment in plan.segments if segment.base_offset < cleaned_to]
    cleaner = _Cleaner(files, plan, offsets, throttle)
    for group in _groups(sources, plan.segment_bytes):
        result.groups.append(cleaner.clean(group))
    if sources:
        files.sync_directory(sources[0].directory)
    return result


def _last_offsets(files: Files, plan: CompactionPlan, throttle: "_Throttle") -> tuple[dict[bytes, int], int]:
    """Digest of each key of the dirty part → its last offset; and how far that reaches."""
    offsets: dict[bytes, int] = {}
    aborted = _Aborted(plan.aborted)
    cleaned_to = plan.dirty_offset
    for segment in plan.segments:
        if segment.next_offset <= plan.dirty_offset:
            continue
        if len(offsets) >= MAX_KEYS:
            break
        for header, batch in _batches(files, segment, throttle):
            if header.is_control or header.last_offset < plan.dirty_offset:
                continue
            if aborted.find(header) is not None:
                continue
            for entry in scan_batch(batch, check_crc=False):
                if entry.key is not None:
                    offsets[_digest(entry.key)] = entry.offset
        cleaned_to = segment.next_offset
    return offsets, cleaned_to


def _groups(segments: Sequence[SealedSegment], segment_bytes: int) -> list[list[SealedSegment]]:
    groups: list[list[SealedSegment]] = []
    size = 0
    for segment in segments:
        if (
            not groups
            or size + segment.size_bytes > segment_bytes
            or segment.next_offset - groups[-1][0].base_offset > _MAX_OFFSETS_PER_SEGMENT
        ):
            groups.append([])
            size = 0
        groups[-1].append(segment)
        size += segment.size_bytes
    return groups


class _Cleaner:
    """The second pass, group by group."""

    def __init__(self, files: Files, plan: CompactionPlan, offsets: dict[bytes, int], throttle: "_Throttle") -> None:
        self.files, self.plan, self.offsets, self.throttle = files, plan, offsets, throttle
        self.last_batches, self.last_epochs = _last_of_producers(plan)
        self.aborted = _Aborted(plan.aborted)
        self.with_batches: set[int] = set()  # producers of whose transaction under way a batch was seen

    def clean(self, group: list[SealedSegment]) -> CleanedGroup:
        cleaned = CleanedGroup(tuple(segment.base_offset for segment in group), 0, group[-1].next_offset)
        self.scratch = Segment(group[0].directory, group[0].base_offset)  # collects the indexes
        path = group[0].path(LOG_SUFFIX + CLEANED_SUFFIX)
        output = self.files.open(path, create=True)
        try:
            output.truncate(0)
            for segment in group:
                for header, batch in _batches(self.files, segment, self.throttle):
                    kept = self._clean_batch(header, batch)
                    if kept is not None:
                        self._write(output, kept, cleaned)
            output.sync()
        finally:
            output.close()
        self.scratch.seal()
        assert self.scratch.index is not None
        assert self.scratch.time_index is not None
        cleaned.aborted = self.aborted.seen_until(cleaned.next_offset)
        for suffix, data in (
            (INDEX_SUFFIX, self.scratch.index.data),
            (TIME_INDEX_SUFFIX, self.scratch.time_index.data),
            (TRANSACTION_INDEX_SUFFIX, encode_aborted(cleaned.aborted)),
        ):
            self.files.write_atomically(group[0].path(suffix + CLEANED_SUFFIX), bytes(data))
        return cleaned

    def _write(self, output: File, batch: Buffer, cleaned: CleanedGroup) -> None:
        header = validate(batch)
        output.pwritev([batch], cleaned.size_bytes)
        cleaned.size_bytes += len(batch)
        self.scratch.add(len(batch), header.last_offset, header.max_timestamp, INDEX_INTERVAL_BYTES)
        if header.max_timestamp > cleaned.max_timestamp:
            cleaned.max_timestamp, cleaned.max_timestamp_offset = header.max_timestamp, header.last_offset

    def _clean_batch(self, header: BatchHeader, batch: bytes) -> Buffer | None:
        plan = self.plan
        if header.is_control:
            return self._clean_marker(header, batch)
        horizon = header.delete_horizon_ms
        expired = horizon is not None and plan.now_ms >= horizon
        aborted = self.aborted.see(header)
        if header.is_transactional:
            self.with_batches.add(header.producer_id)

        def keep(entry: Entry) -> bool:
            if aborted or entry.key is None or (expired and not entry.has_value):
                return False
            return self.offsets.get(_digest(entry.key), -1) <= entry.offset

        return filter_batch(
            batch,
            keep=keep,
            new_delete_horizon_ms=plan.now_ms + plan.delete_retention_ms,
            retain_empty=header.producer_id >= 0 and header.last_offset in self.last_batches,
        )

    def _clean_marker(self, header: BatchHeader, batch: bytes) -> Buffer | None:
        """A marker stays while a batch of its transaction does, and for a while after."""
        is_last = (header.producer_id, header.producer_epoch) in self.last_epochs
        if not header.record_count:
            return batch if is_last else None
        read_end_transaction_marker(batch)  # a marker of an unknown kind is not ours to touch
        if header.producer_id in self.with_batches:
            self.with_batches.discard(header.producer_id)
            return batch
        horizon = header.delete_horizon_ms
        expired = horizon is not None and self.plan.now_ms >= horizon
        return filter_batch(
            batch,
            keep=lambda _: is_last or not expired,
            new_delete_horizon_ms=self.plan.now_ms + self.plan.delete_retention_ms,
            is_empty_transaction_marker=True,
        )


class _Aborted:
    """Which batches belong to aborted transactions; and of which transactions there were any."""

    def __init__(self, entries: Sequence[AbortedTransaction]) -> None:
        self._by_producer: dict[int, list[AbortedTransaction]] = {}
        for entry in entries:
            self._by_producer.setdefault(entry.producer_id, []).append(entry)
        self._seen: dict[int, AbortedTransaction] = {}  # by the offset of the marker

    def find(self, header: BatchHeader) -> AbortedTransaction | None:
        if not header.is_transactional:
            return None
        entries = self._by_producer.get(header.producer_id, ())
        place = bisect_left(entries, header.base_offset, key=attrgetter("last_offset"))
        if place == len(entries) or header.base_offset < entries[place].first_offset:
            return None
        return entries[place]

    def see(self, header: BatchHeader) -> bool:
        """As `find`, and remembers it."""
        found = self.find(header)
        if found is not None:
            self._seen[found.last_offset] = found
        return found is not None

    def seen_until(self, offset: int) -> list[AbortedTransaction]:
        """The transactions whose marker is before `offset`, once."""
        return [self._seen.pop(last_offset) for last_offset in sorted(self._seen) if last_offset < offset]


def _last_of_producers(plan: CompactionPlan) -> tuple[set[int], set[tuple[int, int]]]:
    """Last offsets of producers' last batches; (producer id, epoch) of those that are known by a marker only."""
    batches, epochs = set(), set()
    end = plan.segments[-1].next_offset
    for chunk in plan.producers.rows:
        for producer_id, epoch, _, last_offset, *_ in ROW.iter_unpack(chunk):
            if last_offset < 0:
                epochs.add((producer_id, epoch))
            elif last_offset < end:
                batches.add(last_offset)
    return batches, epochs


def _batches(files: Files, segment: SealedSegment, throttle: "_Throttle") -> Iterator[tuple[BatchHeader, bytes]]:
    file = files.open(segment.path())
    try:
        for position, header in walk_headers(file, segment.path(), 0, segment.size_bytes):
            batch = file.pread(header.size_bytes, position)
            try:
                validate(batch)
            except CorruptBatch as error:
                raise CorruptContents(segment.path(), position, str(error), DAMAGE_ADVICE) from error
            throttle.used(len(batch))
            yield header, batch
    finally:
        file.close()


def _digest(key: bytes) -> bytes:
    """Keys up to 16 bytes stand for themselves; longer ones by 128 bits of a cryptographic digest."""
    return key if len(key) < _DIGEST_BYTES else blake2b(key, digest_size=_DIGEST_BYTES).digest()


class _Throttle:
    """Sleep so that not more than so many bytes a second are read."""

    def __init__(self, bytes_per_second: float, pause: Callable[[float], None]) -> None:
        self._rate, self._pause, self._owed = bytes_per_second, pause, 0

    def used(self, size_bytes: int) -> None:
        if not self._rate:
            return
        self._owed += size_bytes
        if self._owed > self._rate / 10:
            self._pause(self._owed / self._rate)
            self._owed = 0

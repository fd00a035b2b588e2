"""Compaction: of each key only the last record stays (KIP-58, KIP-534). Runs in a worker process, on sealed segments.

Two passes over the part below the cleanable end. The first remembers the last offset of each key in the dirty part;
the second writes what survives into `.cleaned` files, and the loop puts these in the place of their group of segments
(`install`). Kept besides: records without a key never existed here; each producer's last batch, emptied if need be,
so that its sequence is known; tombstones and transaction markers until `delete.retention.ms` after they were first
seen by a compaction, as the delete horizon in their batch says. Records of aborted transactions go.

A batch keeps its base offset, last offset, producer and sequence, so offsets have gaps afterwards and never change.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from ottla.core.ports import File, Files
from ottla.core.types import Buffer
from ottla.partitions.segment import CLEANED_SUFFIX, INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX, Segment
from ottla.partitions.segment_files import INDEX_INTERVAL_BYTES, walk_headers
from ottla.records.control import read_end_transaction_marker
from ottla.records.filtering import filter_batch
from ottla.records.header import BatchHeader, validate
from ottla.records.scan import Entry, scan_batch

_DIGEST_BYTES = 16
_MAX_OFFSETS_PER_SEGMENT = 2**31 - 1
MAX_KEYS = 1_000_000  # about 120 MB in the worker; what is beyond waits for the next round


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
    aborted: tuple[tuple[int, int, int], ...]  # (producer id, first offset, last offset)
    last_sequence_offsets: frozenset[int]  # last offsets of live producers' last batches
    max_bytes_per_second: float = 0.0  # 0: without limit


@dataclass(slots=True)
class CleanedGroup:
    """`sources` become one segment under the base offset of the first."""

    sources: tuple[int, ...]  # base offsets
    size_bytes: int
    next_offset: int
    max_timestamp: int = -1
    max_timestamp_offset: int = -1


@dataclass(slots=True)
class CompactionResult:
    """Groups in order; `cleaned_to` is where the next round's dirty part begins."""

    groups: list[CleanedGroup] = field(default_factory=list)
    cleaned_to: int = 0


def compact(files: Files, plan: CompactionPlan, pause: Callable[[float], None] = lambda _: None) -> CompactionResult:
    """Write the `.cleaned` files; durable when it returns. CorruptLog or CorruptBatch when a segment is damaged."""
    throttle = _Throttle(plan.max_bytes_per_second, pause)
    offsets, cleaned_to = _last_offsets(files, plan, throttle)
    result = CompactionResult(cleaned_to=cleaned_to)
    sources = [segment for segment in plan.segments if segment.base_offset < cleaned_to]
    for group in _groups(sources, plan.segment_bytes):
        result.groups.append(_Cleaner(files, plan, offsets, throttle, cleaned_to).clean(group))
    if sources:
        files.sync_directory(sources[0].directory)
    return result


def _last_offsets(files: Files, plan: CompactionPlan, throttle: "_Throttle") -> tuple[dict[bytes, int], int]:
    """Digest of each key of the dirty part → its last offset; and how far that reaches."""
    offsets: dict[bytes, int] = {}
    cleaned_to = plan.dirty_offset
    for segment in plan.segments:
        if segment.next_offset <= plan.dirty_offset:
            continue
        if len(offsets) >= MAX_KEYS:
            break
        for header, batch in _batches(files, segment, throttle):
            if header.is_control or header.last_offset < plan.dirty_offset:
                continue
            if _is_aborted(plan, header):
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
    """The second pass, over one group."""

    def __init__(
        self, files: Files, plan: CompactionPlan, offsets: dict[bytes, int], throttle: "_Throttle", cleaned_to: int
    ) -> None:
        self.files, self.plan, self.offsets, self.throttle = files, plan, offsets, throttle
        self.cleaned_to = cleaned_to

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
        for suffix, data in (
            (INDEX_SUFFIX, self.scratch.index.data),
            (TIME_INDEX_SUFFIX, self.scratch.time_index.data),
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
        horizon = header.delete_horizon_ms
        expired = horizon is not None and plan.now_ms >= horizon
        last_of_producer = header.last_offset in plan.last_sequence_offsets
        aborted = _is_aborted(plan, header)

        def keep(entry: Entry) -> bool:
            if header.is_control:
                return last_of_producer or not expired
            if aborted or entry.key is None or (expired and not entry.has_value):
                return False
            return self.offsets.get(_digest(entry.key), -1) <= entry.offset

        if header.is_control:
            read_end_transaction_marker(batch)  # a marker of an unknown kind is not ours to touch
        return filter_batch(
            batch,
            keep=keep,
            new_delete_horizon_ms=plan.now_ms + plan.delete_retention_ms,
            is_empty_transaction_marker=header.is_control,
            retain_empty=last_of_producer,
        )


def _batches(files: Files, segment: SealedSegment, throttle: "_Throttle") -> Iterator[tuple[BatchHeader, bytes]]:
    file = files.open(segment.path())
    try:
        for position, header in walk_headers(file, segment.path(), 0, segment.size_bytes):
            batch = file.pread(header.size_bytes, position)
            validate(batch)
            throttle.used(len(batch))
            yield header, batch
    finally:
        file.close()


def _is_aborted(plan: CompactionPlan, header: BatchHeader) -> bool:
    return header.is_transactional and any(
        producer_id == header.producer_id and first <= header.base_offset <= last
        for producer_id, first, last in plan.aborted
    )


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

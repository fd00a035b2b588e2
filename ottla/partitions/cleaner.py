"""When to compact which partition, and putting the result in place; the work itself is `compaction`.

One partition at a time, the dirtiest first, as Kafka's cleaner does. The files of a group are replaced in an order in
which any crash leaves a log that is right, if perhaps not compacted: first the new first segment takes the name of the
old one, then the others go, oldest first, each removal durable before the next.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from ottla.core.errors import CorruptContents
from ottla.core.ports import Files
from ottla.partitions.compaction import CleanedGroup, CompactionPlan, CompactionResult, SealedSegment, compact
from ottla.partitions.environment import Environment
from ottla.partitions.journal import JournalFailed
from ottla.partitions.partition import Partition
from ottla.partitions.segment import (
    CLEANED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
)
from ottla.partitions.upkeep import remove_segments

logger: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Candidate:
    partition: Partition
    segments: tuple[SealedSegment, ...]
    dirty_ratio: float


class Cleaner:
    """Owns the compaction of one node."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.busy = False

    def run(self, partitions: Iterable[Partition], max_bytes_per_second: float) -> None:
        """Begin with the dirtiest partition that wants it; nothing happens while another is being compacted."""
        worker = self._environment.worker
        journal = self._environment.journal
        if self.busy or worker is None or (journal is not None and journal.failed):
            return
        now_ms = self._environment.clock.time_ms()
        candidates = [found for partition in partitions if (found := _candidate(partition, now_ms)) is not None]
        if not candidates:
            return
        best = max(candidates, key=lambda candidate: candidate.dirty_ratio)
        partition = best.partition
        plan = CompactionPlan(
            segments=best.segments,
            dirty_offset=max(partition.cleaned_to, best.segments[0].base_offset),
            segment_bytes=partition.config.segment_bytes,
            now_ms=now_ms,
            delete_retention_ms=partition.config.delete_retention_ms,
            aborted=tuple(partition.aborted),
            producers=partition.producers.snapshot(),
            max_bytes_per_second=max_bytes_per_second,
        )
        self.busy = partition.compacting = True
        generation = partition.log.generation
        worker.submit(compact, (plan,), lambda result, error: self._compacted(partition, generation, result, error))

    def _compacted(
        self, partition: Partition, generation: int, result: CompactionResult | None, error: Exception | None
    ) -> None:
        log = partition.log
        if error is not None or result is None:
            self._end(partition)
            if partition.error is None and log.generation == generation:
                logger.error("compaction failed", partition=partition.name, error=str(error))
                partition.compaction_failed_at = log.active.base_offset  # do not try the same again at once
                if isinstance(error, CorruptContents):
                    partition.damaged(error)
            return
        if partition.error is not None or log.generation != generation:
            self._end(partition)
            return
        files = self._environment.disk.files
        log.hold_reads()

        def installed(_: None, failure: Exception | None) -> None:
            self._end(partition)
            if isinstance(failure, JournalFailed):
                logger.warning("not compacted", partition=partition.name, error=str(failure))  # the log is as it was
            elif failure is not None:
                log.fail(failure)
            else:
                for group in result.groups:
                    log.replace(group.sources, _segment(log.directory, group))
                partition.cleaned_to = result.cleaned_to
                _forget_aborted(partition, result)
            log.release_reads()

        log.replacing(lambda: install(files, log.directory, result.groups), installed)

    def _end(self, partition: Partition) -> None:
        self.busy = partition.compacting = False


def _forget_aborted(partition: Partition, result: CompactionResult) -> None:
    """Nothing is left of some aborted transactions. Their markers will go, too, and who is told of a transaction but
    finds no marker would leave out what the producer wrote later.
    """
    if result.groups:
        end = result.groups[-1].next_offset
        left = [entry for group in result.groups for entry in group.aborted]
        partition.aborted = left + [entry for entry in partition.aborted if entry.last_offset >= end]
        partition.log.tail.leave_to_files(end)  # it holds their batches still


def install(files: Files, directory: str, groups: list[CleanedGroup]) -> None:
    """Replace the files of each group. See the module for the order."""
    for group in groups:
        first = Segment(directory, group.sources[0])
        for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX):  # they name positions of the old file
            if files.exists(first.path(suffix)):
                files.remove(first.path(suffix))
        files.sync_directory(directory)
        # The transaction index goes first: it must not name a transaction whose marker is gone already.
        for suffix in (TRANSACTION_INDEX_SUFFIX, LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX):
            files.rename(first.path(suffix + CLEANED_SUFFIX), first.path(suffix))
            files.sync_directory(directory)
        for base_offset in group.sources[1:]:
            remove_segments(files, directory, [Segment(directory, base_offset)])


def _segment(directory: str, group: CleanedGroup) -> Segment:
    segment = Segment(directory, group.sources[0], created=True)
    segment.size = segment.written = group.size_bytes
    segment.next_offset = group.next_offset
    segment.index = segment.time_index = None
    segment.max_timestamp, segment.max_timestamp_offset = group.max_timestamp, group.max_timestamp_offset
    return segment


def _candidate(partition: Partition, now_ms: int) -> _Candidate | None:
    config, log = partition.config, partition.log
    if not config.cleanup_compact or partition.error is not None or partition.compacting or log.held is not None:
        return None
    active = log.active
    if active.size and active.first_timestamp >= 0 and now_ms - active.first_timestamp > config.max_compaction_lag_ms:
        log.roll()
    if log.active.base_offset == partition.compaction_failed_at:
        return None
    # What only the journal holds yet counts as durable, but the worker would not see it.
    end = min(partition.last_stable_offset, partition.recovery_point, log.written_end_offset)
    sealed = []
    for segment in log.segments[:-1]:
        young = segment.max_timestamp > now_ms - config.min_compaction_lag_ms
        if segment.next_offset > end or segment in partition.unsaved or (config.min_compaction_lag_ms and young):
            break
        sealed.append(segment)
    dirty = [segment for segment in sealed if segment.next_offset > partition.cleaned_to]
    total = sum(segment.size for segment in sealed)
    if not dirty or not total:
        return None
    ratio = sum(segment.size for segment in dirty) / total
    overdue = now_ms - dirty[0].max_timestamp > config.max_compaction_lag_ms
    if ratio < config.min_cleanable_dirty_ratio and not overdue:
        return None
    sources = tuple(
        SealedSegment(log.directory, segment.base_offset, segment.next_offset, segment.written) for segment in sealed
    )
    return _Candidate(partition, sources, ratio)

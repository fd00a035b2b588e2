"""What a partition does beside appending and reading: saving sidecars, forgetting old segments, truncating.

Each is a decision on the loop, a job off the loop, and a change of state on the loop when the job is done.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.ports import File, Files
from ottla.partitions.checkpoints import encode_epochs
from ottla.partitions.log_reader import floor
from ottla.partitions.producer_snapshot import encode_aborted
from ottla.partitions.reading import locate
from ottla.partitions.recovery import RecoveredLog, empty_log, recover
from ottla.partitions.retention import expired
from ottla.partitions.segment import SEGMENT_SUFFIXES, Segment
from ottla.partitions.sidecars import SidecarJob
from ottla.partitions.write_job import open_or_create

if TYPE_CHECKING:
    from ottla.partitions.config import LogConfig
    from ottla.partitions.partition import Partition


def prepare_sidecars(partition: "Partition", *, final: bool = False) -> SidecarJob | None:
    """What is to be written beside the log now; None when there is nothing. `final`: the node stops."""
    log = partition.log
    active, environment = log.active, partition.environment
    if partition.error is not None or not (active.created or log.segments[0].created):
        return None
    if partition.recovery_limit is not None:  # a truncation is about to change all of it
        return None
    grown = active.size - partition.saved_size
    save_active = active.created and grown >= (
        environment.save_at_stop_bytes
        if final
        else max(environment.save_every_bytes, partition.producers.size_bytes)  # which are written each time
    )
    if not (save_active or partition.unsaved or partition.snapshots or partition.aborted_changed):
        return None
    job = SidecarJob(environment.disk.files, log.directory)
    durable = log.durable_end_offset
    job.kept_snapshots = {segment.base_offset for segment in log.segments}
    for segment in [segment for segment in partition.unsaved if segment.next_offset <= durable]:
        job.add_index(segment)
        partition.unsaved.remove(segment)
    job.snapshots = [snapshot for snapshot in partition.snapshots if snapshot[0] <= durable]
    partition.snapshots = [snapshot for snapshot in partition.snapshots if snapshot[0] > durable]
    if save_active:
        job.add_index(active)
        job.snapshots.append((log.log_end_offset, partition.producers.snapshot()))
        partition.saved_size = active.size
    if partition.aborted_changed and not partition.compacting:  # which is about to write these files itself
        partition.aborted_changed = False
        for segment in log.segments:
            entries = [
                entry
                for entry in partition.aborted
                if segment.base_offset <= entry.last_offset < min(segment.next_offset, durable)
            ]
            if entries:
                job.add_transactions(segment, encode_aborted(entries))
            partition.aborted_changed |= any(entry.last_offset >= durable for entry in partition.aborted)
    if job.snapshots and partition.epochs_changed:  # above the latest snapshot, a start learns them from the batches
        partition.epochs_changed = False
        job.epochs = encode_epochs(partition.epochs.entries)
    return job if job.indexes or job.snapshots or job.transaction_indexes else None


def expire(partition: "Partition", *, by_retention: bool = True) -> None:
    """Forget segments that retention or a deletion of records has freed; `by_retention=False`: only the latter."""
    log = partition.log
    if partition.error is not None or partition.compacting:
        return
    count = expired(
        log.segments,
        partition.config if by_retention else None,
        log_start_offset=partition.log_start_offset,
        high_watermark=min(partition.high_watermark, log.durable_end_offset),
        now_ms=partition.environment.clock.time_ms(),
    )
    if not count:
        return
    if count == len(log.segments):
        log.roll()
    active = log.active
    removed = log.forget_oldest(count)
    partition.unsaved = [segment for segment in partition.unsaved if segment not in removed]
    partition.move_log_start(log.segments[0].base_offset)
    environment = partition.environment

    def remove() -> File | None:
        # A log without a file would begin at 0 again: the successor is there before the last file goes.
        file = None if active.created else open_or_create(environment.disk, active, partition.topic_id)
        remove_segments(environment.disk.files, log.directory, removed)
        return file

    def finished(file: File | None, error: Exception | None) -> None:
        if file is not None:
            active.created = True
            environment.open_files.adopt(active, file)
        if error is not None:
            log.fail(error)

    def start_is_known(error: Exception | None) -> None:
        if error is None:
            log.exclusive(remove, finished)
        else:
            log.fail(error)

    environment.checkpoint(start_is_known)


def remove_segments(files: Files, directory: str, segments: list[Segment]) -> None:
    """Remove all files of these segments; durable when it returns."""
    for segment in segments:
        for suffix in SEGMENT_SUFFIXES:
            if files.exists(segment.path(suffix)):
                files.remove(segment.path(suffix))
    files.sync_directory(directory)


def delete_records(partition: "Partition", offset: int, done: Callable[[int | ApiError], None]) -> None:
    """Move the log start to `offset` (-1: the high watermark); `done(log start)` once that is durable."""
    if offset == -1:
        offset = partition.high_watermark
    if not 0 <= offset <= partition.high_watermark:
        done(ApiError(ErrorCode.OFFSET_OUT_OF_RANGE, f"{partition.name} has records up to {partition.high_watermark}"))
        return
    partition.move_log_start(offset)

    def saved(error: Exception | None) -> None:
        error = error or partition.error  # a checkpoint passes over a partition that failed
        if error is not None:
            done(ApiError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)))
        else:
            done(partition.log_start_offset)

    partition.environment.checkpoint(saved)
    expire(partition, by_retention=False)  # who deletes some records does not ask for more to go now


def truncate(partition: "Partition", offset: int, done: Callable[[Exception | None], None]) -> None:
    """Cut the log at `offset`: what a follower does where it diverged. Nothing may be appended until `done`.

    State is made anew from the shorter log, as at a start: producers, epochs and indexes rewind with it.
    """
    log = partition.log
    environment = partition.environment
    if offset >= log.log_end_offset:
        done(None)
        return
    partition.recovery_limit = offset

    def cut() -> RecoveredLog:
        for segment in log.dirty:  # the shorter log counts as durable
            file = environment.disk.files.open(segment.path())
            try:
                file.sync()
            finally:
                file.close()
        now_ms = environment.clock.time_ms()
        return _cut(environment.disk.files, log.segments, offset, partition.config, partition.log_start_offset, now_ms)

    def finished(recovered: RecoveredLog | None, error: Exception | None) -> None:
        partition.recovery_limit = None
        if recovered is not None:
            error = recovered.error
            partition.cleaned_to = min(partition.cleaned_to, offset)
        if recovered is None or error is not None:
            assert error is not None
            log.fail(error)
        else:
            log.abandon()
            partition.restart(recovered)
        done(error)

    def limit_is_known(error: Exception | None) -> None:
        if error is None:
            log.replacing(cut, finished)
        else:
            finished(None, error)

    environment.checkpoint(limit_is_known)


def _cut(
    files: Files, segments: list[Segment], offset: int, config: "LogConfig", log_start_offset: int, now_ms: int
) -> RecoveredLog:
    directory = segments[0].directory
    if not segments[0].created and not segments[-1].created:
        return empty_log(directory, offset)
    place = floor(segments, offset)
    last = segments[place]
    removed = [segment for segment in segments[place + 1 :] if segment.created]
    if offset < last.base_offset:  # before all that there is
        removed.insert(0, last)
        last = Segment(directory, offset)
    file = files.open(last.path(), create=True)
    try:
        position = locate(file.pread, last.path(), 0, file.size(), offset, last.base_offset)
        assert position is not None
        file.truncate(position)
        file.sync()
    finally:
        file.close()
    files.sync_directory(directory)
    remove_segments(files, directory, removed)
    return recover(
        files,
        directory,
        config,
        recovery_point=last.base_offset,
        log_start_offset=min(log_start_offset, offset),
        now_ms=now_ms,
        gaps=True,
    )


def close(partition: "Partition", done: Callable[[], None]) -> None:
    """Write and sync what is queued, then call `done`."""
    partition.is_leader = partition.is_aside = False
    log = partition.log

    def settled(_: object, __: Exception | None) -> None:
        log.flush()
        log.exclusive(lambda: None, lambda _, __: done())

    if partition.error is not None or (log.idle and not log.dirty):
        done()
    else:
        log.exclusive(lambda: None, settled)

"""Begins a partition's log anew at a later offset: its leader has nothing any more that follows the last record."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.core.ports import File, Files
from ottla.partitions.checkpoints import LEADER_EPOCH_FILE
from ottla.partitions.recovery import empty_log
from ottla.partitions.segment import LOG_SUFFIX, SEGMENT_SUFFIXES
from ottla.partitions.write_job import open_or_create

if TYPE_CHECKING:
    from ottla.partitions.partition import Partition


def start_anew(partition: "Partition", offset: int, done: Callable[[Exception | None], None]) -> None:
    """Forget every record; `offset` is log start and log end when `done(None)` comes, before which nothing is appended.

    The new log start is durable before the first file goes: a crash in between finds a log that ends before its start,
    and recovery takes that for this very thing. A file of the new log is there at the end, though it is empty: a
    replica without any would begin at 0 after a restart, and might have been counted as one that ends at `offset`.
    """
    log, environment = partition.log, partition.environment
    partition.recovery_limit = 0  # whatever is left of the old records after a crash is not damaged, it is gone
    partition.move_log_start(offset)

    begun = empty_log(log.directory, offset)
    [segment] = begun.segments

    def remove() -> File:
        _remove_files(environment.disk.files, log.directory)
        return open_or_create(environment.disk, segment, partition.topic_id)

    def removed(file: File | None, error: Exception | None) -> None:
        partition.recovery_limit = None
        if error is not None:
            log.fail(error)
        else:
            assert file is not None
            partition.cleaned_to = 0
            log.abandon()
            segment.created = True
            environment.open_files.adopt(segment, file)
            partition.restart(begun)
            partition.start_replicated(offset)
            partition.epochs_changed = True
        done(error)

    def start_is_known(error: Exception | None) -> None:
        if error is None:
            log.replacing(remove, removed)
        else:
            removed(None, error)

    environment.checkpoint(start_is_known)


def _remove_files(files: Files, directory: str) -> None:
    if not files.exists(directory):
        return
    names = files.list_directory(directory)
    # Logs last, the oldest one at the very end: whatever a crash leaves ends before the new start.
    logs = sorted((name for name in names if name.endswith(LOG_SUFFIX)), reverse=True)
    others = [n for n in names if n == LEADER_EPOCH_FILE or (n.endswith(SEGMENT_SUFFIXES) and n not in logs)]
    for name in (*others, *logs):
        files.remove(f"{directory}/{name}")
    files.sync_directory(directory)

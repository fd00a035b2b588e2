"""What a partition reads from its files: batches that its tail in memory has no more, and offsets by time.

At once when handles, index and bytes are at hand, else in a job; what was found while segments were replaced or
shortened is looked for again. Everything but the jobs happens on the loop.
"""

from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, DecodeError
from ottla.partitions.log_reader import ColdRead, Found, Wanted, floor, read_segments
from ottla.partitions.results import Isolation, ReadResult, State, TimestampOffset
from ottla.partitions.segment import Segment
from ottla.partitions.tail import joined

if TYPE_CHECKING:
    from ottla.partitions.readable import ReadablePartition

ReadDone = Callable[[ReadResult | ApiError], None]
Find = Callable[[list[Segment], int, int], TimestampOffset]
"""In these segments, between these offsets; may block."""

_CURSORS: Final = 32
_LAST_OFFSET = attrgetter("last_offset")


def read_batches(
    partition: "ReadablePartition", wanted: Wanted, isolation: Isolation, done: ReadDone
) -> ReadResult | None:
    """What is at hand; or None, and `done(result or error)` follows. ApiError when the files are damaged."""
    log = partition.log
    log.reread = True  # whoever is behind once reads on
    segments = log.segments[floor(log.segments, wanted.offset) :]
    cursor = log.cursors.get(wanted.offset)
    try:
        found = read_segments(segments, wanted, cursor, log.at_hand)
    except Exception as error:
        raise partition.damaged(error) from error
    if found is not None and not _is_cut_short(found, wanted):
        return _result(partition, found, wanted, isolation)
    if log.held is not None:
        log.held.append(lambda: _read_again(partition, wanted, isolation, done))
        return None
    generation = log.generation
    job = ColdRead(partition.environment.disk, segments, wanted, cursor)

    def finished(found: Found | None, error: Exception | None) -> None:
        if log.generation != generation:  # segments were replaced meanwhile: what the job saw may be the wrong file
            _read_again(partition, wanted, isolation, done)
            return
        for segment, (file, index) in job.opened.items():
            log.adopt(segment, file, index)
        if found is not None:
            done(_result(partition, found, wanted, isolation))
        else:
            assert error is not None
            done(partition.damaged(error))

    partition.environment.disk.submit(job, finished)
    return None


def _is_cut_short(found: Found, wanted: Wanted) -> bool:
    """Whether the page cache had less than half of it: the rest would cost a reader far away another round trip."""
    size = len(found.buffer)
    return (
        0 < size < wanted.max_bytes // 2
        and found.next_position < found.segment.written
        and found.next_offset < wanted.end_offset
    )


def _read_again(partition: "ReadablePartition", wanted: Wanted, isolation: Isolation, done: ReadDone) -> None:
    try:
        result = partition.read(
            wanted.offset, wanted.max_bytes, isolation=isolation, minimum_one_batch=wanted.minimum_one, done=done
        )
    except ApiError as error:
        done(error)
    else:
        if result is not None:
            done(result)


def _result(partition: "ReadablePartition", found: Found, wanted: Wanted, isolation: Isolation) -> ReadResult:
    size = len(found.buffer)
    result = partition.result([found.buffer] if size else [], size)
    end = result.next_offset = found.next_offset
    if end >= 0:
        log = partition.log
        cursors = log.cursors
        cursors[end] = found.segment, found.next_position
        if len(cursors) > _CURSORS:
            del cursors[next(iter(cursors))]
        if log.tail.base_offset <= end < wanted.end_offset:  # the files may lack the rest
            views, more = log.tail.read(end, wanted.end_offset, wanted.max_bytes - size, minimum_one=False)
            if views:
                result.buffers += joined(views)
                result.size += more
                result.next_offset, end = -1, wanted.end_offset
        if partition.aborted and isolation == Isolation.READ_COMMITTED:
            result.aborted = aborted_between(partition, wanted.offset, end)
    return result


def aborted_between(partition: "ReadablePartition", offset: int, end_offset: int) -> list[tuple[int, int]]:
    """(producer id, first offset) of the transactions aborted there.

    Entries are in the order of their markers, and none after one begins before its last stable offset.
    """
    entries = partition.aborted
    found = []
    for n in range(bisect_left(entries, offset, key=_LAST_OFFSET), len(entries)):
        entry = entries[n]
        if entry.first_offset < end_offset:
            found.append((entry.producer_id, entry.first_offset))
        if entry.last_stable_offset >= end_offset:
            break
    return found


def look_up(
    partition: "ReadablePartition", find: Find, isolation: Isolation, done: Callable[[TimestampOffset | ApiError], None]
) -> None:
    """Have `find` look through the files for an offset, once they hold all that a reader may see."""
    if partition.state is not State.ONLINE:
        done(partition.storage_error())
        return
    log, generation = partition.log, partition.log.generation
    if log.held is not None:
        log.held.append(lambda: look_up(partition, find, isolation, done))
        return
    segments, start, end = list(log.segments), partition.log_start_offset, partition.end_for(isolation)
    if end > log.written_end_offset:  # in the journal, not in its segment yet
        log.exclusive(lambda: None, lambda _, __: look_up(partition, find, isolation, done))
        return

    def finished(found: TimestampOffset | None, error: Exception | None) -> None:
        if log.generation != generation:
            look_up(partition, find, isolation, done)
        elif found is not None:
            done(found)
        elif isinstance(error, DecodeError):  # what its producer wrote is malformed; the log itself is sound
            done(ApiError(ErrorCode.CORRUPT_MESSAGE, str(error)))
        else:
            assert error is not None
            log.fail(error)
            done(partition.storage_error())

    partition.environment.disk.submit(lambda: find(segments, start, end), finished)

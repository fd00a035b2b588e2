"""A mirror topic's partition on its leader: batches of another cluster's log are appended as they are.

Offsets, producers, sequences, timestamps, markers and compression stay; only the leader epoch is this cluster's, for by
it this cluster's replicas find where their logs part. It is outside of the CRC, which is checked. To replicas, readers
and recovery a mirrored log is one like any other.

    copying ── ottla.mirror.state = promoting ──▶ nobody appends ── transactions ended ──▶ no mirror any more

The log is only ever continued: whoever appends says where he believes that it ends. So of two mirrors of one partition
the one that is behind is refused, and neither can repeat a batch or leave one out.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, CorruptBatch
from ottla.partitions.partition import Partition, marker_of
from ottla.partitions.replication.anew import start_anew
from ottla.partitions.results import Origin, State
from ottla.partitions.segment import MAX_RELATIVE_OFFSET
from ottla.partitions.validation import check_batch
from ottla.records.control import EndTransactionMarker, encode_end_transaction_marker
from ottla.records.header import HEADER_BYTES, LOG_OVERHEAD_BYTES, BatchHeader, patch_base_offset

Done = Callable[[ErrorCode], None]

_BATCH_LENGTH: Final = Struct(">i")
_BATCH_LENGTH_AT: Final = 8


def check_mirror(partition: Partition, source: str, *, promoting: bool = False) -> None:
    """Raises ApiError unless this replica leads a mirror of `source` (`ottla.mirror.source`), in that state."""
    if partition.state is not State.ONLINE:
        raise partition.storage_error()
    if not partition.is_leader:
        raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    config = partition.config
    if not config.mirror_source:
        raise ApiError(
            ErrorCode.POLICY_VIOLATION, f"{partition.topic} is no mirror topic: it was promoted, or never was one"
        )
    if config.mirror_source != source:
        raise ApiError(
            ErrorCode.POLICY_VIOLATION,
            f"{partition.topic} is a mirror of {config.mirror_source}, and not of {source}: another cluster, or a "
            "topic that was deleted and made again",
        )
    if config.mirror_promoting and not promoting:
        raise ApiError(ErrorCode.POLICY_VIOLATION, f"{partition.topic} is being promoted: nobody appends now")
    if promoting and not config.mirror_promoting:
        raise ApiError(ErrorCode.UNKNOWN_LEADER_EPOCH, "this node has not heard yet that the topic is being promoted")
    if promoting:  # where the log ends is not settled before
        partition.refuse_while_beginning_anew()


def append_mirrored(partition: Partition, batches: memoryview, *, expected_end_offset: int, done: Done) -> None:
    """Continue the log with whole batches of the source; all of them or, with an ApiError, none.

    OFFSET_OUT_OF_RANGE: the log ends elsewhere. CORRUPT_MESSAGE: damaged on the way, or not what follows. The buffer
    belongs to the partition from here on. `done(NONE)` when all is committed, as for acks=all; it may come at once.
    """
    _check_end(partition, expected_end_offset)
    role = partition.role
    if role is not None and not role.has_enough_replicas:
        raise ApiError(ErrorCode.NOT_ENOUGH_REPLICAS, f"{partition.name} has fewer than min.insync.replicas in sync")
    now_ms = partition.environment.clock.time_ms()
    judged = _judge(partition, batches, now_ms)
    epoch = partition.leader_epoch
    for batch, header, marker in judged:
        patch_base_offset(batch, 0, header.base_offset, epoch)
        partition.take(batch, header, marker, epoch, now_ms)
    if judged and role is not None:
        role.appended()
    partition.when_committed(partition.log_end_offset, done)


def begin_at(partition: Partition, offset: int, *, expected_end_offset: int, done: Done) -> None:
    """Begin the log anew at `offset`, because the source has nothing before it any more. ApiError when it is refused.

    What is here lies before that, and goes as it went there. `done` when log start and log end are durably `offset`.
    """
    _check_end(partition, expected_end_offset)
    if offset <= partition.log_end_offset:
        raise ApiError(
            ErrorCode.INVALID_REQUEST, f"{partition.name} ends at {partition.log_end_offset}: {offset} lies before that"
        )
    partition.beginning_anew = True

    def begun(error: Exception | None) -> None:
        role = partition.role
        if error is None and role is None:
            partition.advance(offset)
        elif error is None and role is not None and partition.is_leader:
            partition.epochs.assign(partition.leader_epoch, offset)
            role.begun_anew(offset)
        done(ErrorCode.NONE if error is None else ErrorCode.KAFKA_STORAGE_ERROR)
        partition.begun_anew()

    start_anew(partition, offset, begun)


def follow_log_start(partition: Partition, offset: int) -> None:
    """The source's log starts there: what lies before is deleted here too, as far as it is committed."""
    offset = min(offset, partition.high_watermark)
    if offset > partition.log_start_offset and not partition.beginning_anew:
        partition.delete_records(offset, lambda _: None)


def end_transactions(partition: Partition, done: Done) -> int:
    """Abort what is open, in the names of producers whose coordinator is in another cluster; how many there were.

    For a partition of which nobody but a promotion writes. `done` when the markers are committed. What has an end is
    not ended again, so it may be called repeatedly.
    """
    ended = partition.producers.open_transactions()
    now_ms = partition.environment.clock.time_ms()
    for producer in ended:
        marker = encode_end_transaction_marker(
            committed=False,
            coordinator_epoch=max(producer.coordinator_epoch, 0),
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            timestamp_ms=now_ms,
        )
        partition.append(memoryview(bytearray(marker)), acks=-1, done=None, origin=Origin.COORDINATOR)
    partition.when_committed(partition.log_end_offset, done)
    return len(ended)


def _check_end(partition: Partition, expected_end_offset: int) -> None:
    partition.refuse_while_beginning_anew()
    end = partition.log_end_offset
    if expected_end_offset != end:
        raise ApiError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"the log of {partition.name} ends at {end}, not at {expected_end_offset}: another mirror writes it too, "
            "or its leader has changed",
        )


def _judge(
    partition: Partition, batches: memoryview, now_ms: int
) -> list[tuple[memoryview, BatchHeader, EndTransactionMarker | None]]:
    """Each batch, when all of them may follow the log end."""
    judged = []
    due, position, size = partition.log_end_offset, 0, len(batches)
    while position < size:
        if size - position < HEADER_BYTES:
            raise ApiError(ErrorCode.CORRUPT_MESSAGE, f"{size - position} bytes are left where a batch should begin")
        length = _BATCH_LENGTH.unpack_from(batches, position + _BATCH_LENGTH_AT)[0] + LOG_OVERHEAD_BYTES
        if not HEADER_BYTES <= length <= size - position:
            raise ApiError(ErrorCode.CORRUPT_MESSAGE, f"a batch of {length} bytes where {size - position} are left")
        batch = batches[position : position + length]
        header = check_batch(batch, partition.config, Origin.REPLICATION, now_ms)
        try:
            marker = marker_of(batch, header)
        except CorruptBatch as error:
            raise ApiError(ErrorCode.CORRUPT_MESSAGE, str(error)) from error
        gap = header.base_offset - due
        if gap < 0 or header.last_offset_delta < 0 or gap + header.last_offset_delta > MAX_RELATIVE_OFFSET:
            raise ApiError(
                ErrorCode.CORRUPT_MESSAGE,
                f"{partition.name}: offsets {header.base_offset} to {header.last_offset} came where {due} was due",
            )
        if gap and not partition.config.cleanup_compact:
            raise ApiError(
                ErrorCode.INVALID_RECORD,
                f"{partition.name}: the source has nothing between {due} and {header.base_offset}, as if it was "
                "compacted, and this topic is not: set its cleanup.policy as it is, or was, on the source",
            )
        judged.append((batch, header, marker))
        due, position = header.next_offset, position + length
    return judged

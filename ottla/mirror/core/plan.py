"""What to do with each fetched batch: hand it on as it is, make it anew, or leave it out.

A batch goes on whole, compressed as it is, when all of its records are wanted and the target's broker would take it:
then only producer, sequence and CRC of its header change (`restamp`). Otherwise its records are written in a new one.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from struct import Struct
from typing import Final, NamedTuple

from ottla.core.types import Buffer
from ottla.mirror.core.provenance import Path, is_loop
from ottla.records.aborted import AbortedFilter
from ottla.records.batch import decode_records
from ottla.records.header import (
    ATTRIBUTES_POSITION,
    NO_LEADER_EPOCH,
    PRODUCER_POSITION,
    TRANSACTIONAL_FLAG,
    BatchHeader,
    iterate_headers,
    patch_base_offset,
    patch_crc,
)
from ottla.records.record import Record

_INT16: Final = Struct(">h")
_PRODUCER: Final = Struct(">qhi")


class Action(Enum):
    """What becomes of a batch."""

    PASS = "pass"  # as it is
    REWRITE = "rewrite"  # its records from the position on, in a batch of their own
    LEAVE_OUT = "leave out"  # a marker, aborted, or a loop


class Step(NamedTuple):
    """One batch of a fetch: `start` is where it lies in the fetched bytes."""

    action: Action
    start: int
    header: BatchHeader
    path: Path

    @property
    def next_offset(self) -> int:
        """The source's position after this step."""
        return self.header.next_offset


class LedgerTooShort(Exception):
    """The progress topic of the source must be read on before the path of this batch is known (`Origins`)."""

    def __init__(self, header: BatchHeader) -> None:
        super().__init__(f"the path of the batch at offset {header.base_offset} is not known yet")
        self.header = header


def plan_batches(
    data: Buffer,
    position: int,
    aborted: Sequence[tuple[int, int]],
    *,
    path_of: Callable[[BatchHeader], Path | None] | None,
    target_cluster_id: str,
) -> Iterator[Step]:
    """The steps of a fetch from `position` on, in order; batches that end before it are passed over.

    `aborted` are the fetch's aborted transactions. `path_of` tells a batch's path (`Origins.path_of`), None where names
    keep loops out already; LedgerTooShort when it does not know. CorruptBatch for a damaged header.
    """
    left_out = AbortedFilter(aborted)
    for start, header in iterate_headers(data, allow_partial=True):
        records = decode_records(data, start) if header.is_control else ()
        unwanted = left_out(header, records)
        if header.next_offset <= position:
            continue
        path: Path = ()
        if not unwanted and path_of is not None:
            found = path_of(header)
            if found is None:
                raise LedgerTooShort(header)
            path = found
            unwanted = is_loop(path, target_cluster_id)
        if unwanted:
            action = Action.LEAVE_OUT
        elif _passes(header) and header.base_offset >= position:
            action = Action.PASS
        else:
            action = Action.REWRITE
        yield Step(action, start, header, path)


def _passes(header: BatchHeader) -> bool:
    """Whether a broker takes such a batch from a producer."""
    return (
        header.record_count == header.last_offset_delta + 1  # else compaction took some of its records
        and not header.is_log_append_time  # a producer may not say so
        and not header.has_delete_horizon  # its base timestamp is none
    )


def restamp(batch: Buffer, producer_id: int, producer_epoch: int, base_sequence: int) -> bytearray:
    """A copy of one batch that this producer writes in its transaction; the records stay as they are."""
    copy = bytearray(batch)
    attributes = _INT16.unpack_from(copy, ATTRIBUTES_POSITION)[0]
    _INT16.pack_into(copy, ATTRIBUTES_POSITION, attributes | TRANSACTIONAL_FLAG)
    _PRODUCER.pack_into(copy, PRODUCER_POSITION, producer_id, producer_epoch, base_sequence)
    patch_base_offset(copy, 0, 0, NO_LEADER_EPOCH)
    patch_crc(copy)
    return copy


def wanted_records(data: Buffer, step: Step, position: int) -> list[Record]:
    """The records of a batch that is to be made anew, from `position` on, at their source offsets."""
    records = decode_records(data, step.start)
    return (
        [record for record in records if record.offset >= position] if step.header.base_offset < position else records
    )

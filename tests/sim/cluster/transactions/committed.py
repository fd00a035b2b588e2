"""The records of committed transactions in what a Fetch returned, as a consumer picks them out (KIP-98)."""

from collections.abc import Iterable

from ottla.records.batch import decode_records
from ottla.records.control import ControlType, control_type
from ottla.records.header import LOG_OVERHEAD_BYTES, validate
from tests.sim.cluster.transactions.history import Seen


def committed_records(data: bytes, position: int, aborted: Iterable[tuple[int, int]]) -> tuple[int, list[Seen]]:
    """Where the batches end, and the records from `position` on. `aborted`: producer ids and first offsets."""
    waiting = sorted(aborted, key=lambda one: one[1])
    skipped: set[int] = set()
    found: list[Seen] = []
    at, end = 0, position
    while at < len(data):
        header = validate(data, at)
        while waiting and waiting[0][1] <= header.last_offset:
            skipped.add(waiting.pop(0)[0])
        if header.is_control:
            if control_type(decode_records(data, at)[0].key) is ControlType.ABORT:
                skipped.discard(header.producer_id)
        elif not header.is_transactional or header.producer_id not in skipped:
            found += [Seen(one.offset, one.value or b"") for one in decode_records(data, at) if one.offset >= position]
        at += LOG_OVERHEAD_BYTES + header.batch_length
        end = max(end, header.next_offset)
    return end, found

"""Exact copies compared with their originals: batch for batch, byte for byte, but for the leader epoch.

What both sides hold is compared, from the later log start to the earlier end, open transactions and markers too. In a
compacted topic each side cleans its log when it likes: there it is the records that both still hold.
"""

from ottla.client.transport import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP
from ottla.client.types import TopicPartition
from ottla.mirror.core.exact import Batch, same_batch
from ottla.mirror.engine.raw_batches import raw_batches
from ottla.mirror.engine.side import Side
from ottla.mirror.operations.verification import Verdict


async def verify_exact(
    source: Side, target: Side, original: TopicPartition, copy: TopicPartition, *, compacted: bool
) -> Verdict:
    """Read both sides once. Counts are of records, control records included."""
    verdict = Verdict(original, copy)
    start, end = 0, 0
    for side, partition in ((source, original), (target, copy)):
        begins = await side.offset_at(partition, EARLIEST_TIMESTAMP, read_committed=False)
        ends = await side.offset_at(partition, LATEST_TIMESTAMP, read_committed=False)
        start, end = max(start, begins), min(end, ends) if side is target else ends
    originals = raw_batches(source, original, start, end)
    copies = raw_batches(target, copy, start, end)
    one, other = await anext(originals, None), await anext(copies, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.header.base_offset < other.header.base_offset):
            assert one is not None
            if not compacted:
                verdict.missing += one.header.record_count
                verdict.tell(f"the batch at offset {one.header.base_offset} is missing on the target")
            one = await anext(originals, None)
        elif one is None or other.header.base_offset < one.header.base_offset:
            if not compacted:
                verdict.foreign += other.header.record_count
                verdict.differing += other.header.record_count
                verdict.tell(f"the target's batch at offset {other.header.base_offset} is not in the source")
            other = await anext(copies, None)
        else:
            _compare(one, other, verdict, compacted=compacted)
            one, other = await anext(originals, None), await anext(copies, None)
    return verdict


def _compare(one: Batch, other: Batch, verdict: Verdict, *, compacted: bool) -> None:
    if same_batch(one, other, compacted=compacted):
        verdict.compared += one.header.record_count
    else:
        verdict.differing += one.header.record_count
        verdict.tell(f"the batches at offset {one.header.base_offset} are not the same")

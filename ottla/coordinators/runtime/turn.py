"""What one turn of the loop writes, and how records become a batch."""

from ottla.coordinators.runtime.shard import ProducerIdentity, Reply
from ottla.records.batch import Record, encode_batch

EncodedRecord = tuple[bytes, bytes | None]
"""Key and value; a tombstone has no value."""


class Turn:
    """What the operations of one turn of the loop wrote, and the replies that depend on it."""

    __slots__ = ("records", "replies", "size_bytes")

    def __init__(self) -> None:
        self.records: list[EncodedRecord] = []
        self.replies: list[Reply] = []
        self.size_bytes = 0


def batch_of(encoded: list[EncodedRecord], now_ms: int, producer: ProducerIdentity | None = None) -> bytes:
    """One batch of these records; part of the producer's transaction when there is one, without a sequence then."""
    records = [Record(offset, now_ms, key, value, ()) for offset, (key, value) in enumerate(encoded)]
    if producer is None:
        return encode_batch(records)
    return encode_batch(
        records,
        producer_id=producer.producer_id,
        producer_epoch=producer.producer_epoch,
        is_transactional=True,
    )

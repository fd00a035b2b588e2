"""Which batches stand behind one that was refused: they share its answer until it comes again.

A producer has up to five batches of a partition under way. When the first of them is refused before it is appended, and
what it was refused for is over when the second comes (replicas are in sync again, this node leads again), then that one
is not due. OUT_OF_ORDER_SEQUENCE_NUMBER would be true, and does harm: librdkafka raises its epoch and numbers anew what
it has for *all* partitions, also what was appended and whose answer was lost, so that nothing knows it for a duplicate
any more. And where the producer is not known yet, the second batch would be appended before the first; librdkafka takes
its acknowledgement for that of both.

So the batch right behind a refused one gets the same error, and the one behind that, and so on: the producer sends all
of them again, in order. Each batch is answered like this once: who comes again without the one that is missing has
given it up, and is told the truth.

What is known here is only what this broker answered lately. Nothing is lost with it but the better answer.
"""

from struct import Struct
from typing import Final

from ottla.broker.replicas import TopicKey
from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.partition import Partition
from ottla.records.header import HEADER_BYTES, MAX_SEQUENCE

MOST: Final = 1000
"""So many producers are remembered, each on one partition; of more, the oldest are forgotten."""

_PRODUCER: Final = Struct(">qhi")  # id, epoch, base sequence
_PRODUCER_AT: Final = 43
_LAST_OFFSET_DELTA: Final = Struct(">i")
_LAST_OFFSET_DELTA_AT: Final = 23


class Refusals:
    """See the module. Falsy while there is none."""

    __slots__ = ("_behind",)

    def __init__(self) -> None:
        # (topic, index, producer id) → epoch, the sequence right behind what was refused, and why
        self._behind: dict[tuple[TopicKey, int, int], tuple[int, int, ErrorCode]] = {}

    def __len__(self) -> int:
        return len(self._behind)

    def note(self, topic: TopicKey, index: int, batch: memoryview, code: ErrorCode) -> None:
        """A batch was refused, and is not in the log. Only what may go well the next time counts."""
        if not code.retriable or code is ErrorCode.CORRUPT_MESSAGE or len(batch) < HEADER_BYTES:
            return
        producer_id, epoch, sequence = _PRODUCER.unpack_from(batch, _PRODUCER_AT)
        if producer_id >= 0 and sequence >= 0:
            self._put((topic, index, producer_id), epoch, batch, sequence, code)

    def check(self, topic: TopicKey, partition: Partition, batch: memoryview) -> None:
        """Raise ApiError when the batch stands right behind one that was refused, and that one is still missing."""
        if len(batch) < HEADER_BYTES:
            return
        producer_id, epoch, sequence = _PRODUCER.unpack_from(batch, _PRODUCER_AT)
        key = (topic, partition.index, producer_id)
        refused = self._behind.pop(key, None)
        if (
            refused is None
            or refused[:2] != (epoch, sequence)
            or partition.producers.is_due(producer_id, epoch, sequence)
        ):
            return
        code = refused[2]
        self._put(key, epoch, batch, sequence, code)
        raise ApiError(code, f"the batch before sequence {sequence} of producer {producer_id} was refused for this")

    def _put(
        self, key: tuple[TopicKey, int, int], epoch: int, batch: memoryview, sequence: int, code: ErrorCode
    ) -> None:
        (delta,) = _LAST_OFFSET_DELTA.unpack_from(batch, _LAST_OFFSET_DELTA_AT)
        behind = self._behind
        behind.pop(key, None)  # in the order of the last refusal
        behind[key] = (epoch, (sequence + delta + 1) & MAX_SEQUENCE, code)
        if len(behind) > MOST:
            del behind[next(iter(behind))]

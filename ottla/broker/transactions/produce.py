"""Produce for transactions: a batch that begins one here waits until its coordinator was asked (KIP-890).

Later batches of the same producer wait behind it, so that pipelined requests keep their order; that is for
`partitions.verification` to decide. Whether a coordinator that has not finished the producer's last transaction is
asked again, and for how long, is the `Verifier`'s affair.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from ottla.broker.transactions.verifying import Verifier
from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.partition import Partition
from ottla.partitions.verification import APPEND, NO_GUARD
from ottla.records.header import HEADER_BYTES

_PRODUCER: Final = Struct(">qhi")  # id, epoch, base sequence
_PRODUCER_AT: Final = 43

_WHY: Final = {
    ErrorCode.NOT_LEADER_OR_FOLLOWER: "",
    ErrorCode.NOT_ENOUGH_REPLICAS: "the coordinator of the transaction cannot tell now",
    ErrorCode.INVALID_TXN_STATE: "the transaction is over, or the partition is no part of it",
}

Settle = Callable[[int | ApiError], None]
"""The guard under which the batch is to be appended now; or why it is refused."""


class Transactions:
    """Asks the coordinators of the transactions whose batches come to this broker."""

    __slots__ = ("_verifier",)

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def admit(self, partition: Partition, batch: memoryview, transactional_id: str, adds: bool, settle: Settle) -> bool:
        """Whether the batch may be appended at once; else `settle` is called later. ApiError when it is refused.

        `adds`: the coordinator is to make the partition a part of the transaction; else the producer has seen to that.
        """
        if len(batch) < HEADER_BYTES:
            return True  # the log says what is wrong with it
        producer_id, epoch, sequence = _PRODUCER.unpack_from(batch, _PRODUCER_AT)
        if producer_id < 0:
            raise ApiError(ErrorCode.INVALID_RECORD, "a transactional batch without a producer id")

        def resume(code: ErrorCode, guard: int) -> None:
            settle(guard if code is ErrorCode.NONE else _refusal(code))

        guard = partition.admit(producer_id, epoch, sequence, adds=adds, resume=resume)
        if guard > NO_GUARD:
            question = _Question(partition, adds, guard)
            self._verifier.ask(
                transactional_id, producer_id, epoch, partition.topic, partition.index, not adds, question.answered
            )
        return guard == APPEND


class _Question(NamedTuple):
    """One question about one partition."""

    partition: Partition
    adds: bool
    guard: int

    def answered(self, code: ErrorCode) -> None:
        if code is ErrorCode.CONCURRENT_TRANSACTIONS and not self.adds:  # producers of that age would give up
            code = ErrorCode.NOT_ENOUGH_REPLICAS
        self.partition.verifications.answered(self.guard, code)


def _refusal(code: ErrorCode) -> ApiError:
    return ApiError(code, _WHY.get(code, "the coordinator of the transaction does not agree"))

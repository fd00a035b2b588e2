"""Produce for transactions: a batch that begins one here waits until its coordinator was asked (KIP-890).

Later batches of the same producer wait behind it, so that pipelined requests keep their order; that is for
`partitions.verification` to decide. A coordinator that has not finished the producer's last transaction is asked again
for a short while: a client would wait longer, and send everything once more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from ottla.broker.transactions.verifying import Verifier
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock
from ottla.partitions.partition import Partition
from ottla.partitions.verification import APPEND, NO_GUARD
from ottla.records.header import HEADER_BYTES

RETRY_PAUSE_MS: Final = 20  # add.partitions.to.txn.retry.backoff.ms
RETRY_AT_MOST_MS: Final = 100  # add.partitions.to.txn.retry.backoff.max.ms

_PRODUCER = Struct(">qhi")  # id, epoch, base sequence
_PRODUCER_AT = 43

_WHY = {
    ErrorCode.NOT_LEADER_OR_FOLLOWER: "",
    ErrorCode.NOT_ENOUGH_REPLICAS: "the coordinator of the transaction cannot tell now",
    ErrorCode.INVALID_TXN_STATE: "the transaction is over, or the partition is no part of it",
}

Settle = Callable[[int | ApiError], None]
"""The guard under which the batch is to be appended now; or why it is refused."""


class Transactions:
    """Asks the coordinators of the transactions whose batches come to this broker."""

    __slots__ = ("_clock", "_verifier")

    def __init__(self, verifier: Verifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock

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
            give_up_ms = self._clock.monotonic_ms() + RETRY_AT_MOST_MS
            _Question(
                self._verifier, self._clock, partition, transactional_id, producer_id, epoch, adds, guard, give_up_ms
            ).ask()
        return guard == APPEND


@dataclass(slots=True)
class _Question:
    """One question about one partition, until its answer is final."""

    verifier: Verifier
    clock: Clock
    partition: Partition
    transactional_id: str
    producer_id: int
    epoch: int
    adds: bool
    guard: int
    give_up_ms: float

    def ask(self) -> None:
        """Nothing, when a marker or another leader has settled it meanwhile."""
        partition = self.partition
        if partition.verifications.is_asked(self.guard):
            self.verifier.ask(
                self.transactional_id,
                self.producer_id,
                self.epoch,
                partition.topic,
                partition.index,
                not self.adds,
                self.answered,
            )

    def answered(self, code: ErrorCode) -> None:
        if code is ErrorCode.CONCURRENT_TRANSACTIONS:
            if self.adds and self.clock.monotonic_ms() + RETRY_PAUSE_MS <= self.give_up_ms:
                self.clock.call_later(RETRY_PAUSE_MS, self.ask)
                return
            if not self.adds:  # producers of that age would give up
                code = ErrorCode.NOT_ENOUGH_REPLICAS
        self.partition.verifications.answered(self.guard, code)


def _refusal(code: ErrorCode) -> ApiError:
    return ApiError(code, _WHY.get(code, "the coordinator of the transaction does not agree"))

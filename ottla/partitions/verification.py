"""Which transactional batches may begin a transaction on a partition: those whose coordinator knows of it (KIP-890).

A batch of a producer without an ongoing transaction here is appended only after the transaction's coordinator said that
the partition belongs to it. Else nobody would ever write the marker, and the last stable offset would stand still.

One state for each producer id and epoch of which something was asked:

    (nothing) ── a batch ──▶ ASKING ── the coordinator agrees ──▶ VERIFIED ── appended ──▶ (nothing)
      │                       ▲  │                                 ▲ │ the log refuses the batch
      │                       │  └── it does not agree ──▶ REFUSED ─┼─┘
      │                       └── a batch, not above the lowest sequence
      └── the coordinator tells unasked ──▶ GRANTED ── a batch ────┘

    a marker that ends this epoch's transaction, another leader:    any state ──▶ (nothing)

Two things are kept safe by it.

- *The guard.* Each question has a number. A marker takes the state away, and an answer under a number that is gone
  counts for nothing: what the coordinator agreed to is over. A marker of transaction version 2 bears the epoch *after*
  the one that it ends, so it takes away only lower epochs: the next transaction of that very epoch is a new one.
  What is told unasked must not come after the marker that ends it: see `Partition.grant`.
- *The order.* Batches that come while their producer's first one is being asked about wait behind it and share its
  fate. When their producer is not known here, it may begin anywhere: so after a refusal nothing above the lowest
  sequence that was asked for begins a transaction. It would leave a gap that the producer could never fill.

Pure: a partition drives it, and whoever produces asks the coordinator.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.records.header import MAX_SEQUENCE, NO_SEQUENCE

NO_GUARD: Final = 0
APPEND: Final = -1
WAIT: Final = -2

Resume = Callable[[ErrorCode, int], None]
"""(NONE: append now, under this guard; else: answer with this error)."""

_HALF: Final = (MAX_SEQUENCE + 1) // 2


class Step(Enum):
    """See the module."""

    ASKING = "asking"
    GRANTED = "granted"
    VERIFIED = "verified"
    REFUSED = "refused"


@dataclass(slots=True)
class Verification:
    """What is known of one producer's transaction in one epoch, before its first batch is in the log."""

    producer_id: int
    epoch: int
    lowest_sequence: int
    adds: bool  # the coordinator adds the partition (transaction version 2), instead of telling whether it was added
    guard: int
    asked_ms: int
    step: Step = Step.ASKING
    waiting: list[Resume] = field(default_factory=list)  # in the order in which they came


class Verifications:
    """All that is being asked, or was refused, on one partition."""

    __slots__ = ("_by_guard", "_by_producer", "_guards", "_resuming")

    def __init__(self) -> None:
        self._by_producer: dict[int, list[Verification]] = {}  # one for each epoch; hardly ever two
        self._by_guard: dict[int, Verification] = {}  # that are being asked
        self._guards = NO_GUARD
        self._resuming: Verification | None = None  # those who waited for it go on, one after the other

    def __len__(self) -> int:
        return sum(map(len, self._by_producer.values()))

    # -- before a batch is appended

    def admit(
        self,
        producer_id: int,
        epoch: int,
        sequence: int,
        *,
        ongoing: bool,
        is_known: bool,
        adds: bool,
        now_ms: int,
        resume: Resume,
    ) -> int:
        """What is to happen with a transactional batch: `APPEND` it now; `WAIT` until `resume`; or ask the coordinator.

        A positive number is the guard under which to ask: then `resume` comes too, after `answered`. With `WAIT` it may
        have come before this returns. `ongoing`: the producer has an open transaction in this epoch here; `is_known`:
        there is a sequence to compare with. Raises ApiError OUT_OF_ORDER_SEQUENCE_NUMBER for a batch that must come
        after one which was refused: the producer sends both again, in order.
        """
        known = self._resuming
        if known is not None and known.producer_id == producer_id and known.epoch == epoch:
            known.waiting.append(resume)
            return WAIT
        if ongoing:
            return APPEND
        known = self._find(producer_id, epoch)
        if known is not None and known.step is Step.ASKING:
            known.waiting.append(resume)
            return WAIT
        if known is not None and known.step is Step.GRANTED:
            self._guards += 1
            known.guard, known.adds, known.lowest_sequence = self._guards, adds, sequence
            known.waiting = [resume]
            self._go_on(known, ErrorCode.NONE)
            return WAIT
        if known is None:
            known = self._put(Verification(producer_id, epoch, sequence, adds, NO_GUARD, now_ms))
        else:
            if not is_known:
                self._check_order(known, sequence)
            known.lowest_sequence = sequence
        self._guards += 1
        known.step, known.guard, known.adds, known.asked_ms = Step.ASKING, self._guards, adds, now_ms
        known.waiting = [resume]
        self._by_guard[known.guard] = known
        return known.guard

    def answered(self, guard: int, code: ErrorCode) -> None:
        """The coordinator answered; all who waited for it go on, in order. Nothing happens when the guard is gone."""
        known = self._by_guard.pop(guard, None)
        if known is not None:
            self._go_on(known, code)

    def granted(self, producer_id: int, epoch: int, now_ms: int) -> None:
        """The coordinator tells, unasked, that the partition belongs to the transaction of this producer and epoch.

        Nothing of it may be in the log yet. Where a question is under way, or was answered otherwise, that counts.
        """
        if self._find(producer_id, epoch) is None:
            self._put(Verification(producer_id, epoch, NO_SEQUENCE, False, NO_GUARD, now_ms, Step.GRANTED))

    def _go_on(self, known: Verification, code: ErrorCode) -> None:
        """All who wait for it, one after the other."""
        known.step = Step.VERIFIED if code == ErrorCode.NONE else Step.REFUSED
        outer, self._resuming = self._resuming, known
        try:
            while known.waiting:  # what answers one of them may bring the next batch
                known.waiting.pop(0)(code, known.guard)
        finally:
            self._resuming = outer
        if known.step is Step.VERIFIED:  # none of them came into the log
            known.step = Step.REFUSED

    def check(self, producer_id: int, epoch: int, sequence: int, guard: int, *, is_known: bool) -> None:
        """Raise ApiError when a batch must not begin a transaction. `is_known`: there is a sequence to compare with."""
        known = self._find(producer_id, epoch)
        if guard == NO_GUARD or known is None or known.guard != guard or known.step is not Step.VERIFIED:
            raise ApiError(
                ErrorCode.INVALID_TXN_STATE, f"the batch of producer {producer_id} is part of no transaction under way"
            )
        if is_known:
            return
        if known.adds and sequence > 0:  # every transaction of version 2 has sequences of its own
            raise ApiError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {producer_id} is not known here: its transaction cannot begin with sequence {sequence}",
            )
        self._check_order(known, sequence)

    # -- what takes a state away

    def begun(self, producer_id: int, epoch: int) -> None:
        """A batch of the transaction is in the log: from here on the log says that it is open."""
        known = self._find(producer_id, epoch)
        if known is not None:
            self._forget(known)

    def ended(self, producer_id: int, epoch: int, transaction_version: int) -> None:
        """A marker of that epoch is in the log: what is being asked of the transaction that it ends is void."""
        for known in tuple(self._by_producer.get(producer_id, ())):
            if known.epoch < epoch:
                self._refuse(known, ErrorCode.INVALID_PRODUCER_EPOCH)
            elif known.epoch == epoch and transaction_version < 2:
                self._refuse(known, ErrorCode.INVALID_TXN_STATE)

    def clear(self, code: ErrorCode) -> None:
        """The log has another leader now, or is out of service: all who wait get `code`."""
        for states in list(self._by_producer.values()):
            for known in tuple(states):
                self._refuse(known, code)

    def expire(self, now_ms: int, expiration_ms: int) -> None:
        """Forget refusals after which nobody came again, and what nobody ever used."""
        for states in list(self._by_producer.values()):
            for known in tuple(states):
                if known.step is not Step.ASKING and now_ms - known.asked_ms >= expiration_ms:
                    self._forget(known)

    # -- inside

    def _find(self, producer_id: int, epoch: int) -> Verification | None:
        for known in self._by_producer.get(producer_id, ()):
            if known.epoch == epoch:
                return known
        return None

    def _put(self, known: Verification) -> Verification:
        self._by_producer.setdefault(known.producer_id, []).append(known)
        return known

    def _refuse(self, known: Verification, code: ErrorCode) -> None:
        self._forget(known)
        waiting, known.waiting = known.waiting, []
        for resume in waiting:
            resume(code, known.guard)

    def _forget(self, known: Verification) -> None:
        known.step = Step.REFUSED  # whoever holds it: it is over
        states = self._by_producer[known.producer_id]
        states.remove(known)
        if not states:
            del self._by_producer[known.producer_id]
        self._by_guard.pop(known.guard, None)

    @staticmethod
    def _check_order(known: Verification, sequence: int) -> None:
        above = (sequence - known.lowest_sequence) & MAX_SEQUENCE  # sequences wrap
        if sequence >= 0 and 0 < above < _HALF:
            raise ApiError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {known.producer_id}: sequence {sequence} came, but {known.lowest_sequence} is to come first",
            )

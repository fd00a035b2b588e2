"""What a shard is, what it gives back, and how its records become bytes."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ottla.core.errors import ApiError
from ottla.partitions.verification import NO_GUARD

TimerKey = Hashable


class Call(Protocol):
    """Where a reply goes: called exactly once, with the response or with the error that took its place."""

    def __call__(self, response: Any, /) -> None: ...


class CoordinatorRecord(NamedTuple):
    """One record of a shard's log, as messages. A tombstone has no value.

    A named tuple, because that is made in a third of a frozen dataclass's time.
    """

    key: Any
    value: Any = None
    value_version: int = 0


class ProducerIdentity(NamedTuple):
    """On whose behalf records of a transaction are written."""

    producer_id: int
    producer_epoch: int


class RecordCodec(Protocol):
    """A shard's records as bytes and back."""

    def encode(self, record: CoordinatorRecord) -> tuple[bytes, bytes | None]: ...

    def decode(self, key: bytes, value: bytes | None) -> CoordinatorRecord | None:
        """None for a kind of record that this version does not know; raises DecodeError for a broken one."""


@dataclass(slots=True, frozen=True)
class SetTimer:
    """Deliver `event` to the shard after `delay_ms`; replaces the timer of the same key."""

    key: TimerKey
    delay_ms: float
    event: Any


@dataclass(slots=True, frozen=True)
class HastenTimer:
    """As `SetTimer`, but only where that is sooner than the timer of this key; nothing when there is none."""

    key: TimerKey
    delay_ms: float
    event: Any


@dataclass(slots=True, frozen=True)
class CancelTimer:
    """Forget the timer of this key, if there is one."""

    key: TimerKey


class Reply(NamedTuple):
    """Give `response` to `call`, once all that the shard has written is committed."""

    call: Call
    response: Any


class Effects:
    """What one operation asks of the runtime, in order."""

    __slots__ = ("atomic", "guard", "now_ms", "records", "replies", "timers", "transaction")

    def __init__(self, now_ms: int, guard: int = NO_GUARD) -> None:
        self.guard = guard
        """Under which records of a transaction may begin it here."""
        self.now_ms = now_ms
        """Wall clock at the start of the operation."""
        self.atomic = True
        """All records in one batch, or none. Set False where a part of them makes sense too, to have no limit."""
        self.transaction: ProducerIdentity | None = None
        """The producer whose transaction the records belong to: they are pending until it ends. Always atomic."""
        self.records: list[CoordinatorRecord] = []
        self.replies: list[Reply] = []
        self.timers: list[SetTimer | HastenTimer | CancelTimer] = []

    def append(self, record: CoordinatorRecord) -> None:
        """Write the record. It is replayed into the shard after the operation, not at once."""
        self.records.append(record)

    def reply(self, call: Call, response: Any) -> None:
        self.replies.append(Reply(call, response))

    def set_timer(self, key: TimerKey, delay_ms: float, event: Any) -> None:
        self.timers.append(SetTimer(key, delay_ms, event))

    def hasten_timer(self, key: TimerKey, delay_ms: float, event: Any) -> None:
        self.timers.append(HastenTimer(key, delay_ms, event))

    def cancel_timer(self, key: TimerKey) -> None:
        self.timers.append(CancelTimer(key))


class Shard(Protocol):
    """The state behind one partition of an internal topic. No method awaits, reads a clock or raises for bad input.

    What is replayed describes the log up to its end, of which the last part may not be committed. That is safe: no
    reply leaves before all that it could have seen is committed; and a record that once is in the leader's log is
    either committed later, or the leader loses its leadership, and the whole shard with it.
    """

    def replay(self, record: CoordinatorRecord) -> None:
        """The only way in which durable state changes: on loading, and after an operation."""

    def turn_written(self) -> None:
        """All records replayed so far are in the log: they never have to be taken back."""

    def turn_failed(self, error: ApiError, effects: Effects) -> None:
        """The records replayed since `turn_written` could not be appended: take them back.

        Kafka keeps snapshots of all state for this case (timeline data structures). Here only one turn of the loop is
        ever unwritten, so it is enough to remember the values that this turn replaced.
        """

    def loaded(self, effects: Effects) -> None:
        """The whole log is replayed, and operations are about to start."""

    def unloaded(self, error: ApiError, effects: Effects) -> None:
        """The leadership ended: answer the calls that the shard keeps waiting."""

    def timer_fired(self, event: Any, effects: Effects) -> None:
        """The delay of a timer is over."""


class TransactionalShard(Shard, Protocol):
    """A shard that also keeps records of transactions. Neither method is ever taken back by `turn_failed`."""

    def replay_pending(self, producer: ProducerIdentity, record: CoordinatorRecord) -> None:
        """A record of the producer's open transaction: it counts once the transaction is committed."""

    def replay_end_transaction(self, producer_id: int, committed: bool) -> None:
        """The producer's transaction is over; it need not have a record here."""

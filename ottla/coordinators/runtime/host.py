"""One shard on one log during one leadership: loading, operations, commits, the end.

    LOADING ──→ ACTIVE ──→ CLOSED
       │           │         ↑
       └→ FAILED ←─┘ ────────┘

Operations run only in ACTIVE. FAILED means that the log cannot be read or written; a new leadership starts afresh.
"""

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from ottla.coordinators.runtime.loader import Loader
from ottla.coordinators.runtime.log import CoordinatorLog
from ottla.coordinators.runtime.replies import WaitingReplies
from ottla.coordinators.runtime.shard import (
    Call,
    CancelTimer,
    CoordinatorRecord,
    Effects,
    HastenTimer,
    ProducerIdentity,
    RecordCodec,
    Reply,
    SetTimer,
    Shard,
    TransactionalShard,
)
from ottla.coordinators.runtime.timers import ShardTimers
from ottla.coordinators.runtime.transactions import EndOfTransaction, Transaction
from ottla.coordinators.runtime.turn import EncodedRecord, Turn, batch_of
from ottla.core.errors import ApiError, ErrorCode, StorageError
from ottla.core.ports import Clock
from ottla.partitions.results import Origin
from ottla.partitions.verification import APPEND, NO_GUARD
from ottla.records.batch import Record
from ottla.records.control import encode_end_transaction_marker
from ottla.records.header import NO_SEQUENCE

S = TypeVar("S", bound=Shard)

RECORDS_IN_A_PIECE: Final = 1000
RECORD_OVERHEAD_BYTES: Final = 32  # varints and deltas of one record, generously
SURVIVABLE: Final = frozenset({ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, ErrorCode.REQUEST_TIMED_OUT})
"""Errors after which the records are still in the log, and may yet be committed."""


class HostState(Enum):
    """See the module's table."""

    LOADING = "loading"
    ACTIVE = "active"
    FAILED = "failed"
    CLOSED = "closed"


class ShardHost(Generic[S]):
    """Drives one shard."""

    def __init__(
        self,
        *,
        index: int,
        shard: S,
        log: CoordinatorLog,
        codec: RecordCodec,
        clock: Clock,
        leader_epoch: int,
        commit_timeout_ms: float,
        batch_bytes: int,
        report: Callable[..., object],
        reload: Callable[["ShardHost[S]"], None],
    ) -> None:
        self.index, self.shard, self.leader_epoch = index, shard, leader_epoch
        self.state = HostState.LOADING
        self.records_loaded = 0
        self._log, self._codec, self._clock = log, codec, clock
        self._batch_bytes, self._report, self._reload = batch_bytes, report, reload
        self._replies = WaitingReplies(clock, commit_timeout_ms)
        self._timers = ShardTimers(clock, self._timer_fired)
        self._turn: Turn | None = None
        self._written_end = 0
        self._started_ms = clock.monotonic_ms()
        self._loader = Loader(
            log,
            clock,
            replay=self._replay_loaded,
            end_transaction=self._end_loaded,
            slice_done=shard.turn_written,
            finished=self._loaded,
        )
        self._loader.start()

    # --- operations

    def execute(self, call: Call | None, operation: Callable[[S, Effects], None], guard: int = NO_GUARD) -> None:
        """Run the operation now; `call` gets the error when it cannot run."""
        if self.state is not HostState.ACTIVE:
            if call is not None:
                call(self._refusal())
            return
        effects = Effects(self._clock.time_ms(), guard)
        try:
            operation(self.shard, effects)
            self._apply(effects)
        except Exception as error:
            self._defect(call, error)

    def execute_in_transaction(
        self, call: Call, transaction: Transaction, operation: Callable[[S, Effects], None]
    ) -> None:
        """See `CoordinatorRuntime.execute_in_transaction`."""
        if self.state is not HostState.ACTIVE:
            call(self._refusal())
            return

        def resume(code: ErrorCode, guard: int) -> None:
            if code is ErrorCode.NONE:
                self.execute(call, operation, guard)
            else:
                call(ApiError(code))

        try:
            guard = self._log.admit(*transaction.producer, NO_SEQUENCE, adds=transaction.adds, resume=resume)
        except ApiError as error:
            call(error)
            return
        if guard == APPEND:
            self.execute(call, operation)
        elif guard > NO_GUARD:
            transaction.ask(partial(self._log.verifications.answered, guard))

    def complete_transaction(self, end: EndOfTransaction, call: Call) -> None:
        """Write the marker of the producer's transaction now; see `CoordinatorRuntime.complete_transaction`."""
        if self.state is not HostState.ACTIVE:
            call(self._refusal())
            return
        shard = self._transactional()
        marker = encode_end_transaction_marker(
            committed=end.committed,
            coordinator_epoch=end.coordinator_epoch,
            producer_id=end.producer.producer_id,
            producer_epoch=end.producer.producer_epoch,
            timestamp_ms=self._clock.time_ms(),
        )
        error = self._append_after_turn(marker, transaction_version=end.transaction_version)
        if error is not None:
            call(error)
            return
        try:
            shard.replay_end_transaction(end.producer.producer_id, end.committed)
        except Exception as defect:
            self._defect(call, defect)
            return
        self._replies.add(self._written_end, [Reply(call, None)])
        self._committed()

    def _defect(self, call: Call | None, error: Exception) -> None:
        """A defect of ours. The state may be half changed, which only a fresh load repairs."""
        self._report("coordinator_operation_failed", partition=self.index, error=repr(error), exc_info=error)
        if call is not None:
            call(ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, repr(error)))
        self._stop(HostState.FAILED, ApiError(ErrorCode.NOT_COORDINATOR))
        self._reload(self)

    def _refusal(self) -> ApiError:
        if self.state is HostState.LOADING:
            return ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        return ApiError(ErrorCode.NOT_COORDINATOR)

    def _apply(self, effects: Effects) -> None:
        if effects.records and not self._write_all(effects):
            return
        self._set_timers(effects)
        if not effects.replies:
            return
        if self._turn is not None:
            self._turn.replies += effects.replies
        elif self._written_end > self._log.high_watermark:
            self._replies.add(self._written_end, effects.replies)
        else:
            for reply in effects.replies:
                reply.call(reply.response)

    def _write_all(self, effects: Effects) -> bool:
        """Write and replay; False when the replies have got an error instead."""
        encoded = [self._codec.encode(record) for record in effects.records]
        if effects.transaction is not None:
            error = self._write_pending(effects.transaction, effects.records, encoded, effects.guard)
            if error is not None:
                self._answer(effects.replies, error)
            return error is None
        step = len(encoded) if effects.atomic else RECORDS_IN_A_PIECE
        for start in range(0, len(encoded), step):
            piece = slice(start, start + step)
            if not self._write(effects.records[piece], encoded[piece], effects):
                return False
        return True

    def _write(self, records: list[CoordinatorRecord], encoded: list[EncodedRecord], effects: Effects) -> bool:
        """Replay, and make it part of this turn's batch, or of a new one when it does not fit."""
        size_bytes = sum(
            len(key) + (len(value) if value is not None else 0) + RECORD_OVERHEAD_BYTES for key, value in encoded
        )
        full = self._turn if self._turn is not None and self._turn.size_bytes + size_bytes > self._batch_bytes else None
        error = self._write_turn(full) if full is not None else None
        for record in records:
            self.shard.replay(record)
        if full is not None and error is not None:
            # This operation looked at state that is now taken back, so it fails with that turn. Its timers stand as
            # the turn's do, for the shard to put right: one that had fired would else never be set again.
            full.replies += effects.replies
            self._set_timers(effects)
            self._turn_failed(full, error)
            return False
        if self._turn is None:
            self._turn = Turn()
            self._clock.call_soon(self._flush, self._turn)
        self._turn.records += encoded
        self._turn.size_bytes += size_bytes
        return True

    def _set_timers(self, effects: Effects) -> None:
        for timer in effects.timers:
            match timer:
                case SetTimer(key, delay_ms, event):
                    self._timers.set(key, delay_ms, event)
                case HastenTimer(key, delay_ms, event):
                    self._timers.hasten(key, delay_ms, event)
                case CancelTimer(key):
                    self._timers.cancel(key)

    def _timer_fired(self, event: Any) -> None:
        self.execute(None, lambda shard, effects: shard.timer_fired(event, effects))

    def _transactional(self) -> TransactionalShard:
        if not hasattr(self.shard, "replay_pending"):
            raise StorageError(f"a {type(self.shard).__name__} keeps no records of transactions")
        return cast(TransactionalShard, self.shard)

    # --- writing

    def _flush(self, turn: Turn) -> None:
        if self._turn is turn:
            error = self._write_turn(turn)
            if error is not None:
                self._turn_failed(turn, error)

    def _write_turn(self, turn: Turn) -> ApiError | None:
        self._turn = None
        error = self._append(batch_of(turn.records, self._clock.time_ms()))
        if error is None:
            self.shard.turn_written()
            self._replies.add(self._written_end, turn.replies)
            self._committed()
        return error

    def _write_pending(
        self, producer: ProducerIdentity, records: list[CoordinatorRecord], encoded: list[EncodedRecord], guard: int
    ) -> ApiError | None:
        """Append records of a transaction, then replay them."""
        shard = self._transactional()
        error = self._append_after_turn(batch_of(encoded, self._clock.time_ms(), producer), guard=guard)
        if error is None:
            for record in records:
                shard.replay_pending(producer, record)
        return error

    def _append_after_turn(
        self, batch: bytes, *, guard: int = NO_GUARD, transaction_version: int = 0
    ) -> ApiError | None:
        """What this turn has written goes first. When that is refused, the batch rests on what is taken back."""
        turn = self._turn
        error = self._write_turn(turn) if turn is not None else None
        if turn is not None and error is not None:
            self._turn_failed(turn, error)
            return error
        return self._append(batch, guard, transaction_version)

    def _append(self, batch: bytes, guard: int = NO_GUARD, transaction_version: int = 0) -> ApiError | None:
        try:
            appended = self._log.append(
                memoryview(bytearray(batch)),
                acks=-1,
                done=self._append_done,
                origin=Origin.COORDINATOR,
                guard=guard,
                transaction_version=transaction_version,
            )
        except ApiError as error:
            return error
        self._written_end = appended.last_offset + 1
        return None

    def _turn_failed(self, turn: Turn, error: ApiError) -> None:
        self._answer(turn.replies, error)
        effects = Effects(self._clock.time_ms())
        self.shard.turn_failed(error, effects)
        self._apply(effects)

    def _append_done(self, code: ErrorCode) -> None:
        if self.state is not HostState.ACTIVE:
            return
        if code is ErrorCode.NONE:
            self._committed()
        elif code in SURVIVABLE:
            self._replies.fail(ApiError(code), up_to=self._written_end)
        elif code is ErrorCode.NOT_LEADER_OR_FOLLOWER:  # another node leads: nothing is wrong, and `close` follows
            self._stop(HostState.FAILED, ApiError(ErrorCode.NOT_COORDINATOR))
        else:
            self._fail(ApiError(code))

    def _committed(self) -> None:
        if self.state is HostState.ACTIVE:
            self._replies.advance(self._log.high_watermark)

    # --- life

    def close(self, error: ApiError) -> None:
        """The leadership is over; whoever waits is sent away with `error`."""
        if self.state is HostState.CLOSED:
            return
        self._stop(HostState.CLOSED, error)

    def _fail(self, error: ApiError) -> None:
        self._report("coordinator_failed", partition=self.index, error=str(error))
        self._stop(HostState.FAILED, error)

    def _stop(self, state: HostState, error: ApiError) -> None:
        was_active = self.state is HostState.ACTIVE
        self.state = state
        self._loader.cancel()
        self._timers.cancel_all()
        if was_active:
            self._log.remove_watcher(self._committed)
        turn, self._turn = self._turn, None
        if turn is not None:
            self._answer(turn.replies, error)
        self._replies.fail(error)
        effects = Effects(self._clock.time_ms())
        self.shard.unloaded(error, effects)
        self._answer(effects.replies, error)

    def _replay_loaded(self, record: Record, producer: ProducerIdentity | None) -> None:
        if record.key is None:
            self._report("coordinator_record_without_key", partition=self.index, offset=record.offset)
            return
        decoded = self._codec.decode(record.key, record.value)
        if decoded is None:
            self._report("coordinator_record_unknown", partition=self.index, offset=record.offset)
            return
        if producer is None:
            self.shard.replay(decoded)
        else:
            self._transactional().replay_pending(producer, decoded)
        self.records_loaded += 1

    def _end_loaded(self, producer_id: int, committed: bool) -> None:
        self._transactional().replay_end_transaction(producer_id, committed)

    def _loaded(self, error: Exception | None) -> None:
        if error is not None:
            self._fail(ApiError(ErrorCode.NOT_COORDINATOR, str(error)))
            return
        self._written_end = self._log.log_end_offset
        self.state = HostState.ACTIVE
        self._log.add_watcher(self._committed)
        self._report(
            "coordinator_loaded",
            partition=self.index,
            records=self.records_loaded,
            took_ms=round(self._clock.monotonic_ms() - self._started_ms),
        )
        effects = Effects(self._clock.time_ms())
        self.shard.loaded(effects)
        self._apply(effects)

    def _answer(self, replies: list[Reply], response: Any) -> None:
        for reply in replies:
            reply.call(response)

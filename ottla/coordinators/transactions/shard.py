"""The transactional ids that fall on one partition of `__transaction_state`.

What the log holds is changed by `replay` alone; the decisions are functions from one state of a transactional id to the
next. The end of a transaction takes two records. The first, PREPARE_*, decides: from then on it can end in no other
way. When it is committed the markers are sent, and when all of them are written the second, COMPLETE_*, follows.
"""

from collections.abc import Iterator, Set
from functools import partial
from typing import Final

from ottla.coordinators.groups.consumer.expressions import Matcher
from ottla.coordinators.runtime import Call, CoordinatorRecord, Effects
from ottla.coordinators.transactions import adding, admin, ending, initializing, records
from ottla.coordinators.transactions.config import TransactionConfig
from ottla.coordinators.transactions.connections import Connections
from ottla.coordinators.transactions.events import EndUnfinished, ExpiryCheck, TransactionTimedOut
from ottla.coordinators.transactions.markers import MarkerDriver
from ottla.coordinators.transactions.ports import Caller, EndedTransaction, TopicPartition
from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import (
    EPOCH_BUMPED_SINCE,
    Producer,
    Transaction,
    check_transition,
    from_value,
)
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.list_transactions_request import ListTransactionsRequest
from ottla.protocol.messages.list_transactions_response import TransactionState as ListedTransaction
from ottla.protocol.messages.transaction_log_key import TransactionLogKey

EXPIRY_TIMER: Final = ("expiry",)
IDS_IN_AN_EXPIRY_SLICE: Final = 500
UNFINISHED_RETRY_MS: Final = 1_000.0


class TransactionShard:
    """One shard. Operations raise ApiError, or ProducerIdNeeded, before they have changed anything."""

    def __init__(self, config: TransactionConfig, coordinator_epoch: int, markers: MarkerDriver) -> None:
        self._config, self._coordinator_epoch, self._markers = config, coordinator_epoch, markers
        self.transactions: dict[str, Transaction] = {}
        self._replaced: dict[str, Transaction | None] = {}
        """What this turn replaced."""
        self._connections = Connections()
        self._expiry: Iterator[str] | None = None
        """What a look that has begun has left."""

    # --- the log

    def replay(self, record: CoordinatorRecord) -> None:
        if not isinstance(record.key, TransactionLogKey):
            raise TypeError(f"not a record of a transactional id: {type(record.key).__name__}")
        transactional_id = record.key.transactional_id
        self._replaced.setdefault(transactional_id, self.transactions.get(transactional_id))
        self._put(transactional_id, None if record.value is None else from_value(record.value))

    def turn_written(self) -> None:
        for transactional_id in self._replaced:
            if transactional_id not in self.transactions:
                self._connections.forget(transactional_id)
        self._replaced.clear()
        self._connections.turn_written()

    def turn_failed(self, error: ApiError, effects: Effects) -> None:
        self._connections.take_back()
        replaced, self._replaced = self._replaced, {}
        for transactional_id, transaction in replaced.items():
            self._put(transactional_id, transaction)
            effects.cancel_timer(_timeout_timer(transactional_id))
            if transaction is None:
                continue
            if transaction.state is TransactionState.ONGOING:
                self._await_timeout(transactional_id, transaction, effects)
            elif transaction.state.is_prepared:
                # What is taken back is its completion. The markers are written, which is not remembered.
                effects.set_timer(("end", transactional_id), UNFINISHED_RETRY_MS, EndUnfinished(transactional_id))

    def loaded(self, effects: Effects) -> None:
        for transactional_id, transaction in self.transactions.items():
            if transaction.state is TransactionState.ONGOING:
                self._await_timeout(transactional_id, transaction, effects)
            elif transaction.state.is_prepared:
                self._send_markers(transactional_id, transaction, effects)
        self._await_expiry_check(effects)

    def unloaded(self, error: ApiError, effects: Effects) -> None:
        effects.reply(self._markers.close, None)

    def timer_fired(self, event: object, effects: Effects) -> None:
        match event:
            case TransactionTimedOut(transactional_id):
                self._timed_out(transactional_id, effects)
            case EndUnfinished(transactional_id):
                self.resume_end(transactional_id, effects)
            case ExpiryCheck():
                self._expiry_check(effects)
            case _:
                raise TypeError(f"not a timer of a transactional id: {event!r}")

    # --- producers

    def initialize(
        self,
        transactional_id: str,
        producer: Producer | None,
        timeout_ms: int,
        caller: Caller,
        new_producer_id: int | None,
        call: Call,
        effects: Effects,
    ) -> None:
        """Replies the Producer, or the ApiError to come back with."""
        transaction = initializing.initialize(
            self.transactions.get(transactional_id),
            producer,
            timeout_ms=timeout_ms,
            new_producer_id=new_producer_id,
            now_ms=effects.now_ms,
        )
        self._write(transactional_id, transaction, effects)
        if transaction.state.is_prepared:
            effects.reply(call, ApiError(ErrorCode.CONCURRENT_TRANSACTIONS))
        else:
            self._connections.initialized(transactional_id)
            effects.reply(call, transaction.producer)

    def add(
        self,
        transactional_id: str,
        producer: Producer,
        partitions: Set[TopicPartition],
        caller: Caller | None,
        call: Call,
        effects: Effects,
    ) -> None:
        """Replies this coordinator's epoch. `caller` is a client of the older flow, or None for a broker that adds for
        a newer client.
        """
        transaction = adding.add(
            self.transactions.get(transactional_id),
            producer,
            partitions,
            client_version=EPOCH_BUMPED_SINCE if caller is None else 0,
            now_ms=effects.now_ms,
        )
        self._check_connection(transactional_id, caller)
        self._write(transactional_id, transaction, effects)
        effects.reply(call, self._coordinator_epoch)

    def missing(
        self, transactional_id: str, producer: Producer, partitions: Set[TopicPartition]
    ) -> Set[TopicPartition]:
        """Those that are not part of the producer's transaction."""
        return adding.missing(self.transactions.get(transactional_id), producer, partitions)

    def end_with_same_epoch(
        self, transactional_id: str, producer: Producer, committed: bool, caller: Caller, call: Call, effects: Effects
    ) -> None:
        """Replies the Producer, which stays as it is."""
        transaction = ending.end_with_same_epoch(
            self.transactions.get(transactional_id), producer, committed=committed, now_ms=effects.now_ms
        )
        self._check_connection(transactional_id, caller)
        self._write(transactional_id, transaction, effects)
        effects.reply(call, transaction.producer)

    def end_with_next_epoch(
        self,
        transactional_id: str,
        producer: Producer,
        committed: bool,
        new_producer_id: int | None,
        call: Call,
        effects: Effects,
    ) -> None:
        """Replies the Producer as which the caller is to go on."""
        transaction = ending.end_with_next_epoch(
            self.transactions.get(transactional_id),
            producer,
            committed=committed,
            new_producer_id=new_producer_id,
            now_ms=effects.now_ms,
        )
        self._write(transactional_id, transaction, effects)
        effects.reply(call, transaction.next_producer)

    def _check_connection(self, transactional_id: str, caller: Caller | None) -> None:
        if caller is not None:
            self._connections.check(transactional_id, caller.connection)
            self._connections.used(transactional_id, caller.connection)

    # --- the end

    def markers_written(self, transactional_id: str, producer: Producer, effects: Effects) -> None:
        transaction = self.transactions.get(transactional_id)
        if transaction is not None and transaction.state.is_prepared and transaction.producer == producer:
            self._write(transactional_id, ending.complete(transaction, now_ms=effects.now_ms), effects)

    def resume_end(self, transactional_id: str, effects: Effects) -> None:
        transaction = self.transactions.get(transactional_id)
        if transaction is not None and transaction.state.is_prepared:
            self._send_markers(transactional_id, transaction, effects)

    def _send_markers(self, transactional_id: str, transaction: Transaction, effects: Effects) -> None:
        ended = EndedTransaction(
            transactional_id=transactional_id,
            producer_id=transaction.producer_id,
            producer_epoch=transaction.producer_epoch,
            coordinator_epoch=self._coordinator_epoch,
            committed=transaction.state.is_commit,
            partitions=tuple(sorted(transaction.partitions)),
            transaction_version=transaction.client_version,
        )
        effects.reply(partial(self._markers.end_written, ended), None)

    def _timed_out(self, transactional_id: str, effects: Effects) -> None:
        transaction = self.transactions.get(transactional_id)
        if transaction is not None and transaction.state is TransactionState.ONGOING:
            # Its producer must not go on with it, but may go on: KIP-588.
            aborted = ending.fence(transaction, previous_producer_id=transaction.producer_id, now_ms=effects.now_ms)
            self._write(transactional_id, aborted, effects)

    def _await_timeout(self, transactional_id: str, transaction: Transaction, effects: Effects) -> None:
        left_ms = transaction.start_ms + transaction.timeout_ms - effects.now_ms
        if left_ms > 0:
            delay_ms = min(left_ms, transaction.timeout_ms)  # the wall clock may have gone back
        else:
            # Not at once: this is also the way back from an abort that could not be written.
            delay_ms = self._config.transaction_abort_timed_out_transaction_cleanup_interval_ms
        effects.set_timer(_timeout_timer(transactional_id), delay_ms, TransactionTimedOut(transactional_id))

    # --- administration

    def list_transactions(
        self, request: ListTransactionsRequest, pattern: Matcher | None, now_ms: int
    ) -> list[ListedTransaction]:
        return [
            admin.listed(transactional_id, transaction)
            for transactional_id, transaction in self.transactions.items()
            if admin.matches(transaction, request, now_ms) and (pattern is None or pattern(transactional_id))
        ]

    # --- expiry

    def _await_expiry_check(self, effects: Effects) -> None:
        delay_ms = self._config.transaction_remove_expired_transaction_cleanup_interval_ms
        effects.set_timer(EXPIRY_TIMER, delay_ms, ExpiryCheck())
        self._expiry = None

    def _expiry_check(self, effects: Effects) -> None:
        """A slice of the ids at a time."""
        if self._expiry is None:
            self._expiry = iter(list(self.transactions))
        effects.atomic = False
        oldest_ms = effects.now_ms - self._config.transactional_id_expiration_ms
        for looked, transactional_id in enumerate(self._expiry, 1):
            transaction = self.transactions.get(transactional_id)
            if transaction is not None and _is_idle(transaction) and transaction.last_update_ms <= oldest_ms:
                effects.append(records.tombstone(transactional_id))
            if looked >= IDS_IN_AN_EXPIRY_SLICE:
                effects.set_timer(EXPIRY_TIMER, 1, ExpiryCheck())
                return
        self._await_expiry_check(effects)

    # --- changes

    def _write(self, transactional_id: str, transaction: Transaction, effects: Effects) -> None:
        """The next state of a transactional id, with what follows from it; nothing when it stays as it is."""
        before = self.transactions.get(transactional_id)
        if transaction is before:
            return
        check_transition(before, transaction)
        effects.append(records.transaction_record(transactional_id, transaction))
        if transaction.state is not TransactionState.ONGOING:
            effects.cancel_timer(_timeout_timer(transactional_id))
        elif before is None or before.state is not TransactionState.ONGOING:
            self._await_timeout(transactional_id, transaction, effects)
        if transaction.state.is_prepared:
            self._send_markers(transactional_id, transaction, effects)

    def _put(self, transactional_id: str, transaction: Transaction | None) -> None:
        if transaction is None:
            self.transactions.pop(transactional_id, None)
        else:
            self.transactions[transactional_id] = transaction


def _timeout_timer(transactional_id: str) -> tuple[str, str]:
    return "timeout", transactional_id


def _is_idle(transaction: Transaction) -> bool:
    return transaction.state is TransactionState.EMPTY or transaction.state.is_complete

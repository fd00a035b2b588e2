"""Planted bugs of transactions and groups: each breaks one rule of theirs, and the simulation must notice.

They join the others in `tests.sim.cluster.plants`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from ottla.coordinators.groups import transactional
from ottla.coordinators.groups.rebalance import Rebalance
from ottla.coordinators.groups.shard import GroupShard
from ottla.coordinators.runtime.replies import WaitingReplies
from ottla.coordinators.transactions import ending, initializing, shard
from ottla.coordinators.transactions.markers import MarkerDriver
from ottla.coordinators.transactions.shard import TransactionShard
from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import check_free
from ottla.core.errors import ErrorCode
from ottla.partitions import file_reads, recovery
from ottla.partitions.idle_producers import EARLIER, ROW, PackedTable
from ottla.partitions.partition import Partition
from ottla.partitions.producer_snapshot import restore_snapshot
from ottla.partitions.producer_state import ProducerStates
from ottla.partitions.verification import APPEND, Verifications
from ottla.records.header import read_header
from tests.sim.cluster.planting import Plants

PLANTS: Final = Plants()
plant = PLANTS.plant


# -- the transaction coordinator


@plant("markers are sent before the end of the transaction is in the log")
def early_markers() -> Iterator[None]:
    def send(self: TransactionShard, transactional_id: str, transaction: Any, effects: Any) -> None:
        honest(self, transactional_id, transaction, effects)
        start = effects.replies.pop().call
        self._markers._clock.call_soon(start, None)

    honest = TransactionShard._send_markers
    with patch.object(TransactionShard, "_send_markers", send):
        yield


@plant("coordinators answer before their records are committed")
def early_answers() -> Iterator[None]:
    def add(self: WaitingReplies, end_offset: int, replies: Any) -> None:
        for reply in replies:
            reply.call(reply.response)

    with patch.object(WaitingReplies, "add", add):
        yield


@plant("an EndTxn that comes late ends the next transaction")
def late_end() -> Iterator[None]:
    """Epochs of the end are not compared."""
    honest = check_free

    def any_epoch(transaction: Any, producer: Any) -> Any:
        if transaction is not None and producer.id == transaction.producer_id:
            producer = transaction.producer
        return honest(transaction, producer)

    with patch.object(ending, "check_free", any_epoch):
        yield


@plant("a transaction that timed out does not fence its producer")
def timeout_without_fence() -> Iterator[None]:
    def fence(transaction: Any, **more: Any) -> Any:
        return replace(honest(transaction, **more), producer_epoch=transaction.producer_epoch)

    honest = ending.fence
    with patch.object(ending, "fence", fence):
        yield


@plant("a coordinator that takes over aborts what was prepared to commit")
def other_outcome() -> Iterator[None]:
    """Markers go out twice, with another outcome."""

    def loaded(self: TransactionShard, effects: Any) -> None:
        for name, one in self.transactions.items():
            if one.state is TransactionState.PREPARE_COMMIT:
                self.transactions[name] = replace(one, state=TransactionState.PREPARE_ABORT)
        honest(self, effects)

    honest = TransactionShard.loaded
    with patch.object(TransactionShard, "loaded", loaded):
        yield


@plant("a coordinator that takes over does not send the markers that are missing")
def unfinished() -> Iterator[None]:
    def loaded(self: TransactionShard, effects: Any) -> None:
        known = self.transactions
        self.transactions = {name: one for name, one in known.items() if not one.state.is_prepared}
        try:
            honest(self, effects)
        finally:
            self.transactions = known

    honest = TransactionShard.loaded
    with patch.object(TransactionShard, "loaded", loaded):
        yield


@plant("a coordinator that takes over forgets the timeouts of open transactions")
def no_timeouts() -> Iterator[None]:
    def loaded(self: TransactionShard, effects: Any) -> None:
        known = self.transactions
        self.transactions = {n: one for n, one in known.items() if one.state is not TransactionState.ONGOING}
        try:
            honest(self, effects)
        finally:
            self.transactions = known

    honest = TransactionShard.loaded
    with patch.object(TransactionShard, "loaded", loaded):
        yield


@plant("a producer that begins leaves the transaction of its predecessor open")
def left_open() -> Iterator[None]:
    def initialize(transaction: Any, *arguments: Any, **more: Any) -> Any:
        if transaction is not None and transaction.state is TransactionState.ONGOING:
            transaction = replace(transaction, state=TransactionState.COMPLETE_ABORT)
        return honest(transaction, *arguments, **more)

    def unchecked(before: Any, after: Any) -> None:
        """Every transition goes."""

    honest = initializing.initialize
    with patch.object(initializing, "initialize", initialize), patch.object(shard, "check_transition", unchecked):
        yield


@plant("a transaction is complete when the first of its markers is written")
def first_marker() -> Iterator[None]:
    def written(self: MarkerDriver, transaction: Any, missing: Any, partitions: Any) -> None:
        honest(self, transaction, missing, list(missing))

    honest = MarkerDriver._written
    with patch.object(MarkerDriver, "_written", written):
        yield


@plant("what a coordinator tells a partition's leader counts after the marker too")
def late_grants() -> Iterator[None]:
    """As if it was told twice, and nothing showed how old the second one is."""

    def ended(self: Verifications, producer_id: int, epoch: int, transaction_version: int) -> None:
        honest(self, producer_id, epoch, transaction_version)
        if transaction_version < 2:
            self.granted(producer_id, epoch, 0)

    honest = Verifications.ended
    with patch.object(Verifications, "ended", ended):
        yield


# -- the group coordinator


@plant("offsets of a transaction count before it commits")
def early_offsets() -> Iterator[None]:
    def replay(self: GroupShard, producer: Any, record: Any) -> None:
        honest(self, producer, record)
        self.offsets.put(record.key.group, record.key.topic, record.key.partition, record.value)

    honest = GroupShard.replay_pending
    with patch.object(GroupShard, "replay_pending", replay):
        yield


@plant("offsets of a transaction count whatever its end")
def any_end() -> Iterator[None]:
    honest = GroupShard.replay_end_transaction
    with patch.object(
        GroupShard, "replay_end_transaction", lambda self, producer_id, _: honest(self, producer_id, True)
    ):
        yield


@plant("who asks for stable offsets is given what is about to change")
def unstable_offsets() -> Iterator[None]:
    honest = GroupShard.fetch
    with patch.object(
        GroupShard, "fetch", lambda self, request, version, stable: honest(self, request, version, False)
    ):
        yield


@plant("a partition is assigned to two members")
def two_owners() -> Iterator[None]:
    def spread(self: Rebalance, group: Any, assignments: dict[str, bytes], effects: Any) -> None:
        everything = bytes(sorted(set(b"".join(assignments.values()))))
        honest(self, group, dict.fromkeys(assignments, everything), effects)

    honest = Rebalance.spread_assignment
    with patch.object(Rebalance, "spread_assignment", spread):
        yield


@plant("a transaction's offsets are accepted from an old generation")
def old_generation() -> Iterator[None]:
    with patch.object(transactional, "check_committer", lambda group, request: None):
        yield


# -- partitions


@plant("the last stable offset does not wait for open transactions")
def ahead_of_open_ones() -> Iterator[None]:
    def first(self: ProducerStates, high_watermark: int) -> int | None:
        return min((start for start, marker in self._ended if marker >= high_watermark), default=None)

    with patch.object(ProducerStates, "first_unstable_offset", first):
        yield


@plant("the last stable offset passes a marker above the high watermark")
def past_the_marker() -> Iterator[None]:
    with patch.object(ProducerStates, "first_unstable_offset", lambda self, _: next(iter(self._open), None)):
        yield


@plant("epochs of producers are not checked on append")
def any_epoch() -> Iterator[None]:
    """Batches of an older epoch go into the log, and the coordinator is not asked about them."""

    def is_older(self: Partition, producer_id: int, epoch: int) -> bool:
        known = self.producers.get(producer_id)
        return known is not None and epoch < known.epoch

    with _not_asked_about(is_older):
        yield


@plant("a batch that comes after the marker of its transaction is accepted")
def after_the_marker() -> Iterator[None]:
    """Markers do not raise the epoch, and what the coordinator has agreed to once stays agreed."""

    def record(self: ProducerStates, header: Any, offset: int, timestamp: int, marker: Any) -> Any:
        known = self.get(header.producer_id)
        before = (known.epoch, list(known.batches)) if known is not None else None
        aborted = honest(self, header, offset, timestamp, marker)
        if known is not None and before is not None:
            known.epoch, batches = before
            known.batches.clear()
            known.batches.extend(batches)
        return aborted

    def has_ended(self: Partition, producer_id: int, epoch: int) -> bool:
        known = self.producers.get(producer_id)
        return known is not None and epoch <= known.epoch and known.transaction_first_offset is None

    honest = ProducerStates.record_marker
    with patch.object(ProducerStates, "record_marker", record), _not_asked_about(has_ended):
        yield


@contextmanager
def _not_asked_about(accepted: Callable[[Partition, int, int], bool]) -> Iterator[None]:
    """Batches of these producers and epochs are appended as if their transaction was under way."""

    def admit(self: Partition, producer_id: int, epoch: int, *arguments: Any, **more: Any) -> int:
        if accepted(self, producer_id, epoch):
            return APPEND
        return honest_admit(self, producer_id, epoch, *arguments, **more)

    def verified(self: Partition, header: Any, guard: int) -> None:
        if not accepted(self, header.producer_id, header.producer_epoch):
            honest_verified(self, header, guard)

    def check(self: ProducerStates, header: Any, origin: Any) -> None:
        known = self.get(header.producer_id)
        if known is None or header.producer_epoch >= known.epoch:
            honest_check(self, header, origin)

    honest_admit, honest_verified, honest_check = Partition.admit, Partition._check_verified, ProducerStates.check
    with (
        patch.object(Partition, "admit", admit),
        patch.object(Partition, "_check_verified", verified),
        patch.object(ProducerStates, "check", check),
    ):
        yield


@plant("a new leader forgets the sequences of producers")
def sequences_lost() -> Iterator[None]:
    def become_leader(self: Partition, *arguments: Any) -> None:
        states = self.producers
        states._recent = {one.producer_id: one for one in states if one.transaction_first_offset is not None}
        states._older, states.idle, states.earlier = {}, PackedTable(ROW.size), PackedTable(EARLIER.size)
        honest(self, *arguments)

    honest = Partition.become_leader
    with patch.object(Partition, "become_leader", become_leader):
        yield


@plant("a new leader forgets open transactions")
def open_ones_lost() -> Iterator[None]:
    def become_leader(self: Partition, *arguments: Any) -> None:
        self.producers._open.clear()
        for one in [self.producers.get(one.producer_id) for one in list(self.producers)]:
            assert one is not None
            one.transaction_first_offset = None
        honest(self, *arguments)

    honest = Partition.become_leader
    with patch.object(Partition, "become_leader", become_leader):
        yield


@plant("producers are not restored from a snapshot")
def snapshot_ignored() -> Iterator[None]:
    def restore(files: Any, directory: Any, names: Any, limit: Any, states: ProducerStates) -> int:
        return honest(files, directory, names, limit, ProducerStates())

    honest = restore_snapshot
    with patch.object(recovery, "restore_snapshot", restore):
        yield


@plant("a duplicate is acknowledged before its original is committed")
def duplicate_early() -> Iterator[None]:
    def append(self: Partition, batch: Any, *, done: Any, **more: Any) -> Any:
        header = read_header(batch)
        if done is None or header.producer_id < 0 or self.producers.find_duplicate(header) is None:
            return honest(self, batch, done=done, **more)
        appended = honest(self, batch, done=None, **more)
        done(ErrorCode.NONE)
        return appended

    honest = Partition.append
    with patch.object(Partition, "append", append):
        yield


@plant("readers are not told of aborted transactions")
def untold() -> Iterator[None]:
    with patch.object(file_reads, "aborted_between", lambda partition, start, end: []):
        yield


@plant("aborted transactions are forgotten at a start")
def aborted_forgotten() -> Iterator[None]:
    with patch.object(recovery._Recovery, "_aborted", lambda self, segments, end_offset: []):
        yield

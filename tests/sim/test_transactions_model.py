"""What a read_committed reader gets, over drawn histories; see `transactions_model`. And that planted bugs are seen."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from ottla.core.errors import ApiError
from ottla.partitions import cleaner, compaction, partition, producer_state
from ottla.partitions.compaction import CompactionResult
from ottla.partitions.partition import Partition
from ottla.partitions.producer_state import Producer, ProducerSnapshot, ProducerStates
from ottla.partitions.recovery import RecoveredLog
from ottla.records.control import EndTransactionMarker
from tests.sim.transactions_model import History

FIRST = int(os.environ.get("OTTLA_TRANSACTIONS_SEED", "0"))
SEEDS = int(os.environ.get("OTTLA_TRANSACTIONS_SEEDS", "40"))
STEPS = {False: 80, True: 160}  # compaction has something to do only after a while

Patch = Callable[[object, str, object], None]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
@pytest.mark.parametrize("compacted", [False, True])
def test_read_committed_gets_whole_transactions_and_no_others(seed: int, compacted: bool) -> None:
    """Again with one seed: OTTLA_TRANSACTIONS_SEED=<seed> OTTLA_TRANSACTIONS_SEEDS=1."""
    History(seed, compacted=compacted).run(STEPS[compacted])


PLANTS: dict[str, Callable[[Patch], None]] = {}


def plant(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    PLANTS[plant.__name__] = plant
    return plant


@plant
def stable_past_an_open_transaction(patch: Patch) -> None:
    def only_ended(self: ProducerStates, high_watermark: int) -> int | None:
        return min((first for first, marker in self._ended if marker >= high_watermark), default=None)

    patch(ProducerStates, "first_unstable_offset", only_ended)


@plant
def stable_past_a_marker_above_the_high_watermark(patch: Patch) -> None:
    patch(ProducerStates, "first_unstable_offset", lambda self, _: next(iter(self._open), None))


@plant
def markers_above_the_high_watermark_are_not_in_the_snapshot(patch: Patch) -> None:
    snapshot = ProducerStates.snapshot
    patch(ProducerStates, "snapshot", lambda self: replace(snapshot(self), ended=()))


@plant
def only_the_last_batch_is_in_the_snapshot(patch: Patch) -> None:
    """As Kafka's: a retry of the one before is refused after a restart."""
    snapshot = ProducerStates.snapshot
    patch(ProducerStates, "snapshot", lambda self: replace(snapshot(self), earlier=[]))


@plant
def the_snapshot_is_not_restored(patch: Patch) -> None:
    def nothing(self: ProducerStates, snapshot: ProducerSnapshot, end_offset: int) -> None:
        del snapshot
        self.end_offset = end_offset

    patch(ProducerStates, "restore", nothing)


@plant
def a_truncation_leaves_the_state_of_producers(patch: Patch) -> None:
    restart = Partition.restart

    def forgetful(self: Partition, recovered: RecoveredLog) -> None:
        if hasattr(self, "log"):
            recovered.producers = self.producers
        restart(self, recovered)

    patch(Partition, "restart", forgetful)


@plant
def idle_producers_are_forgotten(patch: Patch) -> None:
    patch(ProducerStates, "_pack", lambda self, _: None)


@plant
def packed_producers_lose_their_earlier_batches(patch: Patch) -> None:
    patch(Producer, "earlier_row", lambda _: None)


@plant
def a_duplicate_is_acknowledged_before_its_original_is_committed(patch: Patch) -> None:
    append = Partition.append

    def hasty(self: Partition, batch: memoryview, *, done: Callable[..., None] | None, **named: object) -> object:
        end = self.log_end_offset
        appended = append(self, batch, done=None, **named)  # type: ignore[arg-type]
        if done is not None and appended.last_offset < end:
            done(0)
        return appended

    patch(Partition, "append", hasty)


@plant
def an_aborted_transaction_is_not_remembered(patch: Patch) -> None:
    record = ProducerStates.record_marker

    def forget(self: ProducerStates, header: object, offset: int, now_ms: int, marker: EndTransactionMarker) -> None:
        record(self, header, offset, now_ms, marker)  # type: ignore[arg-type]

    patch(ProducerStates, "record_marker", forget)


@plant
def compaction_leaves_the_transaction_index(patch: Patch) -> None:
    def keep(partition: Partition, result: CompactionResult) -> None:
        del partition, result

    patch(cleaner, "_forget_aborted", keep)


@plant
def a_marker_goes_before_the_records_of_its_transaction(patch: Patch) -> None:
    class Nothing(set[int]):
        def __contains__(self, _: object) -> bool:
            return False

    begin = compaction._Cleaner.__init__

    def blind(self: compaction._Cleaner, *arguments: object) -> None:
        begin(self, *arguments)  # type: ignore[arg-type]
        self.with_batches = Nothing()

    patch(compaction._Cleaner, "__init__", blind)


@plant
def deleted_records_hold_the_stable_offset_back(patch: Patch) -> None:
    patch(partition.Partition, "move_log_start", _move_only)


def _move_only(self: Partition, offset: int) -> None:
    self.log_start_offset = max(offset, self.log_start_offset)


@pytest.mark.interpreted
def test_nothing_is_seen_when_producers_are_packed_as_soon_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_state, "RECENT_PRODUCERS", 2)
    for seed in range(10):
        for compacted in (False, True):
            History(seed, compacted=compacted).run(STEPS[compacted])


@pytest.mark.interpreted
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_state, "RECENT_PRODUCERS", 2)
    PLANTS[name](monkeypatch.setattr)
    for seed in range(130):
        for compacted in (False, True):
            try:
                History(seed, compacted=compacted).run(STEPS[compacted])
            except (AssertionError, ApiError):
                return
    pytest.fail("nobody noticed")

"""One replica of a partition on this node: append, read, and the offsets that clients see.

    ONLINE ── a write or sync fails, damage is found ──▶ OFFLINE(error)     until the node starts again

`Log` knows bytes and ends; the replica adds Kafka's rules: who may append what, what a producer waits for, how far a
consumer may look. Everything happens on the loop and nothing awaits; what is not at hand comes through a callback.

A partition without a `role` has one replica: what is durable is committed. With several, the role
(`replication.leading`, `replication.following`) hears of every move of the log, and moves the high watermark.
"""

from collections.abc import Callable
from typing import Final

import structlog

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, CorruptBatch, CorruptLog, KnownDamage
from ottla.core.types import Uuid
from ottla.partitions import upkeep
from ottla.partitions.config import LogConfig
from ottla.partitions.environment import Environment
from ottla.partitions.epoch_cache import EpochCache
from ottla.partitions.log import Log
from ottla.partitions.producer_state import ProducerSnapshot, ProducerStates
from ottla.partitions.readable import ReadablePartition
from ottla.partitions.recompression import recompress
from ottla.partitions.recovery import RecoveredLog
from ottla.partitions.results import Appended, Origin, State
from ottla.partitions.role import ReplicaRole
from ottla.partitions.segment import Segment
from ottla.partitions.validation import check_batch, refuse_clients
from ottla.partitions.verification import NO_GUARD, Resume, Verifications
from ottla.partitions.waiters import Waiters
from ottla.records.control import EndTransactionMarker, read_end_transaction_marker
from ottla.records.header import (
    TRANSACTIONAL_FLAG,
    BatchHeader,
    patch_base_offset,
    patch_log_append_time,
    read_header,
)

Done = Callable[[ErrorCode], None]

logger: Final = structlog.get_logger(__name__)


class Partition(ReadablePartition):
    """See the module. `watchers` are called when an offset that readers see, or the leadership, moved."""

    __slots__ = ("_committed_waiters", "_written_waiters", "aborted_changed", "beginning_anew", "cleaned_to",
                 "compacting", "compaction_failed_at", "config", "epochs_changed", "index", "is_aside", "is_damaged",
                 "is_leader", "leader_epoch", "producers", "recovery_limit", "recovery_point", "saved_size",
                 "snapshots", "topic", "topic_id", "unsaved", "verifications", "was_truncated", "watchers",
                 "when_begun_anew")  # fmt: skip

    def __init__(
        self,
        environment: Environment,
        *,
        topic: str,
        topic_id: Uuid,
        index: int,
        config: LogConfig,
        recovered: RecoveredLog,
        leader_epoch: int = 0,
        is_leader: bool = True,
    ) -> None:
        self.environment = environment
        self.topic, self.topic_id, self.index, self.config = topic, topic_id, index, config
        self.leader_epoch, self.is_leader = leader_epoch, is_leader
        self.is_aside = False  # see `step_aside`
        self.state = State.ONLINE
        self.error = None
        self.was_truncated = bool(recovered.truncated_bytes)  # at this start: the end of the log was not whole
        self.is_damaged = isinstance(recovered.error, CorruptLog | CorruptBatch | KnownDamage)  # from the start on
        self.role = None
        self.high_watermark = 0
        self.recovery_limit: int | None = None  # a truncation is about to cut here: nothing above counts as durable
        self.recovery_point = 0  # as last saved
        self.cleaned_to = 0  # below it, keys are unique
        self.compacting = False
        self.compaction_failed_at = -1  # base offset of the active segment then
        self.beginning_anew = False  # see `mirroring.begin_at`: nothing may be appended
        self.when_begun_anew: Callable[[], None] | None = None  # who has another role for this replica waits
        self._written_waiters = Waiters()
        self._committed_waiters = Waiters()
        self.verifications = Verifications()
        self.watchers: dict[Callable[[], None], None] = {}
        self.restart(recovered)
        # Of a single replica all that survived is committed. Of one among several, `start_replicated` tells.
        self.high_watermark = self.log.log_end_offset if is_leader else self.log_start_offset
        self.last_stable_offset = self._stable_offset()
        if recovered.error is not None:
            self.log.fail(recovered.error)

    def restart(self, recovered: RecoveredLog) -> None:
        """Take over what was found on disk: at a start, and after a truncation (the old log is abandoned then)."""
        self.epochs = EpochCache(recovered.epochs)
        self.producers: ProducerStates = recovered.producers
        self.aborted = recovered.aborted
        self.log = Log(self.environment, recovered.directory, self.topic_id, self.config, recovered.segments, self)
        self.log.reread = self.is_leader
        self.log_start_offset = recovered.log_start_offset
        self.high_watermark = min(self.high_watermark, self.log.log_end_offset)
        self.producers.replicated(self.high_watermark)
        self.last_stable_offset = self._stable_offset()
        # What is to be saved beside the log.
        self.unsaved: list[Segment] = [s for s in recovered.segments[:-1] if s.index is not None]
        self.snapshots: list[tuple[int, ProducerSnapshot]] = []
        self.saved_size = recovered.saved_size
        self.aborted_changed = bool(recovered.aborted)
        self.epochs_changed = recovered.epochs_changed

    # -- what others see

    @property
    def log_end_offset(self) -> int:
        return self.log.log_end_offset

    @property
    def size_bytes(self) -> int:
        return self.log.size_bytes

    @property
    def name(self) -> str:
        return f"{self.topic}-{self.index}"

    def add_watcher(self, watcher: Callable[[], None]) -> None:
        self.watchers[watcher] = None

    def remove_watcher(self, watcher: Callable[[], None]) -> None:
        self.watchers.pop(watcher, None)

    # -- roles

    def start_replicated(self, high_watermark: int) -> None:
        """One of several replicas: only what the checkpoint of the high watermark says is known to be committed."""
        self.high_watermark = max(min(high_watermark, self.log.log_end_offset), self.log_start_offset)
        self.last_stable_offset = self._stable_offset()

    def become_leader(self, leader_epoch: int, role: ReplicaRole | None) -> None:
        """Lead from now on; the epoch begins at the log end, and must be none that an earlier incarnation led."""
        self.leader_epoch, self.role, self.is_leader, self.is_aside = leader_epoch, role, True, False
        self.log.reread = True
        self.verifications.clear(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if role is not None:  # followers may come with epochs that this log never saw
            self.epochs.assign(leader_epoch, self.log.log_end_offset)
        self._notify()

    def become_follower(self, leader_epoch: int, role: ReplicaRole) -> None:
        """Follow, or wait for a leader: whoever waits here is sent away."""
        self.leader_epoch, self.role, self.is_leader, self.is_aside = leader_epoch, role, False, False
        self.log.reread = False
        self.epochs.truncate_end(self.log.log_end_offset)  # an epoch that was led without a record
        self._send_away()

    def step_aside(self) -> None:
        """Send clients away as a follower would; for other replicas this one leads until metadata say that it does not.

        Of a leader that resigned because its disk stalls: it may be long before it reads who leads instead.
        """
        if self.is_leader:
            self.is_leader, self.is_aside = False, True
            self._send_away()

    def step_back(self) -> None:
        """Serve clients again, if nobody else leads by now."""
        if self.is_aside:
            self.is_leader, self.is_aside = True, False
            self._notify()

    def refuse_while_beginning_anew(self) -> None:
        """Raises ApiError: what was appended now would go with the old log."""
        if self.beginning_anew:
            raise ApiError(ErrorCode.LEADER_NOT_AVAILABLE, f"the log of {self.name} is being begun anew")

    def begun_anew(self) -> None:
        """The log is another one, or out of service."""
        self.beginning_anew = False
        waiting, self.when_begun_anew = self.when_begun_anew, None
        if waiting is not None:
            waiting()

    def _send_away(self) -> None:
        self.refuse_waiting(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._written_waiters.fail(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.verifications.clear(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._notify()

    def refuse_waiting(self, code: ErrorCode) -> None:
        """Answer all who wait for the high watermark."""
        self._committed_waiters.fail(code)

    @property
    def latest_is_known(self) -> bool:
        """Whether the high watermark may be shown as the end of the log: else OFFSET_NOT_AVAILABLE (KIP-207)."""
        return self.role is None or self.role.latest_is_known

    # -- append

    def admit(self, producer_id: int, epoch: int, sequence: int, *, adds: bool, resume: Resume) -> int:
        """Whether a transactional batch may be appended at once, or after a question to its transaction's coordinator.

        See `Verifications.admit`. Raises ApiError when it may not be appended at all.
        """
        if not self.is_leader:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        refuse_clients(self.config)
        producers = self.producers
        producers.check_epoch(producer_id, epoch)
        return self.verifications.admit(
            producer_id,
            epoch,
            sequence,
            ongoing=producers.is_ongoing(producer_id, epoch),
            is_known=producers.is_known(producer_id),
            adds=adds,
            now_ms=self.environment.clock.time_ms(),
            resume=resume,
        )

    def grant(self, producer_id: int, epoch: int, *, coordinator_epoch: int, leader_epoch: int) -> None:
        """A transaction's coordinator tells, unasked, that the partition belongs to it now (KIP-890).

        It counts for nothing when anything shows that it may be over: another leader since, a marker of a younger
        coordinator, a younger epoch of the producer. Of the same coordinator none comes after the marker that ends it.
        """
        if not self.is_leader or leader_epoch != self.leader_epoch or self.config.mirror_source:
            return
        producer = self.producers.get(producer_id)
        if producer is not None and (
            epoch < producer.epoch
            or coordinator_epoch < producer.coordinator_epoch
            or (epoch == producer.epoch and producer.transaction_first_offset is not None)
        ):
            return
        self.verifications.granted(producer_id, epoch, self.environment.clock.time_ms())

    def append(
        self,
        batch: memoryview,
        *,
        acks: int,
        done: Done | None,
        origin: Origin = Origin.CLIENT,
        guard: int = NO_GUARD,
        transaction_version: int = 0,
    ) -> Appended:
        """Check a batch, give it offsets and queue it; ApiError when it is refused.

        The buffer belongs to the partition from here on. `done(NONE)` comes when the level of `acks` is reached:
        -1 committed, 1 written; `done(error)` when it never will be. It may run inside of this call only for a
        duplicate whose original is committed already. `guard`: of the verification under which a batch begins its
        transaction. `transaction_version`: of the transaction that a marker ends.
        """
        if self.state is not State.ONLINE:
            raise self.storage_error()
        if not self.is_leader:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if self.beginning_anew:
            self.refuse_while_beginning_anew()
        role = self.role
        if role is not None and acks == -1 and not role.has_enough_replicas:
            raise ApiError(ErrorCode.NOT_ENOUGH_REPLICAS, f"{self.name} has fewer than min.insync.replicas in sync")
        now_ms = self.environment.clock.time_ms()
        config = self.config
        header = check_batch(batch, config, origin, now_ms)
        if config.compression is not None and origin is Origin.CLIENT and header.compression is not config.compression:
            batch = recompress(batch, config)
            header = read_header(batch)
        marker: EndTransactionMarker | None = None
        if header.producer_id >= 0:
            if header.is_control:
                marker = read_end_transaction_marker(batch, check_crc=False)
                self.producers.check_marker(header, marker, transaction_version)
            else:
                if origin is Origin.CLIENT:  # only clients repeat batches; those of coordinators have no sequence
                    duplicate = self.producers.find_duplicate(header)
                    if duplicate is not None:
                        if done is not None:
                            self._wait(acks, duplicate.last_offset + 1, done)
                        return Appended(duplicate.base_offset, duplicate.last_offset, -1, self.log_start_offset)
                if header.attributes & TRANSACTIONAL_FLAG:
                    self._check_verified(header, guard)
                self.producers.check(header, origin)
        log = self.log
        base_offset = log.log_end_offset
        last_offset = base_offset + header.last_offset_delta
        append_time_ms = -1
        if config.log_append_time:
            append_time_ms = header.max_timestamp = now_ms
            patch_log_append_time(batch, 0, now_ms)
        epoch = self.leader_epoch
        patch_base_offset(batch, 0, base_offset, epoch)
        if epoch != self.epochs.latest:
            self.epochs_changed |= self.epochs.assign(epoch, base_offset)
        log.append(batch, header, last_offset, now_ms)
        if header.producer_id >= 0:
            self._record(header, base_offset, now_ms, marker)
        if role is not None:
            role.appended()
        if done is not None:
            self._wait(acks, last_offset + 1, done)
        if marker is not None:
            self.verifications.ended(header.producer_id, header.producer_epoch, transaction_version)
        elif guard:
            self.verifications.begun(header.producer_id, header.producer_epoch)
        return Appended(base_offset, last_offset, append_time_ms, self.log_start_offset)

    def _check_verified(self, header: BatchHeader, guard: int) -> None:
        """Raise ApiError when a batch would begin a transaction that its coordinator did not agree to."""
        producer_id, epoch, producers = header.producer_id, header.producer_epoch, self.producers
        if not producers.is_ongoing(producer_id, epoch):
            producers.check_epoch(producer_id, epoch)
            is_known = producers.is_known(producer_id)
            self.verifications.check(producer_id, epoch, header.base_sequence, guard, is_known=is_known)

    def append_replicated(self, batch: memoryview) -> None:
        """Queue a batch of the leader as it is: it was judged there, and its offsets are the leader's.

        Raises ApiError when it was damaged on the way, or does not follow the last one. The buffer belongs to the
        partition from here on. A compacted log has gaps.
        """
        if self.state is not State.ONLINE:
            raise self.storage_error()
        log = self.log
        now_ms = self.environment.clock.time_ms()
        header = check_batch(batch, self.config, Origin.REPLICATION, now_ms)
        base_offset, epoch = header.base_offset, header.partition_leader_epoch
        gap = base_offset - log.log_end_offset
        if gap < 0 or (gap and not self.config.cleanup_compact) or header.last_offset_delta < 0:
            raise ApiError(
                ErrorCode.CORRUPT_MESSAGE,
                f"{self.name} got offsets {base_offset} to {header.last_offset} where {log.log_end_offset} was due",
            )
        self.take(batch, header, marker_of(batch, header), epoch, now_ms)

    def take(
        self, batch: memoryview, header: BatchHeader, marker: EndTransactionMarker | None, epoch: int, now_ms: int
    ) -> None:
        """Queue a batch that has its offsets, which was judged where it came from."""
        base_offset = header.base_offset
        if epoch != self.epochs.latest:
            self.epochs_changed |= self.epochs.assign(epoch, base_offset)
        self.log.append(batch, header, header.last_offset, now_ms)
        if header.producer_id >= 0:
            self._record(header, base_offset, now_ms, marker)

    def _record(self, header: BatchHeader, base_offset: int, now_ms: int, marker: EndTransactionMarker | None) -> None:
        if marker is not None:
            aborted = self.producers.record_marker(header, base_offset, now_ms, marker)
            if aborted is not None:
                self.aborted.append(aborted)
                self.aborted_changed = True
        elif not header.is_control:
            self.producers.record(header, base_offset, now_ms)

    def when_committed(self, end_offset: int, done: Done) -> None:
        """Call once everything below `end_offset` is committed, here if it is; or with why it never will be."""
        if end_offset <= self.high_watermark:
            done(ErrorCode.NONE)
        else:
            self._committed_waiters.add(end_offset, done)

    def _wait(self, acks: int, end_offset: int, done: Done) -> None:
        if acks == -1:
            self.when_committed(end_offset, done)
        elif end_offset <= self.log.kept_end_offset:
            done(ErrorCode.NONE)
        else:
            self._written_waiters.add(end_offset, done)
            self.log.notice_written()

    # -- events of the log

    def on_written(self) -> None:
        log = self.log
        if self._written_waiters:
            self._written_waiters.reached(log.kept_end_offset)
        synced = log.synced_end_offset
        role = self.role
        if role is not None:
            role.synced(synced)
        elif synced > self.high_watermark:
            self.advance(synced)

    def on_roll(self, sealed: Segment) -> None:
        self.unsaved.append(sealed)
        grown = sealed.size - self.saved_size
        if grown >= self.producers.size_bytes:  # else there would be more written of producers than of records
            self.snapshots.append((self.log.log_end_offset, self.producers.snapshot()))
            grown = 0
        self.saved_size = -grown

    def on_failed(self, error: Exception) -> None:
        self.state, self.error = State.OFFLINE, error
        logger.error(
            "a partition is offline until this node starts again, or the replica is made anew",
            partition=self.name,
            error=str(error),
        )
        self.environment.failed()
        self._written_waiters.fail(ErrorCode.KAFKA_STORAGE_ERROR)
        self._committed_waiters.fail(ErrorCode.KAFKA_STORAGE_ERROR)
        self.verifications.clear(ErrorCode.KAFKA_STORAGE_ERROR)
        if self.role is not None:
            self.role.failed()
        self._notify()

    def advance(self, high_watermark: int) -> None:
        """The high watermark moved on."""
        self.high_watermark = high_watermark
        self.producers.replicated(high_watermark)
        self.last_stable_offset = self._stable_offset()
        self._committed_waiters.reached(high_watermark)
        if self.watchers:
            self._notify()

    def _stable_offset(self) -> int:
        unstable = self.producers.first_unstable_offset(self.high_watermark)
        if unstable is None or unstable >= self.high_watermark:
            return self.high_watermark
        return max(unstable, self.log_start_offset)  # the beginning of a transaction may have been deleted

    def _notify(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()

    # -- administration: see `upkeep`

    def update_config(self, config: LogConfig) -> None:
        """Topic configs changed."""
        self.config = self.log.config = config
        if self.state is State.ONLINE:
            self.on_written()

    def move_log_start(self, offset: int) -> None:
        """Records before `offset` are gone for readers."""
        if offset <= self.log_start_offset:
            return
        self.log_start_offset = offset
        self.epochs.truncate_start(offset)
        self.epochs_changed = True
        self.aborted = [aborted for aborted in self.aborted if aborted.last_offset >= offset]
        self.last_stable_offset = self._stable_offset()
        self._notify()

    def delete_records(self, offset: int, done: Callable[[int | ApiError], None]) -> None:
        """Move the log start to `offset` (-1: the high watermark); `done(log start)` once that is durable."""
        if self.state is not State.ONLINE:
            raise self.storage_error()
        upkeep.delete_records(self, offset, done)

    def truncate(self, offset: int, done: Callable[[Exception | None], None]) -> None:
        """Cut the log at `offset`, as a follower does where it diverged; nothing may be appended until `done`."""
        upkeep.truncate(self, offset, done)

    def close(self, done: Callable[[], None]) -> None:
        """Write and sync what is queued, then call `done`; nothing may be appended any more."""
        upkeep.close(self, done)


def marker_of(batch: memoryview, header: BatchHeader) -> EndTransactionMarker | None:
    """The marker that a stored batch holds. Raises CorruptBatch. Kafka's compaction may leave a batch without one."""
    if header.producer_id < 0 or not header.is_control or not header.record_count:
        return None
    return read_end_transaction_marker(batch, check_crc=False)

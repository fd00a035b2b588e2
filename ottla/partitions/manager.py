"""All partitions of one node's data directory: opening them, the checkpoints that they share, housekeeping.

A partition's directory appears with its first record, so a topic without records costs no inode. A directory that
belongs to another topic id (the topic was deleted and created again meanwhile) is moved out of the way, never read.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog

from ottla.core.errors import KnownDamage, StorageError
from ottla.core.ports import Clock, Disk, Worker
from ottla.core.types import Uuid, format_uuid
from ottla.partitions.checkpoints import (
    CLEANER_FILE,
    DAMAGE_FILE,
    HIGH_WATERMARK_FILE,
    LOG_START_FILE,
    PARTITION_METADATA_FILE,
    RECOVERY_POINT_FILE,
    TopicPartition,
    encode_offsets,
    read_offsets,
    read_partition_metadata,
)
from ottla.partitions.cleaner import Cleaner
from ottla.partitions.config import LogConfig
from ottla.partitions.environment import Environment
from ottla.partitions.journal import DEFAULT_FILE_BYTES, SharedJournal
from ottla.partitions.lanes import run_in_lanes
from ottla.partitions.partition import Partition
from ottla.partitions.producer_expiry import ProducerExpiry
from ottla.partitions.recovery import RecoveredLog, empty_log, recover
from ottla.partitions.sidecars import SidecarJob
from ottla.partitions.upkeep import expire, prepare_sidecars

logger: Final = structlog.get_logger(__name__)

CHECKPOINT_INTERVAL_MS: Final = 1000
# As many intervals when nothing was written meanwhile, and then twice as many each time: what moves without a write is
# the high watermark of a follower, soon after the last one.
_IDLE_TICKS: Final = 5
_MOST_IDLE_TICKS: Final = 60
REMOVAL_LOOK_MS: Final = 10
REMOVAL_RETRY_MS: Final = 1000
MAX_REMOVAL_RETRY_MS: Final = 60_000
STRAY_SUFFIX: Final = "-stray"
CLEAN_STOP_FILE: Final = ".kafka_cleanshutdown"
_NO_EPOCH: Final = -1
DELETE_SUFFIX: Final = "-delete"
DAMAGED_SUFFIX: Final = "-damaged"
_MAX_NAME_BYTES: Final = 255


class PartitionManager:
    """Owns every `Partition` of this node."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        *,
        worker: Worker | None = None,
        producer_expiration_ms: int = 86_400_000,
        journal_bytes: int = DEFAULT_FILE_BYTES,
    ) -> None:
        """`journal_bytes`: the size of each of the shared journal's two files; 0 for none."""
        self.producer_expiration_ms = producer_expiration_ms
        journal = SharedJournal(disk, clock, file_bytes=journal_bytes) if journal_bytes else None
        self.environment = Environment(disk, clock, worker=worker, journal=journal)
        self._partitions: dict[TopicPartition, Partition] = {}
        self._recovery_points: dict[TopicPartition, int] = {}
        self._log_starts: dict[TopicPartition, int] = {}
        self._cleaned: dict[TopicPartition, int] = {}
        self._directories: set[str] = set()
        self._damaged: set[str] = set()  # directories that were set aside, at most one of a partition and topic id
        self.leaving: set[str] = set()  # directories of partitions that are being removed
        self._expiry = ProducerExpiry(clock)
        self._rounds, self._idle_ticks = -1, 0  # of the environment, and how long they have been as many
        self._idle_patience = _IDLE_TICKS
        self._unsynced = False  # something was written without a sync
        self._checkpointing = False
        self._forgotten: set[TopicPartition] = set()  # since the checkpoint under way was begun, which knows them still
        self._checkpoint_waiters: list[Callable[[Exception | None], None]] = []
        self._stopped = True
        self._clean = False
        self.broker_epoch = _NO_EPOCH  # of the registration under which this node runs; written down at an orderly stop
        self.stopped_epoch = _NO_EPOCH  # the one that was written down by the last stop, if that was orderly (KIP-966)
        self._cleaner = Cleaner(self.environment)
        self.environment.checkpoint = self.checkpoint
        self._saved: tuple[dict[TopicPartition, int] | None, ...] = _UNKNOWN  # of each file what it holds

    def open(self) -> None:
        """Read the node's checkpoints and directory names. Blocks: at start, before `create`."""
        files = self.environment.disk.files
        self._recovery_points = read_offsets(files, RECOVERY_POINT_FILE)
        self._log_starts = read_offsets(files, LOG_START_FILE)
        self._cleaned = read_offsets(files, CLEANER_FILE)
        self._saved = (dict(self._recovery_points), dict(self._log_starts), None, dict(self._cleaned))
        self._directories = set(files.list_directory(""))
        self._clean = CLEAN_STOP_FILE in self._directories
        if self._clean:
            self.stopped_epoch = _stopped_epoch(files.read_bytes(CLEAN_STOP_FILE))
            files.remove(CLEAN_STOP_FILE)
        files.sync_directory("")  # after a crash, directories may be there whose names are not durable yet
        if (journal := self.environment.journal) is not None:
            redone = journal.recover(clean=self._clean)
            if redone:
                logger.info("wrote what the journal held to its places", bytes=redone)
            journal.prepare()
        for name in sorted(self._directories):
            if name.endswith(DELETE_SUFFIX):
                self._delete_tree(name)
            elif name.endswith(DAMAGED_SUFFIX):
                self._damaged.add(name)
                logger.warning(
                    "what was kept of a damaged replica takes room; delete it when others are in sync", directory=name
                )
        self._stopped = False
        self._schedule()

    def create(
        self,
        topic: str,
        topic_id: Uuid,
        index: int,
        config: LogConfig,
        *,
        leader_epoch: int = 0,
        is_leader: bool = True,
        is_counted_on: bool = True,
    ) -> Partition:
        """The partition, recovered from its directory if it has one (that blocks: only at start).

        `is_counted_on`: it is in sync, or may be elected; then damage that its readers found is no reason to stay
        offline, as what is sound of it may be all that is left.
        """
        key = (topic, index)
        known = self._partitions.get(key)
        if known is not None:
            return known
        partition = Partition(
            self.environment,
            topic=topic,
            topic_id=topic_id,
            index=index,
            config=config,
            recovered=self._recover(key, topic_id, config, is_counted_on=is_counted_on),
            leader_epoch=leader_epoch,
            is_leader=is_leader,
        )
        self._partitions[key] = partition
        partition.cleaned_to = min(self._cleaned.get(key, 0), partition.log.active.base_offset)
        if not partition.log_end_offset and self._forget(key):
            # Offsets of an earlier topic of this name: until they are gone from disk, a crash would take them for ours.
            partition.log.block()
            self.checkpoint(lambda _: partition.log.unblock())
        return partition

    def remove(
        self, topic: str, index: int, done: Callable[[], None], *, may_return: bool = False, keep: bool = False
    ) -> None:
        """Forget a partition and delete its files; `done` when its name is free again. What fails is tried again.

        `may_return`: the topic stays, so the very same partition may be created here again. Only its topic id keeps a
        redo of the journal out of another one's files, so the journal has to let go of it first. `keep`: its damaged
        files are set aside, in the place of any that were before.
        """
        key = (topic, index)
        partition = self._partitions.pop(key, None)
        if partition is None:
            done()
            return
        self._forget(key)
        partition.is_leader = partition.is_aside = False
        log, files, retry_ms = partition.log, self.environment.disk.files, REMOVAL_RETRY_MS
        doomed = name_apart(log.directory, partition.topic_id, DAMAGED_SUFFIX if keep else DELETE_SUFFIX)
        if partition.error is not None:
            self.environment.failed()  # one less

        def move_away() -> bool:
            if files.exists(log.directory):
                if files.exists(doomed):  # what an earlier removal of this partition could not delete
                    files.remove_tree(doomed)
                files.rename(log.directory, doomed)
            files.sync_directory("")  # also when only this failed the last time
            return files.exists(doomed)

        def moved(exists: bool | None, error: Exception | None) -> None:
            log.abandon()
            log.fail(StorageError("the partition was deleted"))
            if exists and keep:
                self._damaged.add(doomed)
            elif exists:
                self._delete_tree(doomed)
            journal = self.environment.journal
            if error is None and may_return and journal is not None:
                journal.retire(retired)
            else:
                retired(error)

        def retired(error: Exception | None) -> None:
            if error is not None:
                finished(error)
            else:
                self.checkpoint(finished)

        def finished(error: Exception | None) -> None:
            nonlocal retry_ms
            if error is None:
                self.leaving.discard(log.directory)
                done()
            elif not self._stopped:
                # Until then the name stays taken: a new partition there would find the old one's files.
                logger.error(
                    "a deleted partition is still on disk; its removal is tried again",
                    partition=log.directory,
                    error=str(error),
                    in_ms=retry_ms,
                )
                self.environment.clock.call_later(retry_ms, begin)
                retry_ms = min(2 * retry_ms, MAX_REMOVAL_RETRY_MS)

        def begin() -> None:
            if log.failed is None:
                log.exclusive(move_away, moved)
            elif log.has_job:  # it would make its segment in a directory of the name that is to be free
                self.environment.clock.call_later(REMOVAL_LOOK_MS, begin)
            else:  # what the journal holds of it goes to these files, and to none that get their names
                self.environment.late.write_all(lambda: self.environment.disk.submit(move_away, moved))

        self._directories.discard(log.directory)
        self.leaving.add(log.directory)
        begin()

    def _forget(self, key: TopicPartition) -> bool:
        """What the checkpoints say of a partition that is here no more; whether they said anything."""
        self._forgotten.add(key)
        recovery_point, log_start = self._recovery_points.pop(key, 0), self._log_starts.pop(key, 0)
        return bool(recovery_point or log_start)

    def drop_damaged(self, topic: str, topic_id: Uuid, index: int) -> None:
        """Delete what was set aside of this partition (`remove` with `keep`), if anything was; in the background."""
        directory = name_apart(f"{topic}-{index}", topic_id, DAMAGED_SUFFIX)
        if directory in self._damaged:
            self._damaged.discard(directory)
            logger.info("deleted what was kept of a damaged replica, as it is here no more", directory=directory)
            self._delete_tree(directory)

    def _delete_tree(self, directory: str) -> None:
        files = self.environment.disk.files

        def deleted(_: None, error: Exception | None) -> None:
            if error is not None:
                logger.warning("could not delete the files of a partition", directory=directory, error=str(error))

        self.environment.disk.submit(lambda: files.remove_tree(directory), deleted)

    def get(self, topic: str, index: int) -> Partition | None:
        return self._partitions.get((topic, index))

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions.values())

    def __len__(self) -> int:
        return len(self._partitions)

    def _recover(self, key: TopicPartition, topic_id: Uuid, config: LogConfig, *, is_counted_on: bool) -> RecoveredLog:
        directory = f"{key[0]}-{key[1]}"
        if directory not in self._directories:
            return empty_log(directory)
        files = self.environment.disk.files
        metadata = f"{directory}/{PARTITION_METADATA_FILE}"
        try:
            found_id = read_partition_metadata(files, metadata)
        except FileNotFoundError:  # a crash came between the directory and its first file
            return empty_log(directory)
        except StorageError as error:
            failed = empty_log(directory)
            failed.error = error
            return failed
        if found_id != topic_id:
            stray = name_apart(directory, found_id, STRAY_SUFFIX)
            files.rename(directory, stray)
            files.sync_directory("")
            self._directories.discard(directory)
            logger.warning("moved the directory of another topic id away", directory=directory, moved_to=stray)
            return empty_log(directory)
        recovered = recover(
            files,
            directory,
            config,
            recovery_point=self._recovery_points.get(key, 0),
            log_start_offset=self._log_starts.get(key, 0),
            now_ms=self.environment.clock.time_ms(),
            clean=self._clean,
        )
        found = f"{directory}/{DAMAGE_FILE}"
        if recovered.error is None and not is_counted_on and files.exists(found):
            recovered.error = KnownDamage(files.read_bytes(found).decode(errors="replace"))
        if recovered.error is not None:
            logger.error("a partition is offline", partition=directory, error=str(recovered.error))
        elif recovered.truncated_bytes:
            logger.warning(
                "cut a torn tail off",
                partition=directory,
                bytes=recovered.truncated_bytes,
                at=recovered.truncated_at,
                log_end_offset=recovered.segments[-1].next_offset,
            )
        return recovered

    # -- checkpoints

    def _schedule(self) -> None:
        self.environment.clock.call_later(CHECKPOINT_INTERVAL_MS, self._tick)

    def _tick(self) -> None:
        if self._stopped:
            return
        self._expiry.go_on()
        # Where nothing is written, a look at each of ten thousand partitions would be all that a node does.
        rounds, self._idle_ticks = self.environment.rounds, self._idle_ticks + 1
        busy = rounds != self._rounds or self._unsynced
        if busy or self._idle_ticks >= self._idle_patience:
            self._idle_patience = _IDLE_TICKS if busy else min(2 * self._idle_patience, _MOST_IDLE_TICKS)
            self._rounds, self._idle_ticks = rounds, 0
            self._flush_old()
            if not self._checkpointing:
                self.checkpoint(lambda _: None)
        self._schedule()

    def _flush_old(self) -> None:
        """`flush.ms`: what was written without a sync is synced after that time."""
        now_ms = self.environment.clock.monotonic_ms()
        self._unsynced = False
        for partition in self._partitions.values():
            log = partition.log
            if log.dirty:
                self._unsynced = True
                if now_ms - log.dirty_since_ms >= partition.config.flush_ms:
                    log.flush()

    def checkpoint(self, done: Callable[[Exception | None], None]) -> None:
        """Save what changed since the last time: sidecars, then durable ends, log starts and high watermarks."""
        self._checkpoint_waiters.append(done)
        if not self._checkpointing:
            self._checkpointing = True
            self._checkpoint()

    def _checkpoint(self) -> None:
        waiters, self._checkpoint_waiters = self._checkpoint_waiters, []
        forgotten = self._forgotten = set()
        sidecars: list[tuple[Partition, SidecarJob]] = []
        durable, starts = dict(self._recovery_points), dict(self._log_starts)
        watermarks, cleaned = {}, {}
        for key, partition in self._partitions.items():
            if partition.error is not None:
                continue
            end = partition.log.durable_end_offset
            limit = partition.recovery_limit
            durable[key] = end if limit is None else min(end, limit)
            if partition.log_start_offset:
                starts[key] = partition.log_start_offset
            watermarks[key] = partition.high_watermark
            if partition.cleaned_to:
                cleaned[key] = partition.cleaned_to
            job = prepare_sidecars(partition, final=self._stopped)
            if job is not None:
                sidecars.append((partition, job))
        offsets = (durable, starts, watermarks, cleaned)
        saved = self._saved
        files = self.environment.disk.files

        def sidecars_saved(errors: dict[int, Exception]) -> None:
            for n in errors:
                partition = sidecars[n][0]
                durable.pop((partition.topic, partition.index), None)
            if offsets == saved:
                written(errors, None)
            else:
                self.environment.disk.submit(write, lambda _, error: written(errors, error))

        def write() -> None:
            for name, new, old in zip(_CHECKPOINT_FILES, offsets, saved, strict=True):
                if new != old:
                    files.write_atomically(name, encode_offsets(new))

        def written(errors: dict[int, Exception], error: Exception | None) -> None:
            if error is None:
                self._saved = offsets
                # Copies, and without whom is gone: a change of what was saved, which the next checkpoint writes.
                self._recovery_points, self._log_starts = dict(durable), dict(starts)
                for key in forgotten:
                    self._recovery_points.pop(key, None)
                    self._log_starts.pop(key, None)
                for key, partition in self._partitions.items():
                    if key not in forgotten:
                        partition.recovery_point = durable.get(key, 0)
            else:
                self._saved = _UNKNOWN
                logger.error("could not write the offset checkpoints", error=str(error))
            for n, cause in errors.items():
                sidecars[n][0].log.fail(cause)
            if self._checkpoint_waiters:
                self._checkpoint()
            else:
                self._checkpointing = False
            for done in waiters:
                done(error)

        run_in_lanes(self.environment.disk, [job for _, job in sidecars], sidecars_saved)

    def housekeeping(self) -> None:
        """Retention and the expiry of producers: to be called every `log.retention.check.interval.ms`."""
        for partition in list(self._partitions.values()):
            if partition.error is None:
                expire(partition)
        self._expiry.begin(list(self._partitions.values()), self.producer_expiration_ms)

    @property
    def producer_count(self) -> int:
        """Producers that are remembered, in all partitions."""
        return sum(len(partition.producers) for partition in self._partitions.values())

    def compact(self, max_bytes_per_second: float = 0.0) -> None:
        """Begin with the dirtiest partition, if one is dirty enough: to be called every `log.cleaner.backoff.ms`.

        0: at no bounded rate.
        """
        self._cleaner.run(self, max_bytes_per_second)

    def update_configs(self, configs: Mapping[TopicPartition, LogConfig]) -> None:
        """Topic configs changed."""
        for key, config in configs.items():
            if (partition := self._partitions.get(key)) is not None:
                partition.update_config(config)

    def close(self, done: Callable[[Exception | None], None]) -> None:
        """Write and sync what is queued, then the checkpoints, so that the next start finds everything in order."""
        self._stopped = True
        waiting = [partition for partition in self._partitions.values() if partition.error is None]
        left = len(waiting)

        def one_closed() -> None:
            nonlocal left
            left -= 1
            if not left:
                retire()

        def retire() -> None:
            if (journal := self.environment.journal) is not None:
                journal.retire(retired)
            else:
                self.checkpoint(saved)

        def retired(error: Exception | None) -> None:
            if error is not None:
                done(error)
            else:
                self.checkpoint(saved)

        def saved(error: Exception | None) -> None:
            if error is not None or any(partition.error is not None for partition in self):
                done(error)  # without the marker: the next start looks closer
                return
            files = self.environment.disk.files
            marker = json.dumps({"version": 0, "brokerEpoch": self.broker_epoch}).encode()
            self.environment.disk.submit(
                lambda: files.write_atomically(CLEAN_STOP_FILE, marker), lambda _, error: done(error)
            )

        if not waiting:
            retire()
        for partition in waiting:
            partition.close(one_closed)


_UNKNOWN: Final = (None, None, None, None)
_CHECKPOINT_FILES: Final = (RECOVERY_POINT_FILE, LOG_START_FILE, HIGH_WATERMARK_FILE, CLEANER_FILE)


def _stopped_epoch(marker: bytes) -> int:
    """What does not say it is worth as much as no marker with an epoch: then the boot id has to tell."""
    try:
        return int(json.loads(marker)["brokerEpoch"])
    except (ValueError, TypeError, KeyError):
        return _NO_EPOCH


def name_apart(directory: str, topic_id: Uuid, suffix: str) -> str:
    """Where a partition's directory is moved to. A topic's name may be so long that only its beginning fits."""
    topic, _, index = directory.rpartition("-")
    rest = f"-{index}.{format_uuid(topic_id)}{suffix}"
    return topic[: _MAX_NAME_BYTES - len(rest)] + rest

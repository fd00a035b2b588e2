"""All partitions of one node's data directory: opening them, the checkpoints that they share, housekeeping.

A partition's directory appears with its first record, so a topic without records costs no inode. A directory that
belongs to another topic id (the topic was deleted and created again meanwhile) is moved out of the way, never read.
"""

from collections.abc import Callable, Iterator, Mapping

import structlog

from ottla.core.errors import StorageError
from ottla.core.ports import Clock, Disk, Worker
from ottla.core.types import Uuid, format_uuid
from ottla.partitions.checkpoints import (
    HIGH_WATERMARK_FILE,
    LOG_START_FILE,
    PARTITION_METADATA_FILE,
    RECOVERY_POINT_FILE,
    TopicPartition,
    encode_offsets,
    read_offsets,
    read_partition_metadata,
)
from ottla.partitions.config import LogConfig
from ottla.partitions.environment import Environment
from ottla.partitions.partition import Partition
from ottla.partitions.recovery import RecoveredLog, empty_log, recover

logger = structlog.get_logger(__name__)

CHECKPOINT_INTERVAL_MS = 1000
STRAY_SUFFIX = "-stray"
DELETE_SUFFIX = "-delete"


class PartitionManager:
    """Owns every `Partition` of this node."""

    def __init__(self, disk: Disk, clock: Clock, *, worker: Worker | None = None) -> None:
        self.environment = Environment(disk, clock, worker=worker)
        self._partitions: dict[TopicPartition, Partition] = {}
        self._recovery_points: dict[TopicPartition, int] = {}
        self._log_starts: dict[TopicPartition, int] = {}
        self._directories: set[str] = set()
        self._checkpointing = False
        self._stopped = True
        self._saved: tuple[dict[TopicPartition, int], ...] = ({}, {}, {})

    def open(self) -> None:
        """Read the node's checkpoints and directory names. Blocks: at start, before `create`."""
        files = self.environment.disk.files
        self._recovery_points = read_offsets(files, RECOVERY_POINT_FILE)
        self._log_starts = read_offsets(files, LOG_START_FILE)
        self._directories = set(files.list_directory(""))
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
    ) -> Partition:
        """The partition, recovered from its directory if it has one (that blocks: only at start)."""
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
            recovered=self._recover(key, topic_id, config),
            leader_epoch=leader_epoch,
            is_leader=is_leader,
        )
        self._partitions[key] = partition
        return partition

    def get(self, topic: str, index: int) -> Partition | None:
        return self._partitions.get((topic, index))

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions.values())

    def __len__(self) -> int:
        return len(self._partitions)

    def _recover(self, key: TopicPartition, topic_id: Uuid, config: LogConfig) -> RecoveredLog:
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
            stray = f"{directory}.{format_uuid(found_id)}{STRAY_SUFFIX}"
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
        )
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
        if not self._checkpointing:
            self.checkpoint(lambda _: None)
        self._schedule()

    def checkpoint(self, done: Callable[[Exception | None], None]) -> None:
        """Write the offsets that changed since the last time: durable ends, log starts, high watermarks."""
        durable, starts, watermarks = dict(self._recovery_points), dict(self._log_starts), {}
        for key, partition in self._partitions.items():
            if partition.error is None:
                durable[key] = partition.log.durable_end_offset
                if partition.log_start_offset:
                    starts[key] = partition.log_start_offset
                watermarks[key] = partition.high_watermark
        offsets = (durable, starts, watermarks)
        saved = self._saved
        if offsets == saved:
            done(None)
            return
        files = self.environment.disk.files

        def write() -> None:
            for name, new, old in zip(_CHECKPOINT_FILES, offsets, saved, strict=True):
                if new != old:
                    files.write_atomically(name, encode_offsets(new))

        def written(_: None, error: Exception | None) -> None:
            self._checkpointing = False
            if error is None:
                self._saved = offsets
                self._recovery_points = durable
            else:
                logger.error("could not write the offset checkpoints", error=str(error))
            done(error)

        self._checkpointing = True
        self.environment.disk.submit(write, written)

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
                self.checkpoint(done)

        if not waiting:
            self.checkpoint(done)
        for partition in waiting:
            partition.close(one_closed)


_CHECKPOINT_FILES = (RECOVERY_POINT_FILE, LOG_START_FILE, HIGH_WATERMARK_FILE)

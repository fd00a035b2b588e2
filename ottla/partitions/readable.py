"""What readers of a partition get: batches, and offsets by time and by epoch, each as far as they may look."""

from collections.abc import Callable
from typing import Final

import structlog

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, CorruptBatch, CorruptContents, CorruptLog
from ottla.core.types import Buffer
from ottla.partitions import file_reads
from ottla.partitions.checkpoints import DAMAGE_FILE
from ottla.partitions.environment import Environment
from ottla.partitions.epoch_cache import EpochCache
from ottla.partitions.file_reads import ReadDone
from ottla.partitions.log import Log
from ottla.partitions.log_reader import Wanted
from ottla.partitions.producer_state import AbortedTransaction
from ottla.partitions.results import Isolation, ReadResult, State, TimestampOffset
from ottla.partitions.role import ReplicaRole
from ottla.partitions.tail import joined
from ottla.partitions.timestamps import find_by_timestamp, find_max_timestamp

logger: Final = structlog.get_logger(__name__)


class ReadablePartition:
    """The reading half of `Partition`, with the fields that it looks at."""

    __slots__ = ("aborted", "environment", "epochs", "error", "high_watermark",
                 "last_stable_offset", "log", "log_start_offset", "role", "state")  # fmt: skip

    environment: Environment
    log: Log
    epochs: EpochCache
    aborted: list[AbortedTransaction]
    role: ReplicaRole | None  # None: there is no other replica
    state: State
    error: Exception | None
    log_start_offset: int
    high_watermark: int
    last_stable_offset: int

    @property
    def name(self) -> str:
        """Topic and index, for people."""
        raise NotImplementedError

    # -- read

    def read(
        self, offset: int, max_bytes: int, *, isolation: Isolation, minimum_one_batch: bool, done: ReadDone
    ) -> ReadResult | None:
        """Whole batches from the one that holds `offset` on, at most `max_bytes` unless it is the first one.

        Returns what is at hand; or None, and `done(result or error)` follows. ApiError when the offset is out of
        range or the partition offline.
        """
        if self.state is not State.ONLINE:
            raise self.storage_error()
        log = self.log
        if not self.log_start_offset <= offset <= log.log_end_offset:
            raise ApiError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"{self.name} holds offsets {self.log_start_offset} to {log.log_end_offset}, not {offset}",
            )
        end_offset = self.end_for(isolation)
        if offset >= end_offset:
            return self.result([], 0)
        if offset >= log.tail.base_offset:
            views, size = log.tail.read(offset, end_offset, max_bytes, minimum_one_batch)
            result = self.result(joined(views), size)
            if self.aborted and isolation == Isolation.READ_COMMITTED:
                result.aborted = file_reads.aborted_between(self, offset, end_offset)
            return result
        wanted = Wanted(offset, end_offset, max_bytes, minimum_one_batch)
        return file_reads.read_batches(self, wanted, isolation, done)

    def result(self, buffers: list[Buffer], size: int) -> ReadResult:
        """These batches, with the offsets as they are now."""
        return ReadResult(buffers, size, self.high_watermark, self.last_stable_offset, self.log_start_offset)

    # -- offsets by time and epoch

    def earliest_offset(self) -> TimestampOffset:
        return TimestampOffset(-1, self.log_start_offset, self.epochs.epoch_for(self.log_start_offset))

    def latest_offset(self, isolation: Isolation) -> TimestampOffset:
        """The end of what a reader with that isolation may see."""
        return TimestampOffset(-1, self.end_for(isolation), self.epochs.latest)

    def offset_for_timestamp(
        self, timestamp: int, *, isolation: Isolation, done: Callable[[TimestampOffset | ApiError], None]
    ) -> None:
        """The first record with that timestamp or a later one; `NO_OFFSET` when there is none."""
        files = self.environment.disk.files
        file_reads.look_up(
            self,
            lambda segments, start, end: find_by_timestamp(files, segments, timestamp, start, end),
            isolation,
            done,
        )

    def max_timestamp_offset(self, *, isolation: Isolation, done: Callable[[TimestampOffset | ApiError], None]) -> None:
        """The first record with the largest timestamp (KIP-734)."""
        files = self.environment.disk.files
        file_reads.look_up(
            self, lambda segments, start, end: find_max_timestamp(files, segments, start, end), isolation, done
        )

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """Largest known epoch that is not above `epoch`, and where it ended; (-1, -1) when there is none."""
        return self.epochs.end_offset_for(epoch, self.log.log_end_offset)

    def end_for(self, isolation: Isolation) -> int:
        """How far a reader with that isolation may look."""
        if isolation == Isolation.READ_UNCOMMITTED:
            return self.high_watermark
        return self.last_stable_offset if isolation == Isolation.READ_COMMITTED else self.log.log_end_offset

    # -- what cannot be read

    def damaged(self, error: Exception) -> ApiError:
        """Its files are not what was written. What the reader is told who found it.

        Another replica that has everything takes over: then this one is out of service. Where there is none, whatever
        can still be read and written is worth more.
        """
        sound_elsewhere = self.role is not None and self.role.others_have_all
        if isinstance(error, CorruptContents) and not sound_elsewhere:
            logger.error("a batch is damaged", partition=self.name, error=str(error))
            return ApiError(ErrorCode.CORRUPT_MESSAGE, f"{self.name}: {error}")
        if self.log.failed is None and isinstance(error, CorruptLog | CorruptBatch):
            self._note_damage(str(error))
        self.log.fail(error)
        return self.storage_error()

    def _note_damage(self, found: str) -> None:
        """So that the replica is made anew after the next start, which would not see it."""
        files, path = self.environment.disk.files, f"{self.log.directory}/{DAMAGE_FILE}"

        def noted(_: None, error: Exception | None) -> None:
            if error is not None:
                logger.warning("the next start will not know of the damage", partition=self.name, error=str(error))

        self.environment.disk.submit(lambda: files.write_atomically(path, found.encode()), noted)

    def storage_error(self) -> ApiError:
        """What whoever asks for anything of an offline partition is told."""
        return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self.name} is offline: {self.error}")

"""The log of a coordinator's partition in memory, on the simulator's clock."""

from collections.abc import Callable
from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.producer_state import ProducerStates
from ottla.partitions.results import Appended, Isolation, Origin, ReadResult
from ottla.partitions.verification import NO_GUARD, Resume, Verifications
from ottla.records.batch import BatchHeader, Record, decode_records, patch_base_offset, validate
from ottla.records.control import read_end_transaction_marker
from ottla.testing.sim.clock import SimClock


class FakeLog:
    """A leader's log in memory. With `auto_commit` off, `commit` moves the high watermark."""

    def __init__(self, clock: SimClock, *, auto_commit: bool = True) -> None:
        self.clock, self.auto_commit = clock, auto_commit
        self.batches: list[bytes] = []
        self.log_start_offset = self.log_end_offset = self.high_watermark = 0
        self.refusals: list[ApiError] = []
        self.refused = 0
        self.producers = ProducerStates()
        self.verifications = Verifications()
        self._waiting: list[tuple[int, Callable[[ErrorCode], None]]] = []
        self._watchers: list[Callable[[], None]] = []
        self.read_bytes = 1 << 20

    def admit(self, producer_id: int, epoch: int, sequence: int, *, adds: bool, resume: Resume) -> int:
        """As a partition does."""
        self.producers.check_epoch(producer_id, epoch)
        return self.verifications.admit(
            producer_id,
            epoch,
            sequence,
            ongoing=self.producers.is_ongoing(producer_id, epoch),
            is_known=self.producers.is_known(producer_id),
            adds=adds,
            now_ms=self.clock.time_ms(),
            resume=resume,
        )

    def append(
        self,
        batch: memoryview,
        *,
        acks: int,
        done: Callable[[ErrorCode], None] | None,
        origin: Origin,
        guard: int = NO_GUARD,
        transaction_version: int = 0,
    ) -> Appended:
        assert acks == -1
        assert origin is Origin.COORDINATOR
        assert done is not None
        if self.refusals:
            self.refused += 1
            raise self.refusals.pop(0)
        header = validate(batch)
        base = self.log_end_offset
        self._check_producer(header, batch, guard, transaction_version)
        patch_base_offset(batch, 0, base, 0)
        self.batches.append(bytes(batch))
        self.log_end_offset = base + header.record_count
        self._waiting.append((self.log_end_offset, done))
        if self.auto_commit:
            self.clock.call_soon(self.commit)
        return Appended(base, self.log_end_offset - 1, -1, 0)

    def _check_producer(self, header: BatchHeader, batch: memoryview, guard: int, transaction_version: int) -> None:
        """As a partition does."""
        if header.producer_id < 0:
            return
        if header.is_control:
            marker = read_end_transaction_marker(batch)
            self.producers.check_marker(header, marker, transaction_version)
            self.producers.record_marker(header, self.log_end_offset, 0, marker)
            self.verifications.ended(header.producer_id, header.producer_epoch, transaction_version)
            return
        producer_id, epoch = header.producer_id, header.producer_epoch
        if not self.producers.is_ongoing(producer_id, epoch):
            self.verifications.check(producer_id, epoch, header.base_sequence, guard, is_known=False)
        self.producers.check(header, Origin.COORDINATOR)
        self.producers.record(header, self.log_end_offset, 0)
        if guard:
            self.verifications.begun(producer_id, epoch)

    def commit(self) -> None:
        self.high_watermark = self.log_end_offset
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(ErrorCode.NONE)
        for watcher in list(self._watchers):
            watcher()

    def fail_waiting(self, code: ErrorCode) -> None:
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(code)

    def read(
        self,
        offset: int,
        max_bytes: int,
        *,
        isolation: Isolation,
        minimum_one_batch: bool,
        done: Callable[[ReadResult | ApiError], None],
    ) -> ReadResult | None:
        assert isolation is Isolation.LOG_END
        buffers: list[Any] = []
        for batch in self.batches:
            if validate(batch).last_offset >= offset and (
                not buffers or sum(map(len, buffers)) + len(batch) <= min(max_bytes, self.read_bytes)
            ):
                buffers.append(batch)
        return ReadResult(buffers, sum(map(len, buffers)), self.high_watermark, self.high_watermark, 0)

    def records(self) -> list[Record]:
        """Without those that end transactions."""
        return [record for batch in self.batches if not validate(batch).is_control for record in decode_records(batch)]

    def add_watcher(self, watcher: Callable[[], None], /) -> None:
        self._watchers.append(watcher)

    def remove_watcher(self, watcher: Callable[[], None], /) -> None:
        self._watchers.remove(watcher)

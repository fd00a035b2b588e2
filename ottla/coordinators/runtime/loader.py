"""Replays a log into a shard in slices of at most a millisecond, so that the loop goes on serving everything else."""

from collections.abc import Callable, Iterator
from typing import Final

from ottla.coordinators.runtime.log import CoordinatorLog
from ottla.coordinators.runtime.shard import ProducerIdentity
from ottla.core.errors import ApiError, OttlaError, StorageError
from ottla.core.ports import Clock
from ottla.partitions.results import Isolation, ReadResult
from ottla.records.batch import Record, iterate_headers, iterate_records
from ottla.records.control import read_end_transaction_marker

SLICE_MS: Final = 0.8  # so that what comes around a slice, such as reading the next piece, still ends within one
READ_BYTES: Final = 256 << 10
RECORDS_BETWEEN_LOOKS: Final = 16  # at the clock


class Loader:
    """Reads from the log start to the log end as it is now; nobody else appends meanwhile.

    `replay` gets each record, with the producer whose transaction it belongs to; `end_transaction` the producer id of
    each marker, and whether it commits.
    """

    def __init__(
        self,
        log: CoordinatorLog,
        clock: Clock,
        *,
        replay: Callable[[Record, ProducerIdentity | None], None],
        end_transaction: Callable[[int, bool], None],
        slice_done: Callable[[], None],
        finished: Callable[[Exception | None], None],
    ) -> None:
        self._log, self._clock = log, clock
        self._replay, self._end_transaction = replay, end_transaction
        self._slice_done, self._finished = slice_done, finished
        self._position = log.log_start_offset
        self._end = log.log_end_offset
        self._records: Iterator[Record] = iter(())
        self._producer: ProducerIdentity | None = None  # of the records that are being replayed
        self._cancelled = False

    def start(self) -> None:
        """Begin in a later turn of the loop."""
        self._clock.call_soon(self._read)

    def cancel(self) -> None:
        """Never call back again."""
        self._cancelled = True

    def _read(self) -> None:
        if self._cancelled:
            return
        if self._position >= self._end:
            self._finish(None)
            return
        try:
            result = self._log.read(
                self._position, READ_BYTES, isolation=Isolation.LOG_END, minimum_one_batch=True, done=self._read_done
            )
        except ApiError as error:
            self._finish(error)
            return
        if result is not None:
            self._take(result)

    def _read_done(self, result: ReadResult | ApiError) -> None:
        if self._cancelled:
            return
        if isinstance(result, ApiError):
            self._finish(result)
        else:
            self._take(result)

    def _take(self, result: ReadResult) -> None:
        data = b"".join(result.buffers)
        if not data:
            reason = f"nothing to read at offset {self._position}, although the log ends at {self._end}"
            self._finish(StorageError(reason))
            return
        self._records = self._iterate(data)
        self._slice()

    def _iterate(self, data: bytes) -> Iterator[Record]:
        for position, header in iterate_headers(data):
            self._producer = (
                ProducerIdentity(header.producer_id, header.producer_epoch) if header.is_transactional else None
            )
            if not header.is_control:
                yield from self._records_of(data, position, header.base_offset)
            elif header.is_transactional and header.record_count:  # compaction may leave a batch without its marker
                marker = read_end_transaction_marker(memoryview(data)[position:])
                self._end_transaction(header.producer_id, marker.committed)
            self._position = header.next_offset

    def _records_of(self, data: bytes, position: int, base_offset: int) -> Iterator[Record]:
        """Those not replayed yet. Decoded piece by piece: a large batch takes longer than a slice."""
        first_offset, records = self._position, iterate_records(data, position)
        if base_offset >= first_offset:
            return records
        return (record for record in records if record.offset >= first_offset)

    def _slice(self) -> None:
        if self._cancelled:
            return
        limit_ms = self._clock.monotonic_ms() + SLICE_MS
        count = 0
        try:
            for record in self._records:
                self._replay(record, self._producer)
                count += 1
                if count % RECORDS_BETWEEN_LOOKS == 0 and self._clock.monotonic_ms() >= limit_ms:
                    self._slice_done()
                    self._clock.call_soon(self._slice)
                    return
        except OttlaError as error:
            self._finish(error)
            return
        self._slice_done()
        self._clock.call_soon(self._read)

    def _finish(self, error: Exception | None) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._finished(error)

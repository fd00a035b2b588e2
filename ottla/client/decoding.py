"""Fetched bytes into records: one batch at a time, without control records and, if asked, without aborted ones."""

from collections import deque
from collections.abc import Sequence

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import FetchResult
from ottla.client.types import ConsumerRecord, TimestampType
from ottla.core.errors import DecodeError
from ottla.records.aborted import AbortedFilter
from ottla.records.batch import BatchHeader, decode_records, iterate_headers


class Chunk:
    """What one answer brought of one partition; decoded batch by batch as it is read."""

    __slots__ = ("_check_crcs", "_data", "_headers", "_left_out", "partition", "size_bytes", "topic")

    def __init__(self, result: FetchResult, *, read_committed: bool, check_crcs: bool) -> None:
        self.topic, self.partition = result.topic_partition
        self.size_bytes = len(result.batches)
        self._data = result.batches
        self._headers: deque[tuple[int, BatchHeader]] = deque(iterate_headers(result.batches))
        self._check_crcs = check_crcs
        self._left_out = AbortedFilter(result.aborted_transactions if read_committed else None)

    @property
    def next_offset(self) -> int | None:
        """Where the partition is to be read on after this chunk; None when it holds no whole batch."""
        return self._headers[-1][1].next_offset if self._headers else None

    def next_batch(self, position: int) -> tuple[Sequence[ConsumerRecord[bytes | None, bytes | None]], int] | None:
        """The records of the next batch from `position` on, and the offset after the batch; None at the end.

        Raises ClientError for a damaged batch, and raises it again until the reader seeks past it.
        """
        while self._headers:
            position_in_data, header = self._headers[0]
            if header.next_offset <= position:
                self._headers.popleft()
                continue
            try:
                records = decode_records(self._data, position_in_data, check_crc=self._check_crcs)
            except DecodeError as error:
                raise ClientError(
                    ErrorCode.CORRUPT_MESSAGE,
                    f"the batch at offsets {header.base_offset} to {header.last_offset}: {error}; "
                    f"seek to {header.next_offset} to read on after it",
                    topic=self.topic,
                    partition=self.partition,
                    retriable=False,
                ) from error
            self._headers.popleft()
            if self._left_out(header, records):
                return (), header.next_offset
            kind = TimestampType.LOG_APPEND_TIME if header.is_log_append_time else TimestampType.CREATE_TIME
            topic, partition = self.topic, self.partition
            found = [
                ConsumerRecord(topic, partition, offset, timestamp, kind, key, value, headers)
                for offset, timestamp, key, value, headers in records
            ]
            if header.base_offset < position:
                found = [record for record in found if record.offset >= position]
            return found, header.next_offset
        return None

"""Which batches a reader leaves out: control records, and for `read_committed` those of aborted transactions.

A fetch lists the aborted transactions by their first offset; each ends with its abort marker in the log (KIP-98).
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from ottla.records.header import BatchHeader
from ottla.records.record import Record

_ABORT: Final = 0  # the type of a control record: bytes 2 and 3 of its key


class AbortedFilter:
    """Asked about the batches of one answer, in their order."""

    __slots__ = ("_aborted", "_producer_ids")

    def __init__(self, aborted: Sequence[tuple[int, int]] | None) -> None:
        """`aborted`: (producer id, first offset); None when the reader wants uncommitted records as well."""
        self._aborted = None if aborted is None else deque(sorted(aborted, key=lambda entry: entry[1]))
        self._producer_ids: set[int] = set()

    def __call__(self, header: BatchHeader, records: Sequence[Record]) -> bool:
        """Whether to leave this batch out."""
        if self._aborted is None:
            return header.is_control
        while self._aborted and self._aborted[0][1] <= header.last_offset:
            self._producer_ids.add(self._aborted.popleft()[0])
        if header.is_control:
            key = records[0].key if records else None
            if key is not None and int.from_bytes(key[2:4], "big") == _ABORT:
                self._producer_ids.discard(header.producer_id)
            return True
        return header.is_transactional and header.producer_id in self._producer_ids

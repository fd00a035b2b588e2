"""States of producers that are not at work now, packed: 46 bytes each, in the layout of Kafka's producer snapshot.

Producer ids are handed out one after the other, so rows lie in buckets by id: of each bucket one immutable `bytes`,
sorted by id. To take one in or out copies a bucket, a few kilobytes; a snapshot takes references. What the layout has
no place for, the four batches before a producer's last one, lies in a second table, for those that have any.

Nothing is lost by being packed: a producer that comes back finds its epoch, sequence and duplicates (DESIGN §6).
"""

from collections.abc import Collection, Iterable, Iterator
from struct import Struct
from typing import Final

from ottla.core.types import Buffer

Row = tuple[int, int, int, int, int, int, int, int]
"""Producer id, epoch, last sequence, last offset, its offset delta, timestamp, coordinator epoch, first offset of the
open transaction (or -1)."""

ROW: Final = Struct(">qhiqiqiq")
EARLIER: Final = Struct(">q" + 4 * "qi")
"""Producer id; (last offset, offset delta) of the batches before the last one, newest first, -1 where there is none."""

_ID: Final = Struct(">q")
_ID_AND_TRANSACTION: Final = Struct(">q30xq")
_BUCKET_BITS: Final = 8
BUCKET_ROWS: Final = 1 << _BUCKET_BITS


class PackedTable:
    """Rows of one size that begin with a producer id, at most one an id."""

    __slots__ = ("_buckets", "_row_bytes", "count")

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._buckets: dict[int, bytes] = {}
        self.count = 0

    def __bool__(self) -> bool:
        return bool(self._buckets)

    @property
    def size_bytes(self) -> int:
        return self.count * self._row_bytes

    def chunks(self) -> list[bytes]:
        """All rows; what is in the list never changes."""
        return list(self._buckets.values())

    def put(self, producer_id: int, row: bytes) -> None:
        """Take in a row whose id is not there."""
        key = producer_id >> _BUCKET_BITS
        bucket = self._buckets.get(key, b"")
        at = self._place(bucket, producer_id)
        self._buckets[key] = b"".join((bucket[:at], row, bucket[at:]))
        self.count += 1

    def take(self, producer_id: int) -> bytes | None:
        """Take out the row with that id."""
        key = producer_id >> _BUCKET_BITS
        bucket = self._buckets.get(key)
        if bucket is None:
            return None
        at, size = self._place(bucket, producer_id), self._row_bytes
        if at == len(bucket) or _ID.unpack_from(bucket, at)[0] != producer_id:
            return None
        if len(bucket) == size:
            del self._buckets[key]
        else:
            self._buckets[key] = bucket[:at] + bucket[at + size :]
        self.count -= 1
        return bucket[at : at + size]

    def load(self, rows: Buffer) -> None:
        """Take in many rows with ids that are not there, in any order; fast where they are in order."""
        size, view = self._row_bytes, memoryview(rows)
        start = position = 0
        current, last = -1, -1
        for (producer_id,) in Struct(f">q{size - 8}x").iter_unpack(view):
            if producer_id >> _BUCKET_BITS != current or producer_id < last:
                self._merge(current, view[start:position])
                current, start = producer_id >> _BUCKET_BITS, position
            last = producer_id
            position += size
        self._merge(current, view[start:position])

    def buckets(self) -> list[int]:
        return list(self._buckets)

    def rows(self, bucket: int) -> Iterator[bytes]:
        """Of one bucket, as it is now."""
        data, size = self._buckets.get(bucket, b""), self._row_bytes
        for at in range(0, len(data), size):
            yield data[at : at + size]

    def discard(self, bucket: int, ids: Collection[bytes]) -> None:
        """Forget the rows of a bucket that begin with these ids."""
        rows = list(self.rows(bucket))
        kept = [row for row in rows if row[:8] not in ids]
        self.count -= len(rows) - len(kept)
        if kept:
            self._buckets[bucket] = b"".join(kept)
        else:
            self._buckets.pop(bucket, None)

    def _merge(self, key: int, rows: memoryview) -> None:
        if not rows:
            return
        size, bucket = self._row_bytes, self._buckets.get(key)
        self.count += len(rows) // size
        if bucket is None:
            self._buckets[key] = bytes(rows)
            return
        both = bucket + bytes(rows)
        self._buckets[key] = b"".join(sorted(both[at : at + size] for at in range(0, len(both), size)))

    def _place(self, bucket: bytes, producer_id: int) -> int:
        """Where the row with that id is, or would be."""
        size = self._row_bytes
        low, high = 0, len(bucket) // size
        while low < high:
            middle = (low + high) // 2
            if _ID.unpack_from(bucket, middle * size)[0] < producer_id:
                low = middle + 1
            else:
                high = middle
        return low * size


def open_transactions(rows: Iterable[Buffer]) -> dict[int, int]:
    """First offset → producer id of every transaction that is open according to the rows, ascending."""
    return dict(
        sorted(
            (first, producer_id)
            for chunk in rows
            for producer_id, first in _ID_AND_TRANSACTION.iter_unpack(chunk)
            if first >= 0
        )
    )

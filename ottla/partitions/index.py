"""The sparse indexes of a segment, in Kafka's file layout, held in memory as the file's own bytes.

An index is a hint: a look-up leads to a batch at or before the wanted one, and the reader walks headers from there.
A file that is missing or ends early costs time, never data; what a start believes of one says `trusted_indexes`. An
entry names the *last* offset of the batch at its position, as Kafka's does.
"""

from struct import Struct
from typing import Final

_OFFSET_ENTRY: Final = Struct(">iI")
_TIME_ENTRY: Final = Struct(">qi")
OFFSET_ENTRY_BYTES = _OFFSET_ENTRY.size
TIME_ENTRY_BYTES = _TIME_ENTRY.size


class OffsetIndex:
    """(last offset − base offset, position), ascending in both."""

    __slots__ = ("base_offset", "data")

    def __init__(self, base_offset: int, data: bytes | bytearray = b"") -> None:
        self.base_offset, self.data = base_offset, bytearray(data)

    def __len__(self) -> int:
        return len(self.data) // OFFSET_ENTRY_BYTES

    def append(self, offset: int, position: int) -> None:
        self.data += _OFFSET_ENTRY.pack(offset - self.base_offset, position)

    def entry(self, n: int) -> tuple[int, int]:
        """Offset and position of entry `n`."""
        relative, position = _OFFSET_ENTRY.unpack_from(self.data, n * OFFSET_ENTRY_BYTES)
        return self.base_offset + relative, position

    def lookup(self, offset: int) -> int:
        """Position of a batch at or before the one that holds `offset`; 0 when the index knows none."""
        wanted, data, unpack = offset - self.base_offset, self.data, _OFFSET_ENTRY.unpack_from
        low, high = 0, len(data) // OFFSET_ENTRY_BYTES
        position = 0
        while low < high:
            middle = (low + high) // 2
            relative, at = unpack(data, middle * OFFSET_ENTRY_BYTES)
            if relative <= wanted:
                low, position = middle + 1, at
            else:
                high = middle
        return position

    def truncate(self, offset: int) -> None:
        """Forget entries of batches that hold `offset` or later ones."""
        count = len(self)
        while count and self.entry(count - 1)[0] >= offset:
            count -= 1
        del self.data[count * OFFSET_ENTRY_BYTES :]

    def usable(self, size_bytes: int) -> bool:
        """Whether the entries ascend and lie within a log file of that size."""
        if len(self.data) % OFFSET_ENTRY_BYTES:
            return False
        previous = (-1, -1)
        for entry in _OFFSET_ENTRY.iter_unpack(self.data):
            if entry[0] <= previous[0] or entry[1] <= previous[1] or entry[1] >= size_bytes:
                return False
            previous = entry
        return True


class TimeIndex:
    """(largest timestamp so far, offset − base offset of the batch that has it), ascending in both."""

    __slots__ = ("base_offset", "data")

    def __init__(self, base_offset: int, data: bytes | bytearray = b"") -> None:
        self.base_offset, self.data = base_offset, bytearray(data)

    def __len__(self) -> int:
        return len(self.data) // TIME_ENTRY_BYTES

    def append(self, timestamp: int, offset: int) -> None:
        """Nothing happens unless the timestamp is larger than the last one."""
        if not self.data or timestamp > self.entry(len(self) - 1)[0]:
            self.data += _TIME_ENTRY.pack(timestamp, offset - self.base_offset)

    def entry(self, n: int) -> tuple[int, int]:
        """Timestamp and offset of entry `n`."""
        timestamp, relative = _TIME_ENTRY.unpack_from(self.data, n * TIME_ENTRY_BYTES)
        return timestamp, self.base_offset + relative

    def lookup(self, timestamp: int) -> int:
        """An offset before which every timestamp is smaller than `timestamp`."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.entry(middle)[0] < timestamp:
                low = middle + 1
            else:
                high = middle
        return self.entry(low - 1)[1] if low else self.base_offset

    def truncate(self, offset: int) -> None:
        """Forget entries that name `offset` or later ones."""
        count = len(self)
        while count and self.entry(count - 1)[1] >= offset:
            count -= 1
        del self.data[count * TIME_ENTRY_BYTES :]

    def usable(self) -> bool:
        """Whether the entries ascend."""
        if len(self.data) % TIME_ENTRY_BYTES:
            return False
        previous = (-(2**63), -1)
        for entry in _TIME_ENTRY.iter_unpack(self.data):
            if entry[0] <= previous[0] or entry[1] < previous[1]:
                return False
            previous = entry
        return True

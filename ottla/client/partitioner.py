"""Which partition a record goes to: by Java's murmur2 for a key, sticky without one (KIP-480).

The hash of a key is the same as in Apache Kafka's Java client, so that both put a key into the same partition.
"""

from collections.abc import Callable, Sequence

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 of Java's client, as an unsigned number."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for position in range(0, whole, 4):
        k = int.from_bytes(data[position : position + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    rest = length - whole
    if rest:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_for_key(key: bytes, partition_count: int) -> int:
    """The partition of a key; all partitions count, whether they have a leader or not."""
    return (murmur2(key) & 0x7FFFFFFF) % partition_count


class StickyPartitioner:
    """Chooses one partition of a topic for records without a key, until its batch is closed."""

    __slots__ = ("_choose", "_current")

    def __init__(self, choose: Callable[[Sequence[int]], int]) -> None:
        self._choose = choose
        self._current: dict[str, int] = {}

    def partition(self, topic: str, available: Sequence[int]) -> int:
        """The partition to use now; `available` are those with a leader, or all when none has one."""
        current = self._current.get(topic)
        if current is None or current not in available:
            current = self._current[topic] = self._choose(available)
        return current

    def batch_closed(self, topic: str, partition: int, available: Sequence[int]) -> None:
        """The batch of a partition is full or sent: go on with another, when there is one."""
        if self._current.get(topic) == partition:
            others = [other for other in available if other != partition]
            self._current[topic] = self._choose(others or available)

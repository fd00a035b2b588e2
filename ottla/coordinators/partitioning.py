"""Which partition of an internal topic a group or transactional id belongs to: Java's string hash, as Kafka uses it."""

from functools import lru_cache


def java_string_hash(text: str) -> int:
    """`String.hashCode` of Java: over UTF-16 code units, as a signed 32-bit number."""
    value = 0
    units = text.encode("utf-16-be", "surrogatepass")
    for high, low in zip(units[::2], units[1::2], strict=True):
        value = (31 * value + (high << 8 | low)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


@lru_cache(maxsize=1_000)  # a group asks again and again
def coordinator_partition(key: str, partition_count: int) -> int:
    """The index of the partition whose leader coordinates `key`."""
    value = java_string_hash(key)
    # Java's abs of the smallest number is negative; Kafka counts it as 0.
    return (0 if value == -(1 << 31) else abs(value)) % partition_count

"""Which segments a partition may forget: by time, by size, or because the log starts after them."""

from collections.abc import Sequence

from ottla.partitions.config import LogConfig
from ottla.partitions.segment import Segment


def expired(
    segments: Sequence[Segment], config: LogConfig | None, *, log_start_offset: int, high_watermark: int, now_ms: int
) -> int:
    """How many of the oldest segments are to go. It may be all of them: then the active one is to be rolled first.

    Only whole segments below the high watermark go. Time and size count only where `cleanup.policy` says delete, and
    not at all without a `config`: then only what lies before the log start goes.
    """
    by_retention = config if config is not None and config.cleanup_delete else None
    size = sum(segment.size for segment in segments)
    count = 0
    for segment in segments:
        if segment.next_offset > high_watermark or (segment is segments[-1] and not segment.size):
            break
        before_start = segment.next_offset <= log_start_offset
        too_old = (
            by_retention is not None
            and by_retention.retention_ms >= 0
            and segment.max_timestamp >= 0
            and now_ms - segment.max_timestamp > by_retention.retention_ms
        )
        too_much = by_retention is not None and 0 <= by_retention.retention_bytes <= size - segment.size
        if not (before_start or too_old or too_much):
            break
        size -= segment.size
        count += 1
    return count

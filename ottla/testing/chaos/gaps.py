"""How writes fared over time, from a history: throughput and latency, and how long partitions took none.

Times are seconds since the run began. A *gap* is the time between two acknowledgements of a partition that is written
to all along. A fault's gap is the longest that touches its window; *after the heal* is how long the last partition
waited for its first acknowledgement from the window's end on.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ottla.testing.history import Outcome, Send

BUCKET_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Half a second: acknowledged records a second, and latencies in ms of those (None: there were none)."""

    at_s: float
    rate: float
    p50_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultWindow:
    """A fault, from before it was done until all was undone."""

    kind: str
    detail: str
    since_s: float
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The longest of a fault."""

    kind: str
    gap_ms: float
    after_heal_ms: float


def acknowledgements(sends: Iterable[Send], topic: str, since_ns: int) -> dict[int, list[tuple[float, float]]]:
    """By partition, in order of time: when a record was acknowledged, and after how many ms."""
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for one in sends:
        if one.topic == topic and one.outcome is Outcome.OK and one.completed_ns is not None:
            at_s = (one.completed_ns - since_ns) / 1e9
            found[one.partition].append((at_s, (one.completed_ns - one.invoked_ns) / 1e6))
    for times in found.values():
        times.sort()
    return dict(found)


def series(acknowledged: Mapping[int, Sequence[tuple[float, float]]], until_s: float) -> list[Bucket]:
    """Over all partitions."""
    latencies: dict[int, list[float]] = defaultdict(list)
    for times in acknowledged.values():
        for at_s, latency_ms in times:
            latencies[int(at_s / BUCKET_S)].append(latency_ms)
    found = []
    for index in range(int(until_s / BUCKET_S)):
        of_bucket = sorted(latencies.get(index, []))
        found.append(
            Bucket(
                at_s=index * BUCKET_S,
                rate=len(of_bucket) / BUCKET_S,
                p50_ms=of_bucket[len(of_bucket) // 2] if of_bucket else None,
                max_ms=of_bucket[-1] if of_bucket else None,
            )
        )
    return found


def longest_gap_ms(times: Sequence[tuple[float, float]], since_s: float, until_s: float) -> float:
    """The longest gap that touches this stretch of time, in one partition; one that never ends counts up to its end."""
    points = [at_s for at_s, _ in times]
    first, last = bisect_left(points, since_s), bisect_right(points, until_s)
    edges = [points[first - 1] if first else since_s, *points[first:last]]
    edges.append(points[last] if last < len(points) else max(until_s, edges[-1]))
    return max((later - earlier for earlier, later in pairwise(edges)), default=0.0) * 1000


def gaps(
    acknowledged: Mapping[int, Sequence[tuple[float, float]]], windows: Iterable[FaultWindow], until_s: float
) -> list[Gap]:
    """One for each fault."""
    found = []
    for window in windows:
        gap = max((longest_gap_ms(times, window.since_s, window.until_s) for times in acknowledged.values()), default=0)
        healed = max((_first_after(times, window.until_s, until_s) for times in acknowledged.values()), default=0)
        found.append(Gap(kind=window.kind, gap_ms=gap, after_heal_ms=healed * 1000))
    return found


def _first_after(times: Sequence[tuple[float, float]], moment_s: float, until_s: float) -> float:
    index = bisect_left(times, (moment_s, 0.0))
    return (times[index][0] if index < len(times) else max(until_s, moment_s)) - moment_s

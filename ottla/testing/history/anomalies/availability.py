"""Availability: how long partitions that somebody writes to acknowledge nothing."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from ottla.testing.history.facts import Facts
from ottla.testing.history.operations import Outcome, Send, TopicPartition
from ottla.testing.history.verdict import Anomaly, Expectations, Kind


class WriteGap(NamedTuple):
    """From when a record waited (or the one before it was acknowledged) until one was acknowledged again."""

    partition: TopicPartition
    since_ns: int
    until_ns: int
    waited: Send  # the first that was sent within it

    @property
    def length_ms(self) -> float:
        return (self.until_ns - self.since_ns) / 1e6


def write_gaps(sends: list[Send]) -> Iterator[WriteGap]:
    """All of them, in each partition by time; the last reaches to the last completion when nothing was acknowledged."""
    partitions: defaultdict[TopicPartition, list[Send]] = defaultdict(list)
    for send in sends:
        if send.partition >= 0:
            partitions[TopicPartition(send.topic, send.partition)].append(send)
    for partition, own in partitions.items():
        invoked = [one.invoked_ns for one in own]
        answered = sorted(one.completed_ns for one in own if one.completed_ns is not None)
        asked = [one.invoked_ns for one in own if one.completed_ns is not None]
        acknowledged = sorted(one.completed_ns for one in own if one.outcome is Outcome.OK and one.completed_ns)
        if answered and (not acknowledged or acknowledged[-1] < answered[-1]):
            acknowledged.append(answered[-1])  # nothing was acknowledged any more
        before = 0
        for completed in acknowledged:
            # Somebody has to wait: one that was sent before and has no answer yet, or the next that is sent.
            following = bisect_right(invoked, before)
            since = before
            if bisect_right(asked, before) <= bisect_right(answered, before):
                since = invoked[following] if following < len(own) else completed
            if since < completed:
                yield WriteGap(partition, since, completed, own[min(following, len(own) - 1)])
            before = completed


def unavailable(facts: Facts) -> Iterator[Anomaly]:
    """Gaps longer than allowed."""
    if facts.expectations.longest_gap_ms is None:
        return
    for gap in write_gaps(facts.history.sends):
        allowed_ms = _allowed_ms(facts.expectations, gap)
        if gap.length_ms > allowed_ms:
            yield Anomaly(
                Kind.UNAVAILABLE,
                f"{gap.partition} acknowledged nothing for {gap.length_ms:,.0f} ms, {allowed_ms:,.0f} ms are allowed",
                (gap.waited,),
            )


def _allowed_ms(expectations: Expectations, gap: WriteGap) -> float:
    allowed = expectations.longest_gap_ms or 0.0
    for window in expectations.windows:
        if window.since_ns <= gap.until_ns and gap.since_ns <= window.until_ns:
            allowed = max(allowed, window.longest_gap_ms)
    return allowed

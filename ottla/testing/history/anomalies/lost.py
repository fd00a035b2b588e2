"""Lost writes, and offsets that one reader skipped.

A write is lost when it was acknowledged, readers went over its offset (or all that there is was read), and nobody was
given it. Where others were given it, the reader that was not has skipped it. A gap in a poll sequence is legal when
what lies there is the marker of a transaction, a record of a transaction that did not commit, or, in a table, a record
whose key has a later one. In a topic without transactions that is no table offsets follow each other without a gap.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from ottla.testing.history.facts import Facts, excerpt
from ottla.testing.history.operations import Operation, Outcome, Poll, Send, TopicPartition
from ottla.testing.history.sequences import Gap
from ottla.testing.history.verdict import Anomaly, Kind


def lost_writes(facts: Facts) -> Iterator[Anomaly]:
    """Acknowledged, and nowhere. Of a transaction that shows in part, `torn` tells."""
    superseded = _Superseded(facts)
    for send, place in zip(facts.history.sends, facts.places, strict=True):
        if place is not None and send.transaction is None:
            continue
        if not facts.must_show(send) or not facts.is_hidden(send):
            continue
        if send.topic in facts.expectations.tables and superseded.is_old(send):
            continue
        if send.transaction is not None and facts.transactions[send.transaction].shown is not None:
            continue
        yield Anomaly(Kind.LOST_WRITE, _explained(facts, send), (send, *_who_passed(facts, send)))


def unjudged(facts: Facts) -> int:
    """Acknowledged writes that were not seen, but no reader came to where they are."""
    count = 0
    for send, place in zip(facts.history.sends, facts.places, strict=True):
        if place is None and facts.must_show(send) and send.offset >= 0:
            count += not facts.was_passed(TopicPartition(send.topic, send.partition), send.offset)
    return count


def _explained(facts: Facts, send: Send) -> str:
    partition = TopicPartition(send.topic, send.partition)
    what = f"{send.value} was acknowledged for {partition}"
    if send.offset < 0:
        return f"{what} and is nowhere in it"
    there = facts.log(*partition).seen.get(send.offset)
    if there is not None:
        return f"{what} at offset {send.offset}, where readers found {there.value}"
    end = facts.final_ends.get(partition)
    if end is not None and send.offset >= end:
        return f"{what} at offset {send.offset}, and in the end the log ends at {end}"
    return f"{what} at offset {send.offset}; readers went over it and were not given it"


def _who_passed(facts: Facts, send: Send) -> Iterator[Operation]:
    log = facts.log(send.topic, send.partition)
    following = min((offset for offset in log.seen if offset >= send.offset >= 0), default=None)
    if following is not None:
        yield from facts.polls_of(log.seen[following], 1)


class _Superseded:
    """Of tables: whether a record may have been compacted away, because its key has, or may have, a later one."""

    def __init__(self, facts: Facts) -> None:
        self._latest: dict[tuple[str, str | None], float] = {}
        for send in facts.history.sends:
            if send.topic in facts.expectations.tables and send.outcome is not Outcome.FAILED:
                key = send.topic, send.key
                offset = send.offset if send.offset >= 0 else float("inf")
                self._latest[key] = max(self._latest.get(key, -1), offset)

    def is_old(self, send: Send) -> bool:
        return send.value is None or self._latest[send.topic, send.key] > send.offset


def skipped(facts: Facts) -> Iterator[Anomaly]:
    """What one reader was not given although it went over it."""
    acknowledged = _acknowledged(facts)
    for partition, log in facts.logs.items():
        if not log.gaps or partition.topic in facts.expectations.tables:
            continue
        visible = sorted(
            offset
            for offset, record in log.seen.items()
            if record.transaction is None or (offset in log.committed and facts.is_committed(record))
        )
        every = sorted(log.seen)
        dense = not facts.topics[partition.topic].has_transactions
        for gap in log.gaps:
            known = visible if gap.committed else every
            missing = known[bisect_left(known, gap.start) : bisect_left(known, gap.end)]
            if missing:
                record = log.seen[missing[0]]
                yield Anomaly(
                    Kind.SKIPPED,
                    f"{gap.poll.process} went over {partition} {_offsets(missing)} and was not given {record.value}, "
                    "which others were",
                    (_cut(gap, partition), *facts.polls_of(record, 2)),
                )
            elif dense and not any(offset in acknowledged[partition] for offset in range(gap.start, gap.end)):
                yield Anomaly(
                    Kind.SKIPPED,
                    f"{gap.poll.process} went in {partition} from {gap.start - 1} to {gap.end}, and no transaction "
                    "writes there that would explain it",
                    (_cut(gap, partition),),
                )


def _acknowledged(facts: Facts) -> defaultdict[TopicPartition, set[int]]:
    """Offsets whose loss `lost_writes` tells of. Only of partitions with gaps."""
    wanted = {partition for partition, log in facts.logs.items() if log.gaps}
    found: defaultdict[TopicPartition, set[int]] = defaultdict(set)
    if wanted:
        for send in facts.history.sends:
            if send.offset >= 0 and (send.topic, send.partition) in wanted:
                found[TopicPartition(send.topic, send.partition)].add(send.offset)
    return found


def _cut(gap: Gap, partition: TopicPartition) -> Poll:
    return excerpt(gap.poll, *partition, gap.end)


def _offsets(offsets: list[int]) -> str:
    if len(offsets) == 1:
        return f"offset {offsets[0]}"
    return f"{len(offsets)} offsets from {offsets[0]} to {offsets[-1]}"

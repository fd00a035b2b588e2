"""Committed offsets: with the records that they belong to, never before their transaction, never lost."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from ottla.testing.history.facts import Facts
from ottla.testing.history.operations import At, Commit, OffsetFetch, Operation, Outcome, Send, TopicPartition
from ottla.testing.history.transactions import Transaction
from ottla.testing.history.verdict import Anomaly, Kind


class _Committed(NamedTuple):
    """An offset that somebody committed; with a transaction, from the request for its end until that has its answer."""

    invoked_ns: int
    completed_ns: float  # inf: nobody was told when
    certain: bool
    possible: bool  # False: its transaction was aborted
    commit: Commit
    transaction: Transaction | None

    def operations(self) -> tuple[Operation, ...]:
        return (self.commit, *(self.transaction.ends if self.transaction is not None else ()))


@dataclass(slots=True)
class _Offset:
    """One group in one partition."""

    by_offset: defaultdict[int, list[_Committed]] = field(default_factory=lambda: defaultdict(list))
    certain: list[_Committed] = field(default_factory=list)
    _latest: list[_Committed] = field(default_factory=list)

    def sort(self) -> None:
        self.certain.sort(key=lambda one: one.completed_ns)
        latest: _Committed | None = None
        for one in self.certain:
            if latest is None or one.invoked_ns > latest.invoked_ns:
                latest = one
            self._latest.append(latest)

    def latest_before(self, at_ns: int) -> _Committed | None:
        """Of those that had been acknowledged by then, the one that was asked for last."""
        place = bisect_left(self.certain, float(at_ns), key=lambda one: one.completed_ns)
        return self._latest[place - 1] if place else None


def committed_offsets(facts: Facts) -> Iterator[Anomaly]:
    """Each answer to a question for committed offsets must be what somebody committed, and nothing that is outdated."""
    if not facts.history.offset_fetches:
        return
    offsets = _offsets_of(facts)
    groups = {group for group, _ in offsets}
    for fetch in facts.history.offset_fetches:
        if fetch.outcome is not Outcome.OK or fetch.group not in groups:
            continue
        for at in fetch.offsets:
            partition = TopicPartition(at.topic, at.partition)
            yield from _judge(fetch, partition, at.offset, offsets.get((fetch.group, partition), _Offset()))


def _judge(fetch: OffsetFetch, partition: TopicPartition, offset: int, own: _Offset) -> Iterator[Anomaly]:
    latest = own.latest_before(fetch.invoked_ns)
    where = f"of {fetch.group} in {partition}"
    if offset < 0:
        if latest is not None:
            yield Anomaly(Kind.LOST_COMMIT, f"the committed offset {where} is gone", (*latest.operations(), fetch))
        return
    candidates = own.by_offset.get(offset, [])
    possible = [one for one in candidates if one.possible]
    if not candidates:
        yield Anomaly(Kind.FROM_NOWHERE, f"the committed offset {where} is {offset}, which nobody committed", (fetch,))
    elif not possible:
        yield Anomaly(
            Kind.OFFSETS_WITHOUT_RECORDS,
            f"the committed offset {where} is {offset}, of a transaction that was aborted",
            (*candidates[0].operations(), fetch),
        )
    elif all(one.invoked_ns > (fetch.completed_ns or 0) for one in possible):
        yield Anomaly(
            Kind.UNCOMMITTED_READ,
            f"the committed offset {where} was {offset} before anybody asked for the commit of its transaction",
            (*possible[0].operations(), fetch),
        )
    elif latest is not None and all(one.completed_ns < latest.invoked_ns for one in possible):
        yield Anomaly(
            Kind.LOST_COMMIT,
            f"the committed offset {where} is {offset}, but another had been committed after it",
            (*possible[-1].operations(), *latest.operations(), fetch),
        )


def _offsets_of(facts: Facts) -> dict[tuple[str, TopicPartition], _Offset]:
    found: defaultdict[tuple[str, TopicPartition], _Offset] = defaultdict(_Offset)
    for commit in facts.history.commits:
        if commit.outcome is Outcome.FAILED:
            continue
        one = _committed(facts, commit)
        for at in commit.offsets:
            own = found[commit.group, TopicPartition(at.topic, at.partition)]
            own.by_offset[at.offset].append(one)
            if one.certain:
                own.certain.append(one)
    for own in found.values():
        own.sort()
    return found


def _committed(facts: Facts, commit: Commit) -> _Committed:
    if commit.transaction is None:
        certain = commit.outcome is Outcome.OK and commit.completed_ns is not None
        completed = commit.completed_ns if certain and commit.completed_ns is not None else inf
        return _Committed(commit.invoked_ns, completed, certain, True, commit, None)
    transaction = facts.transactions[commit.transaction]
    if not transaction.may_have_committed:
        return _Committed(commit.invoked_ns, inf, False, False, commit, transaction)
    told = transaction.told_committed
    certain = commit.outcome is Outcome.OK and told is not None and told.completed_ns is not None
    completed = told.completed_ns if certain and told is not None and told.completed_ns is not None else inf
    return _Committed(transaction.commit_asked_ns, completed, certain, True, commit, transaction)


def offsets_and_records(facts: Facts) -> Iterator[Anomaly]:
    """When all is over: what lies before a committed offset was processed, and nothing behind it was."""
    made: defaultdict[TopicPartition, dict[int, list[Send]]] = defaultdict(dict)
    for send in facts.history.sends:
        if send.source is not None and send.transaction is not None and send.outcome is not Outcome.FAILED:
            of = made[TopicPartition(send.source.topic, send.source.partition)]
            of.setdefault(send.source.offset, []).append(send)
    if not made:
        return
    for fetch in facts.history.offset_fetches:
        if fetch.final and fetch.outcome is Outcome.OK:
            told = {TopicPartition(at.topic, at.partition): at for at in fetch.offsets}
            for partition, sends in made.items():
                own = [send for one in sends.values() for send in one if _feeds(facts, send, fetch.group)]
                if own and partition in told:
                    yield from _compare(facts, fetch, told[partition], sends, {send.topic for send in own})


def _feeds(facts: Facts, send: Send, group: str) -> bool:
    assert send.transaction is not None
    return any(commit.group == group for commit in facts.transactions[send.transaction].commits)


def _compare(
    facts: Facts, fetch: OffsetFetch, at: At, sends: dict[int, list[Send]], outputs: set[str]
) -> Iterator[Anomaly]:
    partition = TopicPartition(at.topic, at.partition)
    shown = {source: next(filter(lambda one: _shows(facts, one), of), None) for source, of in sends.items()}
    if _all_read(facts, outputs):
        log = facts.log(*partition)
        for source, record in log.seen.items():
            if source < at.offset and shown.get(source) is None and facts.is_committed(record):
                if any(facts.must_show(send) for send in sends.get(source, ())):
                    continue  # it is lost or torn, and that is told elsewhere
                yield Anomaly(
                    Kind.OFFSETS_WITHOUT_RECORDS,
                    f"{fetch.group} has committed offset {at.offset} of {partition}, and what lies at {source} was not "
                    "processed",
                    (*sends.get(source, ())[:3], fetch),
                )
    for source, send in shown.items():
        if source >= at.offset and send is not None:
            yield Anomaly(
                Kind.RECORDS_WITHOUT_OFFSETS,
                f"{send.value} was made of offset {source} of {partition}, and {fetch.group} has committed {at.offset}",
                (send, fetch),
            )


def _shows(facts: Facts, send: Send) -> bool:
    """As committed. (That one of an aborted transaction shows is told elsewhere.)"""
    place = facts.found(send)
    if place is None or send.transaction is None or not facts.transactions[send.transaction].may_have_committed:
        return False
    return place.offset in facts.log(send.topic, place.partition).committed


def _all_read(facts: Facts, topics: set[str]) -> bool:
    """The topics that were written to were read to their ends."""
    partitions = [partition for partition in facts.final_ends if partition.topic in topics]
    return bool(partitions) and all(facts.is_complete(partition) for partition in partitions)

"""Models: the total of a bank, and the values of keys in a compacted topic."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ottla.testing.history.facts import Facts
from ottla.testing.history.operations import Outcome, Send, Snapshot
from ottla.testing.history.verdict import Anomaly, Kind


def wrong_totals(facts: Facts) -> Iterator[Anomaly]:
    """Transfers move money and make none: whoever reads all accounts finds the total that they began with."""
    for snapshot in facts.history.snapshots:
        wanted = facts.expectations.banks.get(snapshot.topic)
        if wanted is None or snapshot.outcome is not Outcome.OK:
            continue
        total = sum(int(balance) for _, balance in snapshot.entries)
        if total != wanted:
            yield Anomaly(
                Kind.WRONG_TOTAL, f"the accounts of {snapshot.topic} have {total} instead of {wanted}", (snapshot,)
            )


@dataclass(slots=True)
class _Key:
    """What was written to one key; the value None deletes it."""

    by_value: defaultdict[str | None, list[Send]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: list[tuple[int, Send]] = field(default_factory=list)
    """With when it was certain, in that order."""
    _highest: list[Send] = field(default_factory=list)

    def sort(self) -> None:
        self.acknowledged.sort(key=lambda one: one[0])
        for _, send in self.acknowledged:
            highest = self._highest[-1] if self._highest else send
            self._highest.append(max(highest, send, key=lambda one: one.offset))

    def latest_before(self, at_ns: int) -> Send | None:
        """Of those that were certain by then, the one with the highest offset."""
        place = bisect_left(self.acknowledged, at_ns, key=lambda one: one[0])
        return self._highest[place - 1] if place else None


def stale_values(facts: Facts) -> Iterator[Anomaly]:
    """Of each key a reader must find what was acknowledged last before it looked, or something later."""
    topics = {snapshot.topic for snapshot in facts.history.snapshots} - facts.expectations.banks.keys()
    if not topics:
        return
    keys = _keys_of(facts, topics)
    for snapshot in facts.history.snapshots:
        if snapshot.topic in topics and snapshot.outcome is Outcome.OK:
            entries = dict(snapshot.entries)
            for name in keys[snapshot.topic].keys() | entries.keys():
                key = keys[snapshot.topic].get(name, _NOTHING)
                yield from _judge(snapshot, name, key, entries.get(name))


def _judge(snapshot: Snapshot, name: str, key: _Key, value: str | None) -> Iterator[Anomaly]:
    latest = key.latest_before(snapshot.invoked_ns)
    found = [one for one in key.by_value.get(value, ()) if one.invoked_ns <= (snapshot.completed_ns or 0)]
    if value is not None and not found:
        yield Anomaly(
            Kind.FROM_NOWHERE, f"{name} has in {snapshot.topic} the value {value}, which nobody wrote", (snapshot,)
        )
    elif latest is not None and all(0 <= one.offset < latest.offset for one in found):
        told = "no value" if value is None else f"the value {value}"
        yield Anomaly(
            Kind.STALE_VALUE,
            f"{name} has in {snapshot.topic} {told}, but {latest.value} was acknowledged after it",
            (*found[:1], latest, snapshot),
        )


def _keys_of(facts: Facts, topics: set[str]) -> defaultdict[str, dict[str, _Key]]:
    keys: defaultdict[str, dict[str, _Key]] = defaultdict(dict)
    for send in facts.history.sends:
        if send.topic not in topics or send.key is None or send.outcome is Outcome.FAILED:
            continue
        transaction = facts.transactions[send.transaction] if send.transaction is not None else None
        if transaction is not None and not transaction.may_have_committed:
            continue
        key = keys[send.topic].setdefault(send.key, _Key())
        key.by_value[send.value].append(send)
        if send.outcome is Outcome.OK and send.offset >= 0:
            told = send if transaction is None else transaction.told_committed
            if told is not None and told.completed_ns is not None:
                key.acknowledged.append((told.completed_ns, send))
    for of in keys.values():
        for key in of.values():
            key.sort()
    return keys


_NOTHING: Final = _Key()

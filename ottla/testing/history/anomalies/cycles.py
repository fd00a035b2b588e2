"""Cycles of dependencies between transactions (Adya's G0 and G1c).

A transaction depends on another when it read (committed) records of it, when the same process ran it later, and, where
transactions are isolated from each other, when it wrote behind it in a partition. Kafka does not isolate writes: two
transactions that are open at the same time may well stand in one partition in the one order and in another in the
other. So their order counts only where `Expectations.isolated_writes` says so. What transactions that do not overlap
wrote in the wrong order is told as reordered.
"""

from collections import defaultdict
from collections.abc import Iterator

from ottla.testing.history.anomalies.graph import components, shortest_cycle
from ottla.testing.history.facts import Facts
from ottla.testing.history.transactions import Transaction
from ottla.testing.history.verdict import Anomaly, Kind

_Graph = dict[int, list[int]]


class _Transactions:
    """Committed ones, numbered by time, and the edges between them."""

    def __init__(self, facts: Facts) -> None:
        self.ordered = sorted((one for one in facts.transactions.values() if one.has_committed), key=_ended_ns)
        self.numbers = {one.name: number for number, one in enumerate(self.ordered)}
        self.writes = self._sequence(facts)
        self.reads = self._reads()

    def _sequence(self, facts: Facts) -> _Graph:
        edges: defaultdict[int, list[int]] = defaultdict(list)
        last: dict[str, int] = {}
        for number, one in enumerate(self.ordered):
            if one.begins:
                process = one.begins[0].process
                if process in last:
                    edges[last[process]].append(number)
                last[process] = number
        if facts.expectations.isolated_writes:
            for log in facts.logs.values():
                before = -1
                for offset in sorted(log.seen):
                    own = self.numbers.get(log.seen[offset].transaction or "", -1)
                    if own >= 0:
                        if own != before >= 0:
                            edges[before].append(own)
                        before = own
        return edges

    def _reads(self) -> _Graph:
        edges: defaultdict[int, list[int]] = defaultdict(list)
        for number, one in enumerate(self.ordered):
            for poll in one.polls:
                if not poll.committed:
                    continue
                for name in {record.transaction for record in poll.records if record.transaction is not None}:
                    writer = self.numbers.get(name, number)
                    if writer != number:
                        edges[writer].append(number)
        return edges

    def anomaly(self, kind: Kind, edges: _Graph, component: list[int]) -> Anomaly:
        cycle = [self.ordered[number] for number in shortest_cycle(edges, component)]
        names = " → ".join([one.name for one in cycle] + [cycle[0].name])
        operations = [
            operation for one in cycle for operation in (*one.begins, *one.sends[:2], *one.polls[:2], *one.ends)
        ]
        return Anomaly(kind, f"each depends on the one before it: {names}", tuple(operations))


def cycles(facts: Facts) -> Iterator[Anomaly]:
    """Those of writes alone first; then those that need reads."""
    transactions = _Transactions(facts)
    known: set[int] = set()
    for component in components(transactions.writes):
        known.update(component)
        yield transactions.anomaly(Kind.WRITE_CYCLE, transactions.writes, component)
    both = {
        number: [*transactions.writes.get(number, ()), *transactions.reads.get(number, ())]
        for number in transactions.writes.keys() | transactions.reads.keys()
    }
    for component in components(both):
        if known.isdisjoint(component):
            yield transactions.anomaly(Kind.READ_CYCLE, both, component)


def _ended_ns(transaction: Transaction) -> int:
    return transaction.commit_asked_ns

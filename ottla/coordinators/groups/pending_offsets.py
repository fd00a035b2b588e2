"""Offsets that producers have sent to their transactions (KIP-98), as long as these transactions are open.

A pending offset becomes a committed one when its transaction commits, unless a record that came later in the log was
committed before: the log's order decides, not the order in which transactions end. A tombstone ends pending offsets
too: a deleted group's do not come back with the commit. All of it follows Kafka.

Pending offsets are replayed when they are in the log already. Only records of a turn, commits and tombstones, are ever
taken back, and with them what they did to pending offsets.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ottla.coordinators.runtime import ProducerIdentity

Place = tuple[str, str, int]
"""Group, topic, partition."""


@dataclass(slots=True, eq=False)
class PendingOffset:
    """One offset of an open transaction."""

    order: int
    """Its place in the log among pending offsets."""
    value: bytes
    overtaken: bool = False
    """An offset that stands behind it in the log is committed already, so it will not be."""


@dataclass(slots=True, eq=False)
class _Transaction:
    producer_epoch: int
    offsets: dict[Place, PendingOffset]


class PendingOffsets:
    """The pending offsets of one shard."""

    def __init__(self) -> None:
        self._transactions: dict[int, _Transaction] = {}
        """By producer id."""
        self._open: dict[str, dict[tuple[str, int], set[int]]] = {}
        """Producer ids by group, and by topic and partition."""
        self._replayed = 0
        self._taken_by_turn: list[tuple[PendingOffset, int, Place] | PendingOffset] = []
        """What the present turn removed (of a producer, from a place) or overtook."""

    # --- changes

    def replay(self, producer: ProducerIdentity, group_id: str, topic: str, partition: int, value: bytes) -> None:
        """A record of the producer's transaction."""
        transaction = self._transactions.get(producer.producer_id)
        if transaction is None:
            transaction = self._transactions[producer.producer_id] = _Transaction(producer.producer_epoch, {})
        transaction.producer_epoch = producer.producer_epoch
        self._replayed += 1
        self._insert(producer.producer_id, (group_id, topic, partition), PendingOffset(self._replayed, value))

    def committed_beside(self, group_id: str, topic: str, partition: int) -> None:
        """An offset was committed without a transaction: those that are pending now stand before it in the log."""
        if not self._open:
            return
        for producer_id in self._open.get(group_id, {}).get((topic, partition), ()):
            self._overtake(self._transactions[producer_id].offsets[group_id, topic, partition])

    def deleted(self, group_id: str, topic: str, partition: int) -> None:
        """A tombstone."""
        place = (group_id, topic, partition)
        for producer_id in list(self._open.get(group_id, {}).get((topic, partition), ())):
            pending = self._transactions[producer_id].offsets[place]
            self._remove(producer_id, place)
            self._taken_by_turn.append((pending, producer_id, place))

    def end(self, producer_id: int, committed: bool) -> tuple[list[tuple[Place, bytes]], set[str]]:
        """The transaction is over: the offsets that are committed by that, and the groups that had some pending."""
        transaction = self._transactions.get(producer_id)
        if transaction is None:
            return [], set()
        taken = list(transaction.offsets.items())
        visible = []
        for place, pending in taken:
            self._remove(producer_id, place)
            if committed and not pending.overtaken:
                visible.append((place, pending.value))
                self._overtake_older(place, pending)
        self._transactions.pop(producer_id, None)
        return visible, {group_id for (group_id, _, _), _ in taken}

    def turn_written(self) -> None:
        self._taken_by_turn.clear()

    def take_back(self) -> set[str]:
        """Undo what was done since `turn_written`; the groups that have pending offsets again."""
        concerned = set()
        for taken in reversed(self._taken_by_turn):
            if isinstance(taken, PendingOffset):
                taken.overtaken = False
            else:
                pending, producer_id, place = taken
                self._insert(producer_id, place, pending)
                concerned.add(place[0])
        self._taken_by_turn.clear()
        return concerned

    def _overtake(self, pending: PendingOffset) -> None:
        if not pending.overtaken:
            pending.overtaken = True
            self._taken_by_turn.append(pending)

    def _overtake_older(self, place: Place, committed: PendingOffset) -> None:
        """Of other transactions; a transaction's end is never taken back."""
        group_id, topic, partition = place
        for producer_id in self._open.get(group_id, {}).get((topic, partition), ()):
            other = self._transactions[producer_id].offsets[place]
            if other.order < committed.order:
                other.overtaken = True

    def _insert(self, producer_id: int, place: Place, pending: PendingOffset) -> None:
        self._transactions[producer_id].offsets[place] = pending
        group_id, topic, partition = place
        self._open.setdefault(group_id, {}).setdefault((topic, partition), set()).add(producer_id)

    def _remove(self, producer_id: int, place: Place) -> None:
        """The transaction stays known, if only by its producer: a tombstone does not end it."""
        del self._transactions[producer_id].offsets[place]
        group_id, topic, partition = place
        producers = self._open[group_id][topic, partition]
        producers.discard(producer_id)
        if not producers:
            del self._open[group_id][topic, partition]
            if not self._open[group_id]:
                del self._open[group_id]

    # --- looks

    def has(self, group_id: str) -> bool:
        return group_id in self._open

    def has_at(self, group_id: str, topic: str, partition: int) -> bool:
        """Whether the offset may change by the end of a transaction."""
        return (topic, partition) in self._open.get(group_id, ())

    def places(self, group_id: str) -> Iterator[tuple[str, int]]:
        """Topics and partitions in which the group has pending offsets."""
        return iter(self._open.get(group_id, ()))

    def groups_of_topic(self, topic: str) -> list[str]:
        """Groups that have a pending offset in this topic."""
        return [group_id for group_id, places in self._open.items() if any(name == topic for name, _ in places)]

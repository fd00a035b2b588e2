"""What a history says, arranged for the checks: who sent what, where it was seen, what readers went over."""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple

from ottla.testing.history.history import History
from ottla.testing.history.operations import Outcome, Poll, Seen, Send, TopicPartition, Written
from ottla.testing.history.sequences import Log, logs_of
from ottla.testing.history.transactions import Transaction, transactions_of
from ottla.testing.history.verdict import Expectations

_NOTHING: Final = Log()


class Identity(NamedTuple):
    """What makes a record the one that was sent. In a table values repeat, and the key is part of it."""

    value: str | None
    transaction: str | None
    key: str | None


class Place(NamedTuple):
    """Where a record was seen, within its topic."""

    partition: int
    offset: int


@dataclass(slots=True)
class Topic:
    """One topic: records by what they are."""

    is_table: bool
    sent: dict[Identity | str | None, Send] = field(default_factory=dict)
    found: dict[Identity | str | None, Place] = field(default_factory=dict)
    """Where it was seen first."""
    twice: list[tuple[Seen, Seen]] = field(default_factory=list)
    """Records that were seen at two places as committed."""
    has_transactions: bool = False

    def identity(self, value: str | None, transaction: str | None, key: str | None) -> Identity | str | None:
        """Most records need no more than their value."""
        if self.is_table:
            return Identity(value, transaction, key)
        return value if transaction is None else Identity(value, transaction, None)


class Facts:
    """Everything that more than one check asks for."""

    def __init__(self, history: History, expectations: Expectations) -> None:
        self.history, self.expectations = history, expectations
        self.transactions: dict[str, Transaction] = transactions_of(history)
        self.logs: dict[TopicPartition, Log] = logs_of(history)
        self.topics: dict[str, Topic] = {}
        self._learn_sends()
        self._learn_shown()
        self._learn_places()

    def _topic(self, name: str) -> Topic:
        known = self.topics.get(name)
        if known is None:
            known = self.topics[name] = Topic(name in self.expectations.tables)
        return known

    def _learn_sends(self) -> None:
        topics: dict[str, Topic] = {}
        for send in self.history.sends:
            topic = topics.get(send.topic)
            if topic is None:
                topic = topics[send.topic] = self._topic(send.topic)
            if send.transaction is None and not topic.is_table:
                topic.sent[send.value] = send
            else:
                topic.sent[topic.identity(send.value, send.transaction, send.key)] = send
                topic.has_transactions |= send.transaction is not None

    def _learn_shown(self) -> None:
        """Which poll of committed records held something of a transaction first."""
        for poll in self.history.polls:
            if not poll.committed or poll.completed_ns is None:
                continue
            last = None
            for record in poll.records:
                name = record[5]
                if name is None or name == last:
                    continue
                last = name
                transaction = self.transactions.get(name)
                if transaction is None:
                    transaction = self.transactions[name] = Transaction(name)
                before = transaction.shown
                if before is None or (before.completed_ns or 0) > poll.completed_ns:
                    transaction.shown = poll

    def _learn_places(self) -> None:
        for (name, partition), log in self.logs.items():
            topic = self._topic(name)
            found, is_table = topic.found, topic.is_table
            for offset, record in log.seen.items():
                if record[5] is None and not is_table:
                    identity: Identity | str | None = record[3]
                else:
                    identity = topic.identity(record.value, record.transaction, record.key)
                    topic.has_transactions |= record.transaction is not None
                place = Place(partition, offset)
                first = found.setdefault(identity, place)
                if first is not place and not is_table:
                    topic.twice.append((self.logs[TopicPartition(name, first.partition)].seen[first.offset], record))

    # -- what is asked

    def found(self, send: Send) -> Place | None:
        """Where the record was seen; of one in a table only when it was told where it is."""
        topic = self.topics[send.topic]
        if topic.is_table:
            record = self.log(send.topic, send.partition).seen.get(send.offset)
            is_it = record is not None and (record.key, record.value) == (send.key, send.value)
            return Place(send.partition, send.offset) if is_it else None
        return topic.found.get(topic.identity(send.value, send.transaction, send.key))

    @cached_property
    def places(self) -> list[Place | None]:
        """`found` of each send of the history, in its order."""
        places: list[Place | None] = []
        for send in self.history.sends:
            topic = self.topics[send.topic]
            plain = send.transaction is None and not topic.is_table  # most are
            places.append(topic.found.get(send.value) if plain else self.found(send))
        return places

    def log(self, topic: str, partition: int) -> Log:
        """What was seen of a partition."""
        return self.logs.get(TopicPartition(topic, partition), _NOTHING)

    def sent(self, record: Seen) -> Send | None:
        """Who sent a record that was seen."""
        topic = self.topics[record.topic]
        return topic.sent.get(topic.identity(record.value, record.transaction, record.key))

    def is_committed(self, record: Seen) -> bool:
        """A reader of committed records must be given it. (One of an aborted transaction must not, though one was.)"""
        if record.transaction is None:
            return True
        transaction = self.transactions.get(record.transaction)
        return transaction is not None and transaction.has_committed

    def must_show(self, send: Send) -> bool:
        """It was acknowledged, and its transaction, if it has one, committed."""
        if send.outcome is not Outcome.OK:
            return False
        return send.transaction is None or self.transactions[send.transaction].has_committed

    @cached_property
    def _writers(self) -> dict[TopicPartition, list[Written]]:
        return {TopicPartition(one.topic, one.partition): sorted(one.written) for one in self.history.writers}

    def writer(self, record: Seen) -> Written | None:
        """The producer of a record that was seen, when a replica's log says it."""
        written = self._writers.get(TopicPartition(record.topic, record.partition), [])
        index = bisect_right(written, record.offset, key=lambda one: one.first_offset) - 1
        return written[index] if index >= 0 and record.offset <= written[index].last_offset else None

    @cached_property
    def renumbered(self) -> set[tuple[int, int]]:
        """Producer ids and the epochs to which their clients raised them by themselves."""
        return {(one.producer_id, one.epoch) for one in self.history.renumbered}

    @cached_property
    def final_ends(self) -> dict[TopicPartition, int]:
        """Where partitions ended when all was over and read."""
        ends: dict[TopicPartition, int] = {}
        for told in self.history.end_offsets:
            if told.final and told.outcome is Outcome.OK:
                for at in told.offsets:
                    key = TopicPartition(at.topic, at.partition)
                    ends[key] = max(at.offset, ends.get(key, 0))
        return ends

    @cached_property
    def covered(self) -> dict[TopicPartition, list[tuple[int, int]]]:
        """Stretches of offsets that some reader went over, ascending and apart from each other."""
        partitions = self.logs.keys() | self.final_ends.keys()
        return {one: _merged(self.logs.get(one, _NOTHING), self.final_ends.get(one)) for one in partitions}

    def was_passed(self, partition: TopicPartition, offset: int) -> bool:
        """Some reader went over this offset, or nothing is there at the end of it all."""
        end = self.final_ends.get(partition)
        if end is not None and offset >= end:
            return True
        return any(low <= offset < high for low, high in self.covered.get(partition, ()))

    def is_hidden(self, send: Send) -> bool:
        """Readers (of committed records, if it is one of a transaction) went over this record and were not given it."""
        partition = TopicPartition(send.topic, send.partition)
        place = self.found(send)
        if place is None:
            if send.offset < 0:
                return send.partition >= 0 and self.is_complete(partition)
            return self.was_passed(partition, send.offset)
        log = self.log(send.topic, place.partition)
        if send.transaction is None or place.offset in log.committed:
            return False
        return any(low <= place.offset < high for low, high, committed in log.covered if committed)

    def is_complete(self, partition: TopicPartition) -> bool:
        """All of it was read, from offset 0 to the end of the run."""
        end = self.final_ends.get(partition)
        if end is None:
            return False
        return end == 0 or any(low == 0 and high >= end for low, high in self.covered.get(partition, ()))

    @cached_property
    def _polls(self) -> dict[tuple[str, int, int], list[Poll]]:
        polls = defaultdict(list)
        for poll in self.history.polls:
            for record in poll.records:
                polls[record[:3]].append(poll)
        return polls

    def polls_of(self, record: Seen, limit: int = 3) -> tuple[Poll, ...]:
        """Who was given it, cut down to it and its neighbours; for excerpts."""
        return tuple(
            excerpt(poll, record.topic, record.partition, record.offset) for poll in self._polls[record[:3]][:limit]
        )


def excerpt(poll: Poll, topic: str, partition: int, offset: int, around: int = 1) -> Poll:
    """A poll with no more than the records next to this offset."""
    near = [r for r in poll.records if r[0] == topic and r[1] == partition]
    at = next((n for n, r in enumerate(near) if r[2] >= offset), len(near))
    return replace(poll, records=tuple(near[max(0, at - around) : at + around + 1]), positions=())


def of_transaction(poll: Poll, name: str) -> Poll:
    """A poll with no more than the records of one transaction."""
    return replace(poll, records=tuple(r for r in poll.records if r.transaction == name), positions=())


def _merged(log: Log, end: int | None) -> list[tuple[int, int]]:
    stretches = sorted((low, high) for low, high, _ in log.covered)
    if end is not None:
        # All was read up to here, says who told the end; the last offsets may hold markers only.
        highest = max((high for _, high in stretches), default=0)
        if highest < end:
            stretches.append((highest, end))
    merged: list[tuple[int, int]] = []
    for low, high in stretches:
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged

"""Poll sequences: where each consumer went through each partition, and where it left offsets out.

A sequence is broken by an assignment, a revocation or a seek. One that happens while a poll is under way may lie
between two of its records, so that the order of these says nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

from ottla.testing.history.history import History
from ottla.testing.history.operations import Assigned, At, Operation, Outcome, Poll, Revoked, Seek, Seen, TopicPartition

_COMPLETED: Final[Callable[[Operation], int]] = attrgetter("completed_ns")
_UNKNOWN: Final = -1
Reset = Assigned | Revoked | Seek


@dataclass(frozen=True, slots=True)
class Gap:
    """A poll sequence went on at `end` where `start` would have been next."""

    start: int
    end: int
    poll: Poll
    committed: bool


@dataclass(frozen=True, slots=True)
class Back:
    """A poll sequence went on at `offset`, which is not above what it was given before."""

    offset: int
    expected: int
    poll: Poll


@dataclass(frozen=True, slots=True)
class Divergence:
    """A record was seen that is another than the one first seen at this offset."""

    first: Seen
    other: Seen
    poll: Poll


@dataclass(slots=True)
class Log:
    """What consumers saw of one partition."""

    seen: dict[int, Seen] = field(default_factory=dict)
    """By offset, as the first consumer had it."""
    committed: set[int] = field(default_factory=set)
    """Offsets of those that a reader of committed records was given."""
    covered: list[tuple[int, int, bool]] = field(default_factory=list)
    """Offsets that a sequence went over, from the one and below the other, and whether of committed records."""
    gaps: list[Gap] = field(default_factory=list)
    backs: list[Back] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)


@dataclass(slots=True)
class _Cursor:
    """One consumer in one partition."""

    log: Log
    start: int = _UNKNOWN
    next: int = _UNKNOWN
    committed: bool = False

    def reset(self, start: int = _UNKNOWN) -> None:
        if self.next > self.start >= 0:
            self.log.covered.append((self.start, self.next, self.committed))
        self.start = self.next = start

    def jump(self, offset: int, poll: Poll) -> None:
        """`offset` comes and is not the next one."""
        if self.next == _UNKNOWN:
            self.start = offset
        elif offset > self.next:
            self.log.gaps.append(Gap(self.next, offset, poll, poll.committed))
        else:
            self.log.backs.append(Back(offset, self.next, poll))
            self.reset(offset)

    def stand_at(self, offset: int, poll: Poll) -> None:
        """It tells where it is, beyond what it was given or before it was given anything."""
        self.committed = poll.committed
        if self.next == _UNKNOWN:
            self.start = self.next = offset
        elif offset > self.next:
            self.log.gaps.append(Gap(self.next, offset, poll, poll.committed))
            self.next = offset


def logs_of(history: History) -> dict[TopicPartition, Log]:
    """What consumers saw, by partition."""
    logs: defaultdict[TopicPartition, Log] = defaultdict(Log)
    polls: defaultdict[str, list[Poll]] = defaultdict(list)
    resets: defaultdict[str, list[Reset]] = defaultdict(list)
    for poll in history.polls:
        if poll.completed_ns is not None:
            polls[poll.process].append(poll)
    every: tuple[Reset, ...] = (*history.assigned, *history.revoked, *history.seeks)
    for one in every:
        if one.completed_ns is not None and one.outcome is not Outcome.FAILED:
            resets[one.process].append(one)
    for process, own in polls.items():
        _follow(sorted(own, key=_COMPLETED), sorted(resets[process], key=_COMPLETED), logs)
    return logs


class _Cursors(dict[TopicPartition, _Cursor]):
    """Of one consumer."""

    def __init__(self, logs: defaultdict[TopicPartition, Log]) -> None:
        self._logs = logs

    def __missing__(self, partition: TopicPartition) -> _Cursor:
        cursor = self[partition] = _Cursor(self._logs[partition])
        return cursor


def _follow(polls: Iterable[Poll], resets: list[Reset], logs: defaultdict[TopicPartition, Log]) -> None:
    """One consumer, its polls and what broke them in the order of completion."""
    cursors = _Cursors(logs)
    coming = 0
    for poll in polls:
        within: set[TopicPartition] = set()
        while coming < len(resets) and _COMPLETED(resets[coming]) <= _COMPLETED(poll):
            reset = resets[coming]
            starts = {TopicPartition(at.topic, at.partition): at.offset for at in _starts_of(reset)}
            for partition in _partitions_of(reset):
                cursors[partition].reset(starts.get(partition, _UNKNOWN))
                if reset.invoked_ns >= poll.invoked_ns and poll.records:
                    within.add(partition)
            coming += 1
        if within:
            _take_broken(poll, within, cursors, logs)
        else:
            _take(poll, cursors)
        for at in poll.positions:
            cursors[TopicPartition(at.topic, at.partition)].stand_at(at.offset, poll)
    for cursor in cursors.values():
        cursor.reset()


def _take(poll: Poll, cursors: _Cursors) -> None:
    topic, partition = "", -1
    cursor: _Cursor | None = None
    committed = poll.committed
    for record in poll.records:
        if cursor is None or record[1] != partition or record[0] != topic:
            topic, partition = record[0], record[1]
            cursor = cursors[TopicPartition(topic, partition)]
            cursor.committed = committed
            seen, add = cursor.log.seen, cursor.log.committed.add
        offset = record[2]
        if offset != cursor.next:
            cursor.jump(offset, poll)
        cursor.next = offset + 1
        first = seen.setdefault(offset, record)
        if first is not record and (first[3] != record[3] or first[5] != record[5]):
            cursor.log.divergences.append(Divergence(first, record, poll))
        if committed:
            add(offset)


def _take_broken(
    poll: Poll, within: set[TopicPartition], cursors: _Cursors, logs: defaultdict[TopicPartition, Log]
) -> None:
    """A call that a rebalance of some partitions fell into."""
    kept = []
    for record in poll.records:
        if (record.topic, record.partition) in within:
            _take(replace(poll, records=(record,)), _Cursors(logs))
        else:
            kept.append(record)
    _take(replace(poll, records=tuple(kept)), cursors)
    for partition in within:
        cursors[partition].reset()


def _partitions_of(reset: Reset) -> list[TopicPartition]:
    if isinstance(reset, Seek):
        return [TopicPartition(at.topic, at.partition) for at in reset.to]
    return list(reset.partitions)


def _starts_of(reset: Reset) -> tuple[At, ...]:
    match reset:
        case Seek():
            return reset.to
        case Assigned():
            return reset.starts
    return ()

"""Order: of one producer's records in a partition, of acknowledgements in time, of poll sequences."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ottla.testing.history.facts import Facts, excerpt
from ottla.testing.history.operations import EndOffsets, Operation, Outcome, Send, TopicPartition
from ottla.testing.history.verdict import Anomaly, Kind


class _Mark(NamedTuple):
    """An operation and the offset that it tells of."""

    offset: int
    operation: Operation


def reordered(facts: Facts) -> Iterator[Anomaly]:
    """Records that stand before one that had to come before them."""
    own: defaultdict[tuple[str, TopicPartition], list[_Mark]] = defaultdict(list)
    every: defaultdict[TopicPartition, list[_Mark]] = defaultdict(list)
    unordered = facts.expectations.repeating
    for send, place in zip(facts.history.sends, facts.places, strict=True):
        if send.topic in unordered or send.outcome is Outcome.FAILED:
            continue
        partition, offset = send.partition, send.offset
        if offset < 0:
            if place is None:
                continue
            partition, offset = place
        mark = _Mark(offset, send)
        of = TopicPartition(send.topic, partition)
        own[send.process, of].append(mark)
        if send.outcome is Outcome.OK:
            every[of].append(mark)
    blamed: set[int] = set()
    for (process, of), marks in own.items():
        highest = marks[0]
        for mark in marks[1:]:
            if mark.offset > highest.offset:
                highest = mark
            elif mark.operation.invoked_ns > highest.operation.invoked_ns:
                blamed.add(id(mark.operation))
                yield Anomaly(
                    Kind.REORDERED,
                    f"{process} sent {_value(highest)} before {_value(mark)}, and they stand in {of} at "
                    f"{highest.offset} and {mark.offset}",
                    (highest.operation, mark.operation),
                )
    for of, marks in every.items():
        for before, after in _against_time(marks):
            if id(after.operation) not in blamed and before.offset != after.offset:
                yield Anomaly(
                    Kind.REORDERED,
                    f"{_value(before)} was acknowledged at {before.offset} of {of} before {_value(after)} was "
                    f"sent, which stands at {after.offset}",
                    (before.operation, after.operation),
                )


def _value(mark: _Mark) -> str | None:
    assert isinstance(mark.operation, Send)
    return mark.operation.value


def _against_time(marks: Iterable[_Mark]) -> Iterator[tuple[_Mark, _Mark]]:
    """Pairs of which the first had completed when the second was invoked, and yet is not below it."""
    done = sorted(
        (m for m in marks if m.operation.completed_ns is not None), key=lambda m: m.operation.completed_ns or 0
    )
    coming, highest = 0, _Mark(-1, done[0].operation) if done else None
    for mark in sorted(done, key=lambda m: m.operation.invoked_ns):
        while (done[coming].operation.completed_ns or 0) < mark.operation.invoked_ns:
            if highest is None or done[coming].offset > highest.offset:
                highest = done[coming]
            coming += 1
        if highest is not None and highest.offset >= mark.offset:
            yield highest, mark


def went_back(facts: Facts) -> Iterator[Anomaly]:
    """A poll sequence that is given an offset again, or an end of a partition that is lower than it was."""
    for partition, log in facts.logs.items():
        for back in log.backs:
            yield Anomaly(
                Kind.OFFSET_WENT_BACK,
                f"{back.poll.process} was at offset {back.expected} of {partition} and was given {back.offset}",
                (excerpt(back.poll, *partition, back.offset),),
            )
    for (partition, committed), marks in _ends(facts.history.end_offsets).items():
        for before, after in _against_time(marks):
            if after.offset < before.offset:
                what = "last stable offset" if committed else "end"
                yield Anomaly(
                    Kind.OFFSET_WENT_BACK,
                    f"the {what} of {partition} was {before.offset}, and later {after.offset}",
                    (before.operation, after.operation),
                )


def _ends(told: Iterable[EndOffsets]) -> dict[tuple[TopicPartition, bool], list[_Mark]]:
    ends: defaultdict[tuple[TopicPartition, bool], list[_Mark]] = defaultdict(list)
    for one in told:
        if one.outcome is Outcome.OK:
            for at in one.offsets:
                ends[TopicPartition(at.topic, at.partition), one.committed].append(_Mark(at.offset, one))
    return ends

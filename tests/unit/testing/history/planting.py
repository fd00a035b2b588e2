"""Anomalies to plant into correct executions: each changes what clients tell as a bug of that kind would."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, TypeVar

from ottla.testing.history import (
    Assigned,
    At,
    Commit,
    End,
    EndOffsets,
    Kind,
    OffsetFetch,
    Operation,
    Outcome,
    Poll,
    Seen,
    Send,
)
from tests.unit.testing.history.executions import GROUP, PLAIN

T = TypeVar("T")
Plant = Callable[[list[Operation]], list[Operation]]


class NotHere(Exception):
    """This execution has nothing that the plant could change."""


PLANTS: Final[list[tuple[Kind, Plant]]] = []


def plant(kind: Kind) -> Callable[[Plant], Plant]:
    def register(function: Plant) -> Plant:
        PLANTS.append((kind, function))
        return function

    return register


# -- what an execution holds


def first(found: Iterable[T]) -> T:
    for one in found:
        return one
    raise NotHere


def acknowledged(operations: list[Operation], topic: str = PLAIN) -> list[Send]:
    return [one for one in operations if isinstance(one, Send) and one.topic == topic and one.outcome is Outcome.OK]


def polls(operations: list[Operation]) -> list[Poll]:
    return [one for one in operations if isinstance(one, Poll)]


def seen_by(operations: list[Operation], process: str) -> list[Seen]:
    return [record for poll in polls(operations) if poll.process == process for record in poll.records]


def within(records: list[Seen]) -> list[Seen]:
    """Those that have one before and one behind them in their partition."""
    return [
        one
        for one in records
        if any(other[:2] == one[:2] and other.offset < one.offset for other in records)
        and any(other[:2] == one[:2] and other.offset > one.offset for other in records)
    ]


def with_records(
    operations: list[Operation], change: Callable[[Poll, Seen], Iterable[Seen]], *, positions: bool = True
) -> list[Operation]:
    """Each record that was seen replaced by what `change` makes of it."""
    return [
        replace(
            one,
            records=tuple(new for record in one.records for new in change(one, record)),
            positions=one.positions if positions else (),
        )
        if isinstance(one, Poll)
        else one
        for one in operations
    ]


def without(operations: list[Operation], at: At, hidden: Callable[[Poll], bool] = lambda poll: True) -> list[Operation]:
    return with_records(operations, lambda poll, record: () if record[:3] == at and hidden(poll) else (record,))


def at_the_end(operations: list[Operation], value: str, transaction: str | None = None) -> list[Operation]:
    """One more record in a partition of PLAIN, which the last readers see."""
    end = first(one for one in operations if isinstance(one, EndOffsets))
    at = first(at for at in end.offsets if at.topic == PLAIN)
    now = max(one.invoked_ns for one in operations) + 10
    more = [
        Poll(
            process=f"later-{committed}",
            invoked_ns=now,
            completed_ns=now + 1,
            outcome=Outcome.OK,
            committed=committed,
            records=(Seen(*at, value, None, transaction),),
        )
        for committed in (True, False)
    ]
    return [*operations, *more]


def transactions(operations: list[Operation], commit: bool, told: bool = True) -> list[End]:
    ends = [one for one in operations if isinstance(one, End) and one.commit == commit]
    return [one for one in ends if one.outcome is Outcome.OK] if told else ends


# -- the plants


@plant(Kind.LOST_WRITE)
def nobody_is_given_a_record(operations: list[Operation]) -> list[Operation]:
    send = first(acknowledged(operations))
    return without(operations, At(send.topic, send.partition, send.offset))


@plant(Kind.LOST_WRITE)
def the_end_of_a_log_is_cut_off(operations: list[Operation]) -> list[Operation]:
    send = max(acknowledged(operations), key=lambda one: one.offset, default=None)
    if send is None:
        raise NotHere
    cut = At(send.topic, send.partition, send.offset)

    def ends(at: At) -> At:
        return at._replace(offset=min(at.offset, cut.offset)) if at[:2] == cut[:2] else at

    shorter = with_records(
        operations,
        lambda _, record: () if record[:2] == cut[:2] and record.offset >= cut.offset else (record,),
        positions=False,
    )
    return [
        replace(one, offsets=tuple(map(ends, one.offsets))) if isinstance(one, EndOffsets) else one for one in shorter
    ]


@plant(Kind.LOST_WRITE)
def another_record_stands_where_one_was_acknowledged(operations: list[Operation]) -> list[Operation]:
    """One that nobody was told of."""
    send = first(acknowledged(operations))
    at = At(send.topic, send.partition, send.offset)
    other = replace(send, process="another", value="other", outcome=Outcome.UNKNOWN, offset=-1)
    seen = with_records(operations, lambda _, record: (record._replace(value="other") if record[:3] == at else record,))
    return [*seen, other]


@plant(Kind.SKIPPED)
def one_reader_is_not_given_a_record(operations: list[Operation]) -> list[Operation]:
    record = first(one for one in within(seen_by(operations, "final-True")) if one.topic == PLAIN)
    return without(operations, At(*record[:3]), lambda poll: poll.process == "final-True")


@plant(Kind.SKIPPED)
def an_offset_holds_nothing(operations: list[Operation]) -> list[Operation]:
    """Of a record of which nobody knows the outcome, but which was there."""
    values = {record.value: record for record in seen_by(operations, "final-False")}
    send = first(
        one
        for one in operations
        if isinstance(one, Send) and one.topic == PLAIN and one.outcome is Outcome.UNKNOWN and one.value in values
    )
    return without(operations, At(*values[send.value][:3]))


@plant(Kind.SKIPPED)
def one_reader_is_not_given_a_record_of_a_transaction(operations: list[Operation]) -> list[Operation]:
    others = seen_by(operations, "committed")
    record = first(
        one for one in within(seen_by(operations, "final-True")) if one.transaction is not None and one in others
    )
    return without(operations, At(*record[:3]), lambda poll: poll.process == "final-True")


@plant(Kind.DUPLICATE)
def a_record_is_there_twice(operations: list[Operation]) -> list[Operation]:
    value = first(acknowledged(operations)).value
    assert value is not None
    return at_the_end(operations, value)


@plant(Kind.REORDERED)
def two_records_of_a_producer_changed_places(operations: list[Operation]) -> list[Operation]:
    sends = acknowledged(operations)
    one, other = first(
        (one, other)
        for one in sends
        for other in sends
        if (one.process, one.partition) == (other.process, other.partition) and one.invoked_ns < other.invoked_ns
    )
    places = {one.offset: other.offset, other.offset: one.offset}

    def moved(operation: Operation) -> Operation:
        if isinstance(operation, Send) and operation in (one, other):
            return replace(operation, offset=places[operation.offset])
        return operation

    values = {one.offset: other.value, other.offset: one.value}
    seen = with_records(
        operations,
        lambda _, record: (
            record._replace(value=values[record.offset])
            if record[:2] == (one.topic, one.partition) and record.offset in values
            else record,
        ),
    )
    return list(map(moved, seen))


@plant(Kind.REORDERED)
def a_record_stands_before_one_that_was_acknowledged_before_it_was_sent(operations: list[Operation]) -> list[Operation]:
    sends = acknowledged(operations)
    before = first(sends)
    now = max(one.invoked_ns for one in operations) + 1
    late = first(one for one in sends if one.partition == before.partition and one.offset < before.offset)
    own = [one for one in operations if isinstance(one, Send) and one.process == late.process]
    if late is not own[-1]:
        late_operations = [one for one in operations if one is not late]
        return [*late_operations, replace(late, process="another", invoked_ns=now, completed_ns=now + 1)]
    raise NotHere


@plant(Kind.DIVERGENT_OFFSET)
def one_reader_is_given_another_record(operations: list[Operation]) -> list[Operation]:
    record = first(one for one in seen_by(operations, "final-False") if one.topic == PLAIN)
    return with_records(
        operations,
        lambda poll, one: (
            one._replace(value="other") if one[:3] == record[:3] and poll.process == "final-False" else one,
        ),
    )


@plant(Kind.DIVERGENT_OFFSET)
def a_record_stands_elsewhere_than_it_was_said(operations: list[Operation]) -> list[Operation]:
    """Its offset is one that a record of unknown outcome has."""
    send = max(acknowledged(operations), key=lambda one: one.invoked_ns, default=None)
    if send is None:
        raise NotHere
    wrong = replace(send, offset=10_000, process="another")
    return [wrong if one is send else one for one in operations]


@plant(Kind.OFFSET_WENT_BACK)
def a_reader_is_given_a_record_again(operations: list[Operation]) -> list[Operation]:
    poll = first(one for one in polls(operations) if one.process == "uncommitted" and one.records)
    again = replace(poll, records=(*poll.records, poll.records[-1]))
    return [again if one is poll else one for one in operations]


@plant(Kind.OFFSET_WENT_BACK)
def the_end_of_a_partition_is_lower_than_it_was(operations: list[Operation]) -> list[Operation]:
    end = first(one for one in operations if isinstance(one, EndOffsets) and not one.committed)
    now = max(one.invoked_ns for one in operations) + 1
    lower = tuple(at._replace(offset=at.offset - 1) for at in end.offsets)
    return [*operations, replace(end, invoked_ns=now, completed_ns=now, offsets=lower, final=False)]


@plant(Kind.FROM_NOWHERE)
def a_record_that_nobody_sent(operations: list[Operation]) -> list[Operation]:
    return at_the_end(operations, "ghost")


@plant(Kind.FROM_NOWHERE)
def a_record_that_was_refused(operations: list[Operation]) -> list[Operation]:
    send = first(acknowledged(operations))
    return [replace(one, outcome=Outcome.FAILED, offset=-1) if one is send else one for one in operations]


@plant(Kind.FROM_NOWHERE)
def an_offset_that_nobody_committed(operations: list[Operation]) -> list[Operation]:
    fetch = first(one for one in operations if isinstance(one, OffsetFetch))
    return [*operations, replace(fetch, offsets=(fetch.offsets[0]._replace(offset=12_345),))]


@plant(Kind.ABORTED_READ)
def a_reader_is_given_a_record_of_an_aborted_transaction(operations: list[Operation]) -> list[Operation]:
    aborted = {end.transaction for end in transactions(operations, commit=False)}
    record = first(one for one in seen_by(operations, "final-False") if one.transaction in aborted)
    now = max(one.invoked_ns for one in operations) + 1
    poll = Poll(
        process="another", invoked_ns=now, completed_ns=now, outcome=Outcome.OK, committed=True, records=(record,)
    )
    return [*operations, poll]


@plant(Kind.UNCOMMITTED_READ)
def a_reader_is_given_a_record_before_its_commit(operations: list[Operation]) -> list[Operation]:
    end = first(transactions(operations, commit=True))
    record = first(one for one in seen_by(operations, "final-True") if one.transaction == end.transaction)
    at = end.invoked_ns - 1
    poll = Poll(
        process="another", invoked_ns=at, completed_ns=at, outcome=Outcome.OK, committed=True, records=(record,)
    )
    return [*operations, poll]


@plant(Kind.TORN_TRANSACTION)
def a_record_of_a_transaction_is_missing(operations: list[Operation]) -> list[Operation]:
    for end in transactions(operations, commit=True):
        own = [one for one in acknowledged(operations, "output") if one.transaction == end.transaction]
        if len(own) > 1:
            return without(operations, At(own[0].topic, own[0].partition, own[0].offset))
    raise NotHere


@plant(Kind.TORN_TRANSACTION)
def a_record_of_a_transaction_shows_to_readers_of_everything_only(operations: list[Operation]) -> list[Operation]:
    for end in transactions(operations, commit=True):
        own = [one for one in acknowledged(operations, "output") if one.transaction == end.transaction]
        if len(own) > 1:
            return without(operations, At(own[0].topic, own[0].partition, own[0].offset), lambda poll: poll.committed)
    raise NotHere


@plant(Kind.LEFT_OPEN)
def a_transaction_never_ends(operations: list[Operation]) -> list[Operation]:
    end = first(one for one in operations if isinstance(one, EndOffsets) and one.committed)
    lower = tuple(at._replace(offset=at.offset - 1) for at in end.offsets)
    return [replace(one, offsets=lower) if one is end else one for one in operations]


@plant(Kind.OFFSETS_WITHOUT_RECORDS)
def offsets_of_an_aborted_transaction_are_committed(operations: list[Operation]) -> list[Operation]:
    ends = transactions(operations, commit=True)
    commits = [one for one in operations if isinstance(one, Commit)]
    commit = commits[-1] if commits else None
    end = first(one for one in ends if commit is not None and one.transaction == commit.transaction)
    aborted = replace(commit, transaction="aborted", offsets=(At("input", 0, 777),)) if commit is not None else None
    assert aborted is not None
    now = max(one.invoked_ns for one in operations) + 1
    return [
        *operations,
        aborted,
        replace(end, transaction="aborted", commit=False),
        OffsetFetch(
            process="x", invoked_ns=now, completed_ns=now, outcome=Outcome.OK, group=GROUP, offsets=aborted.offsets
        ),
    ]


@plant(Kind.LOST_COMMIT)
def an_older_offset_is_committed_again(operations: list[Operation]) -> list[Operation]:
    told = {one.transaction for one in transactions(operations, commit=True)}
    commits = [one for one in operations if isinstance(one, Commit)]
    older = first(
        one
        for one in commits
        if one.transaction in told
        and any(
            other.offsets[0][:2] == one.offsets[0][:2] and other.transaction in told
            for other in commits_after(one, commits)
        )
        and sum(one.offsets == other.offsets for other in commits) == 1
    )
    now = max(one.invoked_ns for one in operations) + 1
    return [
        *operations,
        OffsetFetch(
            process="x", invoked_ns=now, completed_ns=now, outcome=Outcome.OK, group=GROUP, offsets=older.offsets
        ),
    ]


def commits_after(commit: Commit, commits: list[Commit]) -> list[Commit]:
    return [
        one
        for one in commits
        if one.offsets[0].offset > commit.offsets[0].offset and one.invoked_ns > commit.invoked_ns
    ]


@plant(Kind.LOST_COMMIT)
def a_committed_offset_is_gone(operations: list[Operation]) -> list[Operation]:
    first(transactions(operations, commit=True))
    fetch = first(one for one in operations if isinstance(one, OffsetFetch) and one.final)
    now = max(one.invoked_ns for one in operations) + 1
    gone = tuple(at._replace(offset=-1) for at in fetch.offsets)
    if all(at.offset < 0 for at in fetch.offsets):
        raise NotHere
    return [*operations, replace(fetch, invoked_ns=now, completed_ns=now, offsets=gone, final=False)]


@plant(Kind.TWO_OWNERS)
def a_partition_is_given_to_two_members(operations: list[Operation]) -> list[Operation]:
    assigned = first(one for one in operations if isinstance(one, Assigned) and one.group)
    return [*operations, replace(assigned, process="another")]


@plant(Kind.UNAVAILABLE)
def the_answer_to_a_record_takes_long(operations: list[Operation]) -> list[Operation]:
    """Beyond the second that the test allows: an execution takes less than one."""
    send = max(acknowledged(operations), key=lambda one: one.invoked_ns, default=None)
    if send is None:
        raise NotHere
    return [replace(one, completed_ns=one.invoked_ns + 2_000_000_000) if one is send else one for one in operations]

"""The judge of transactions: a history that keeps every promise passes, and each broken one is named."""

from collections.abc import Callable

import pytest

from tests.sim.cluster.transactions.history import (
    Assigned,
    History,
    Read,
    Seen,
    Source,
    attempt_of,
    source_of,
    value_of,
)
from tests.sim.cluster.transactions.judge import judge
from tests.sim.raft.violation import Violation

A, B = ("out", 0), ("out", 1)


def value(attempt: str, offset: int) -> bytes:
    return value_of(attempt, Source(0, offset))


def good() -> History:
    """Two transactions that committed, one that was aborted between them, and one of which nobody knows."""
    history = History()
    for name, offset, asked, told in [
        ("w1.1", 0, True, True),
        ("w1.2", 1, False, False),
        ("w2.1", 1, True, True),
        ("w2.2", 2, True, False),
    ]:
        attempt = history.begin(name)
        attempt.sent = {A: [value(name, offset)], B: [value(name, offset)]}
        attempt.asked_to_commit, attempt.told_committed = asked, told
    for partition in (A, B):
        history.outputs[partition] = [Seen(0, value("w1.1", 0)), Seen(4, value("w2.1", 1))]
    history.inputs = {0: [0, 1, 2], 1: []}
    history.offsets = {0: 2}
    history.reads = [Read("r", 1, A, 0, 4, (Seen(0, value("w1.1", 0)),)), Read("r", 2, A, 1, 4, ())]
    history.assigned = [Assigned("g", 1, "a", (0,)), Assigned("g", 1, "b", (1,)), Assigned("g", 2, "b", (0, 1))]
    return history


def test_a_history_that_keeps_all_promises_passes() -> None:
    judge(good())


def test_a_transaction_of_unknown_end_may_be_there_whole() -> None:
    history = good()
    for partition in (A, B):
        history.outputs[partition].append(Seen(6, value("w2.2", 2)))
    history.offsets[0] = 3
    judge(history)


def test_a_record_tells_its_transaction_and_its_source() -> None:
    written = value_of("w3.14", Source(2, 71))
    assert (attempt_of(written), source_of(written)) == ("w3.14", Source(2, 71))


def lost(history: History) -> None:
    history.outputs[A].pop()
    history.outputs[B].pop()


def half(history: History) -> None:
    history.outputs[B].pop()


def half_of_an_unknown_one(history: History) -> None:
    history.outputs[B].append(Seen(6, value("w2.2", 2)))


def aborted(history: History) -> None:
    for partition in (A, B):
        history.outputs[partition].insert(1, Seen(2, value("w1.2", 1)))


def twice(history: History) -> None:
    history.outputs[A].append(Seen(6, value("w1.1", 0)))


def processed_twice(history: History) -> None:
    history.attempts["w2.2"].sent = {A: [value("w2.2", 1)], B: [value("w2.2", 1)]}
    for partition in (A, B):
        history.outputs[partition].append(Seen(6, value("w2.2", 1)))


def offsets_without_records(history: History) -> None:
    history.offsets[0] = 3


def records_without_offsets(history: History) -> None:
    history.offsets[0] = 1


def unknown(history: History) -> None:
    history.outputs[A].append(Seen(6, value("w9.1", 2)))


def read_of_an_aborted_one(history: History) -> None:
    history.reads.append(Read("r", 1, B, 1, 4, (Seen(2, value("w1.2", 1)),)))


def read_with_a_gap(history: History) -> None:
    history.reads.append(Read("r", 1, B, 0, 5, (Seen(4, value("w2.1", 1)),)))


def two_owners(history: History) -> None:
    history.assigned.append(Assigned("g", 2, "a", (1,)))


@pytest.mark.parametrize(
    ("spoil", "invariant"),
    [
        (lost, "committed stays"),
        (half, "transactions are atomic"),
        (half_of_an_unknown_one, "transactions are atomic"),
        (aborted, "aborted stays unseen"),
        (twice, "no duplicates"),
        (processed_twice, "processed once"),
        (offsets_without_records, "offsets go with records"),
        (records_without_offsets, "offsets go with records"),
        (unknown, "nothing from nowhere"),
        (read_of_an_aborted_one, "only committed is read"),
        (read_with_a_gap, "all that is committed is read"),
        (two_owners, "one member a partition"),
    ],
)
def test_a_broken_promise_is_named(spoil: Callable[[History], None], invariant: str) -> None:
    history = good()
    history.reads = history.reads if invariant.endswith("read") else []
    spoil(history)
    with pytest.raises(Violation) as raised:
        judge(history)
    assert raised.value.invariant == invariant

"""Small histories, written by hand: tables, banks, groups, cycles, availability, and what is legal and looks odd."""

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.testing.history import (
    Assigned,
    At,
    Begin,
    Commit,
    End,
    EndOffsets,
    Expectations,
    Kind,
    OffsetFetch,
    Operation,
    Outcome,
    Poll,
    Renumbered,
    Revoked,
    Seek,
    Seen,
    Send,
    Snapshot,
    TopicPartition,
    Window,
    Writers,
    Written,
    check,
    history_of,
)
from ottla.testing.history.anomalies.graph import components, shortest_cycle

OK, FAILED, UNKNOWN = Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN
PLAIN = Expectations()
TABLE = Expectations(tables=frozenset({"t"}))
P0 = TopicPartition("t", 0)


def kinds(operations: Sequence[Operation], expectations: Expectations = PLAIN) -> list[Kind]:
    return [one.kind for one in check(history_of(operations), expectations).anomalies]


def send(
    at: int,
    value: str | None,
    offset: int = -1,
    *,
    key: str | None = None,
    by: str = "w",
    txn: str | None = None,
    source: At | None = None,
    topic: str = "t",
    partition: int = 0,
    took: int = 1,
    outcome: Outcome = OK,
) -> Send:
    """At that time, answered a moment later."""
    return Send(
        process=by,
        invoked_ns=at,
        completed_ns=at + took,
        outcome=outcome,
        topic=topic,
        partition=partition,
        key=key,
        value=value,
        offset=offset,
        transaction=txn,
        source=source,
    )


def poll(at: int, *records: Seen, by: str = "r", committed: bool = True, txn: str | None = None, took: int = 1) -> Poll:
    return Poll(
        process=by,
        invoked_ns=at,
        completed_ns=at + took,
        outcome=OK,
        records=records,
        committed=committed,
        transaction=txn,
    )


def begin(at: int, txn: str, by: str = "w") -> Begin:
    return Begin(process=by, invoked_ns=at, completed_ns=at, outcome=OK, transaction=txn, transactional_id=by)


def end(at: int, txn: str, *, commit: bool = True, by: str = "w", outcome: Outcome = OK) -> End:
    return End(process=by, invoked_ns=at, completed_ns=at + 1, outcome=outcome, transaction=txn, commit=commit)


def snapshot(at: int, **entries: str) -> Snapshot:
    return Snapshot(
        process="r", invoked_ns=at, completed_ns=at + 1, outcome=OK, topic="t", entries=tuple(entries.items())
    )


def ends(at: int, offset: int, topic: str = "t") -> EndOffsets:
    return EndOffsets(
        process="r", invoked_ns=at, completed_ns=at, outcome=OK, offsets=(At(topic, 0, offset),), final=True
    )


# -- tables and banks


def test_a_bank_has_its_total() -> None:
    expected = Expectations(banks={"t": 100})
    assert kinds([snapshot(1, a="40", b="60")], expected) == []
    assert kinds([snapshot(1, a="40", b="61")], expected) == [Kind.WRONG_TOTAL]


def test_a_key_has_what_was_acknowledged_last_or_something_later() -> None:
    writes = [send(1, "one", 0, key="k"), send(3, "two", 1, key="k"), send(20, "three", 2, key="k")]
    assert kinds([*writes, snapshot(10, k="two")], TABLE) == []
    assert kinds([*writes, snapshot(10, k="one")], TABLE) == [Kind.STALE_VALUE]
    assert kinds([*writes, snapshot(10)], TABLE) == [Kind.STALE_VALUE]
    assert kinds([*writes, snapshot(10, k="four")], TABLE) == [Kind.FROM_NOWHERE]
    assert kinds([*writes, snapshot(10, k="three")], TABLE) == [Kind.FROM_NOWHERE]  # not sent yet
    assert kinds([*writes, snapshot(10, k="two", other="x")], TABLE) == [Kind.FROM_NOWHERE]


def test_a_write_of_unknown_outcome_may_be_a_keys_value_at_any_time() -> None:
    writes = [send(1, "one", key="k", outcome=UNKNOWN), send(3, "two", 1, key="k")]
    assert kinds([*writes, snapshot(10, k="one")], TABLE) == []
    assert kinds([*writes, snapshot(10, k="two")], TABLE) == []


def test_a_deleted_key_has_no_value() -> None:
    writes = [send(1, "one", 0, key="k"), send(3, None, 1, key="k")]
    assert kinds([*writes, snapshot(10)], TABLE) == []
    assert kinds([*writes, snapshot(10, k="one")], TABLE) == [Kind.STALE_VALUE]


def test_a_compacted_record_is_not_lost_while_its_key_has_a_later_one() -> None:
    writes = [send(1, "x", 0, key="a"), send(3, "x", 1, key="b"), send(5, "y", 2, key="a")]
    read = [Seen("t", 0, 1, "x", "b"), Seen("t", 0, 2, "y", "a")]
    assigned = Assigned(
        process="r", invoked_ns=8, completed_ns=9, outcome=OK, partitions=(P0,), starts=(At("t", 0, 0),)
    )
    assert kinds([*writes, assigned, poll(10, *read), ends(12, 3)], TABLE) == []
    assert kinds([*writes, assigned, poll(10, read[1]), ends(12, 3)], TABLE) == [Kind.LOST_WRITE]


# -- groups


def assigned(at: int, by: str, generation: int, *partitions: int) -> Assigned:
    own = tuple(TopicPartition("t", one) for one in partitions)
    return Assigned(
        process=by, invoked_ns=at, completed_ns=at, outcome=OK, partitions=own, group="g", generation=generation
    )


def revoked(at: int, by: str, *partitions: int) -> Revoked:
    own = tuple(TopicPartition("t", one) for one in partitions)
    return Revoked(process=by, invoked_ns=at, completed_ns=at, outcome=OK, partitions=own, group="g")


def test_a_partition_has_one_owner_in_a_generation() -> None:
    assert kinds([assigned(1, "a", 1, 0), assigned(1, "b", 1, 1)]) == []
    assert kinds([assigned(1, "a", 1, 0), assigned(5, "b", 2, 0)]) == []
    assert kinds([assigned(1, "a", 1, 0), assigned(5, "b", 1, 0)]) == [Kind.TWO_OWNERS]
    assert kinds([assigned(1, "a", -1, 0), assigned(5, "b", -1, 0)]) == []


def test_a_member_keeps_in_the_next_generation_what_it_does_not_give_back() -> None:
    kept = [assigned(1, "a", 1, 0, 1), assigned(5, "a", 2)]
    assert kinds([*kept, assigned(6, "b", 2, 1)]) == [Kind.TWO_OWNERS]
    assert kinds([assigned(1, "a", 1, 0, 1), revoked(4, "a", 1), assigned(5, "a", 2), assigned(6, "b", 2, 1)]) == []


def test_a_partition_may_move_within_a_generation_when_it_was_given_back_first() -> None:
    assert kinds([assigned(1, "a", 1, 0), revoked(4, "a", 0), assigned(6, "b", 1, 0)]) == []


def test_records_that_come_in_a_poll_with_a_rebalance_in_it_may_come_again() -> None:
    first = poll(1, Seen("t", 0, 5, "a"))
    within = poll(10, Seen("t", 0, 6, "b"), Seen("u", 0, 0, "x"), took=10)
    after = poll(30, Seen("t", 0, 6, "b"), Seen("u", 0, 1, "y"))
    assert kinds([first, within, after]) == [Kind.OFFSET_WENT_BACK]
    assert kinds([first, within, after, assigned(15, "r", 1, 0)]) == []


def test_a_seek_begins_a_sequence_anew() -> None:
    polls = [poll(1, Seen("t", 0, 5, "a")), poll(10, Seen("t", 0, 5, "a"))]
    assert kinds(polls) == [Kind.OFFSET_WENT_BACK]
    seek = Seek(process="r", invoked_ns=5, completed_ns=6, outcome=OK, to=(At("t", 0, 5),))
    assert kinds([*polls, seek]) == []


# -- offsets and records


def copied(*, commits: int, told: int, seen: int = 2) -> list[Operation]:
    """Two records of the input, copied in a transaction, which commits this offset; in the end this one is told."""
    inputs = [send(1, "a", 0, topic="in"), send(2, "b", 1, topic="in")]
    copies = [send(10 + n, f"copy of {n}", n, by="c", txn="x", source=At("in", 0, n), topic="out") for n in range(2)]
    commit = Commit(
        process="c",
        invoked_ns=20,
        completed_ns=21,
        outcome=OK,
        group="g",
        offsets=(At("in", 0, commits),),
        transaction="x",
    )
    return [
        *inputs,
        *copies[:seen],
        begin(9, "x", "c"),
        commit,
        end(30, "x", by="c"),
        poll(40, Seen("in", 0, 0, "a"), Seen("in", 0, 1, "b")),
        poll(42, *(Seen("out", 0, n, f"copy of {n}", None, "x") for n in range(seen))),
        ends(50, 2, "in"),
        ends(51, 3, "out"),
        OffsetFetch(
            process="r",
            invoked_ns=60,
            completed_ns=61,
            outcome=OK,
            group="g",
            offsets=(At("in", 0, told),),
            final=True,
        ),
    ]


def test_offsets_and_records_commit_together() -> None:
    assert kinds(copied(commits=2, told=2)) == []
    assert kinds(copied(commits=1, told=1)) == [Kind.RECORDS_WITHOUT_OFFSETS]
    assert kinds(copied(commits=2, told=2, seen=1)) == [Kind.OFFSETS_WITHOUT_RECORDS]
    assert kinds(copied(commits=2, told=-1)) == [Kind.LOST_COMMIT, *[Kind.RECORDS_WITHOUT_OFFSETS] * 2]


def test_an_input_is_processed_once() -> None:
    operations = [
        begin(1, "x"),
        send(2, "x of 0", 0, txn="x", source=At("in", 0, 0)),
        end(4, "x"),
        begin(6, "y"),
        send(7, "y of 0", 2, txn="y", source=At("in", 0, 0)),
        end(9, "y"),
        poll(20, Seen("t", 0, 0, "x of 0", None, "x"), Seen("t", 0, 2, "y of 0", None, "y")),
    ]
    assert kinds(operations) == [Kind.DUPLICATE]
    operations[5] = end(9, "y", commit=False)
    operations[6] = poll(20, Seen("t", 0, 0, "x of 0", None, "x"))
    assert kinds(operations) == []


def test_an_offset_that_shows_before_its_transaction_ends_is_uncommitted() -> None:
    commit = Commit(
        process="w", invoked_ns=2, completed_ns=3, outcome=OK, group="g", offsets=(At("in", 0, 5),), transaction="x"
    )
    fetch = OffsetFetch(process="r", invoked_ns=4, completed_ns=5, outcome=OK, group="g", offsets=(At("in", 0, 5),))
    assert kinds([begin(1, "x"), commit, fetch, end(10, "x")]) == [Kind.UNCOMMITTED_READ]
    assert kinds([begin(1, "x"), commit, fetch, end(3, "x")]) == []
    assert kinds([begin(1, "x"), commit, fetch]) == [Kind.OFFSETS_WITHOUT_RECORDS]


# -- cycles


def test_a_cycle_of_reads_is_found() -> None:
    operations = [
        begin(1, "x", "a"),
        begin(1, "y", "b"),
        send(2, "of x", 0, by="a", txn="x"),
        send(2, "of y", 0, by="b", txn="y", partition=1),
        poll(3, Seen("t", 1, 0, "of y", None, "y"), by="a", txn="x"),
        poll(3, Seen("t", 0, 0, "of x", None, "x"), by="b", txn="y"),
        end(10, "x", by="a"),
        end(10, "y", by="b"),
    ]
    assert set(kinds(operations)) == {Kind.READ_CYCLE, Kind.UNCOMMITTED_READ}


def test_a_cycle_of_writes_is_one_where_transactions_are_isolated() -> None:
    records = {0: ("x", "y"), 1: ("y", "x")}
    operations: list[Operation] = [begin(1, "x", "a"), begin(1, "y", "b")]
    for partition, writers in records.items():
        for offset, txn in enumerate(writers):
            by = "a" if txn == "x" else "b"
            operations.append(send(2, f"{txn}{partition}", offset, by=by, txn=txn, partition=partition, took=5))
        operations.append(
            poll(30, *(Seen("t", partition, n, f"{t}{partition}", None, t) for n, t in enumerate(writers)))
        )
    operations += [end(10, "x", by="a"), end(10, "y", by="b")]
    assert kinds(operations) == []
    assert kinds(operations, Expectations(isolated_writes=True)) == [Kind.WRITE_CYCLE]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25))
def test_components_are_those_of_mutual_reach(pairs: list[tuple[int, int]]) -> None:
    edges: dict[int, list[int]] = {}
    for source, target in pairs:
        if source != target:
            edges.setdefault(source, []).append(target)
    reach = {node: _reached(edges, node) for node in range(10)}
    expected = {frozenset(b for b in range(10) if b in reach[a] and a in reach[b]) for a in range(10) if a in reach[a]}
    found = components(edges)
    assert {frozenset(one) for one in found} == expected
    for one in found:
        cycle = shortest_cycle(edges, one)
        assert all(after in edges[before] for before, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True))


def _reached(edges: dict[int, list[int]], start: int) -> set[int]:
    reached: set[int] = set()
    todo = [start]
    while todo:
        for target in edges.get(todo.pop(), ()):
            if target not in reached:
                reached.add(target)
                todo.append(target)
    return reached


# -- availability

MS = 1_000_000


def steady(*, silence_ms: int) -> list[Operation]:
    """A record each 10 ms, answered at once; those of one stretch of time are answered after it."""
    offsets = count()
    times = [at * 10 * MS for at in range(1, 200)]
    since, until = 1000 * MS, (1000 + silence_ms) * MS
    return [send(at, str(at), next(offsets), took=max(MS, until - at if since <= at < until else 0)) for at in times]


def test_a_gap_longer_than_allowed_is_named_with_the_record_that_waited() -> None:
    expected = Expectations(longest_gap_ms=300)
    assert kinds(steady(silence_ms=200), expected) == []
    verdict = check(history_of(steady(silence_ms=500)), expected)
    assert [one.kind for one in verdict.anomalies] == [Kind.UNAVAILABLE]
    (waited,) = verdict.anomalies[0].operations
    assert waited.invoked_ns == 1000 * MS
    assert "500 ms" in verdict.anomalies[0].explanation


def test_in_a_window_a_gap_may_be_longer() -> None:
    window = Window(since_ns=900 * MS, until_ns=1100 * MS, longest_gap_ms=600)
    assert kinds(steady(silence_ms=500), Expectations(longest_gap_ms=300, windows=(window,))) == []
    earlier = Window(since_ns=0, until_ns=900 * MS, longest_gap_ms=600)
    assert kinds(steady(silence_ms=500), Expectations(longest_gap_ms=300, windows=(earlier,))) == [Kind.UNAVAILABLE]


def test_nobody_waits_while_nobody_writes() -> None:
    assert kinds([send(1, "a", 0), send(5000 * MS, "b", 1)], Expectations(longest_gap_ms=300)) == []


def test_writes_that_are_refused_until_the_end_are_a_gap_too() -> None:
    refused = [send(at * MS, str(at), outcome=FAILED) for at in range(2, 1000)]
    assert kinds([send(1, "a", 0), *refused], Expectations(longest_gap_ms=300)) == [Kind.UNAVAILABLE]


# -- what clients do to themselves


def written(*rows: tuple[int, int, int, int]) -> Writers:
    return Writers(
        process="replica", invoked_ns=50, completed_ns=50, outcome=OK, topic="t", partition=0,
        written=tuple(map(Written._make, rows)),
    )  # fmt: skip


def renumbered(producer_id: int, epoch: int) -> Renumbered:
    return Renumbered(
        process="w", invoked_ns=51, completed_ns=51, outcome=OK, producer_id=producer_id, epoch=epoch, why="a gap"
    )


TWICE = [send(0, "a", 1), poll(10, Seen("t", 0, 0, "a"), Seen("t", 0, 1, "a"))]


def test_a_client_that_numbered_anew_what_was_appended_made_the_duplicate_itself() -> None:
    verdict = check(history_of([*TWICE, written((0, 0, 7, 0), (1, 1, 7, 1)), renumbered(7, 1)]))
    assert verdict.ok
    assert [one.kind for one in verdict.clients_own] == [Kind.CLIENTS_DUPLICATE]
    assert "duplicate of the client's own making: a stands in t-0 at 0" in str(verdict)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(0, 0, 7, 0), (1, 1, 7, 1)], []),  # it said nothing of it
        ([(0, 0, 7, 0), (1, 1, 7, 1)], [(7, 2)]),  # of another epoch
        ([(0, 0, 7, 0), (1, 1, 7, 1)], [(8, 1)]),  # of another producer
        ([(0, 1, 7, 1)], [(7, 1)]),  # under one epoch: the broker has to know it
        ([(0, 0, 7, 1), (1, 1, 7, 0)], [(7, 1)]),  # an old epoch is to be fenced
        ([(0, 0, 7, 0), (1, 1, 8, 1)], [(8, 1)]),  # by another producer
        ([], [(7, 1)]),  # no log says who wrote it
    ],
)
def test_any_other_duplicate_is_the_clusters(
    rows: list[tuple[int, int, int, int]], told: list[tuple[int, int]]
) -> None:
    assert kinds([*TWICE, written(*rows), *(renumbered(*one) for one in told)]) == [Kind.DUPLICATE]

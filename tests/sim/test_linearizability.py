"""The linearizability checker: against every permutation of tiny histories, and anomalies planted in long ones."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, combinations, permutations
from math import inf
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.testing.sim.linearizability import Undecided, Violation, check
from ottla.testing.sim.register import (
    Action,
    Append,
    CompareAndSet,
    History,
    Operation,
    Outcome,
    Read,
    Value,
    Write,
)

# -- the reference: every order is tried


def answer(action: Action, value: Value) -> tuple[Action, Value]:
    """What a register answers, and its value afterwards."""
    match action:
        case Read():
            return Read(value), value
        case Write(new):
            return Write(new, value is not None), new
        case Append(suffix):
            new = (value or b"") + suffix
            return Append(suffix, len(new)), new
        case CompareAndSet(expected, new):
            equal = value == expected
            return CompareAndSet(expected, new, equal), new if equal else value


def fits(told: Action, truth: Action) -> bool:
    """What was not told fits anything."""
    match told, truth:
        case (
            (Write(_, a), Write(_, b))
            | (Append(_, a), Append(_, b))
            | (
                CompareAndSet(_, _, a),
                CompareAndSet(_, _, b),
            )
        ):
            return a is None or a == b
    return told == truth


def explains(order: Sequence[Operation]) -> bool:
    value: Value = None
    for n, operation in enumerate(order):
        if any(later.completed < operation.invoked for later in order[n + 1 :]):
            return False
        truth, value = answer(operation.action, value)
        if operation.outcome is Outcome.OK and not fits(operation.action, truth):
            return False
    return True


def is_linearizable(operations: Sequence[Operation]) -> bool:
    known = [o for o in operations if o.outcome is Outcome.OK]
    unknown = [o for o in operations if o.outcome is Outcome.UNKNOWN]
    chosen = chain.from_iterable(combinations(unknown, n) for n in range(len(unknown) + 1))
    return any(explains(order) for some in chosen for order in permutations([*known, *some]))


VALUES = st.sampled_from([None, b"", b"a", b"b", b"ab", b"aa"])
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Read, VALUES),
    st.builds(Write, VALUES, st.sampled_from([None, False, True])),
    st.builds(Append, st.sampled_from([b"", b"a", b"b", b"c"]), st.sampled_from([None, 0, 1, 2, 3])),
    st.builds(CompareAndSet, VALUES, VALUES, st.sampled_from([None, False, True])),
)


@st.composite
def operation(draw: st.DrawFn) -> Operation:
    begin, length = draw(st.integers(0, 8)), draw(st.integers(0, 6))
    outcome = draw(st.sampled_from([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.UNKNOWN, Outcome.FAILED]))
    end = inf if outcome is Outcome.UNKNOWN else begin + length
    return Operation(client="c", key="k", action=draw(ACTIONS), invoked=begin, completed=end, outcome=outcome)


@settings(max_examples=500, deadline=None)
@given(st.lists(operation(), max_size=5))
def test_the_verdict_is_that_of_all_permutations(drawn: list[Operation]) -> None:
    operations = [replace(operation, client=f"c{n}") for n, operation in enumerate(drawn)]
    violation = check(operations)
    assert (violation is None) == is_linearizable(operations)
    if violation is not None:
        of_excerpt = [o if o in violation.answers else o.weakened for o in operations if o.outcome != Outcome.FAILED]
        assert not is_linearizable(of_excerpt)
        for left_out in violation.answers:
            assert is_linearizable([o.weakened if o == left_out else o for o in of_excerpt])


# -- long histories


def run(seed: int, *, operations: int, keys: int, clients: int, lost: float, only_appends: bool = False) -> History:
    """Clients of a register that takes each operation somewhere between its beginning and its end."""
    draw = random.Random(seed)
    history, values = History(), dict[str, Value]()
    busy: dict[int, tuple[int, str, Action, float, float]] = {}  # client → number, key, action, point of effect, end
    now = 0.0
    while len(history) < operations or busy:
        now += 1
        for client, (number, key, action, at, end) in list(busy.items()):
            if at <= now:
                told, values[key] = answer(action, values.get(key))
                busy[client] = (number, key, told, inf, end)
            if end <= now:
                told = busy.pop(client)[2]
                if draw.random() >= lost:
                    history.complete(number, now, told)
        for client in range(clients):
            if client not in busy and len(history) < operations:
                key = f"k{draw.randrange(keys)}"
                action = choose(draw, len(history), values.get(key), only_appends)
                number = history.invoke(f"c{client}", key, action, now)
                at = now + draw.randrange(1, 10)
                busy[client] = (number, key, action, at, at + draw.randrange(10))
    return history


def choose(draw: random.Random, number: int, value: Value, only_appends: bool) -> Action:
    kind = draw.choice(["read", "append"] if only_appends else ["read", "append", "append", "set", "delete", "cas"])
    unique = b"%d;" % number
    match kind:
        case "read":
            return Read()
        case "append":
            return Append(unique)
        case "set":
            return Write(unique)
        case "delete":
            return Write(None)
    return CompareAndSet(value if draw.random() < 0.7 else b"x", unique)


@pytest.mark.parametrize("only_appends", [True, False])
def test_ten_thousand_operations_take_a_second_or_two(only_appends: bool) -> None:
    history = run(1, operations=10_000, keys=20, clients=20, lost=0.02, only_appends=only_appends)
    began = process_time()
    assert check(history.operations) is None
    assert process_time() - began < 10  # 1.5 s on a quiet machine


@pytest.mark.parametrize("seed", range(5))
def test_histories_with_many_lost_answers_are_decided(seed: int) -> None:
    assert check(run(seed, operations=500, keys=3, clients=12, lost=0.12).operations) is None


# -- planted anomalies


def told(action: Action, invoked: float, completed: float, client: str = "c") -> Operation:
    return Operation(client=client, key="k", action=action, invoked=invoked, completed=completed, outcome=Outcome.OK)


def violation_of(*operations: Operation) -> Violation:
    found = check(operations)
    assert found is not None
    return found


def test_a_stale_read() -> None:
    first, second, stale = told(Write(b"1"), 0, 1), told(Write(b"2"), 2, 3), told(Read(b"1"), 4, 5)
    found = violation_of(first, second, told(Read(b"2"), 3, 4), stale)
    assert found.answers == (first, second, stale)
    assert str(violation_of(first, second, stale)) == (
        "no order of these operations on 'k' explains their answers:\n"
        "  [0 … 1] c: set '1'\n"
        "  [2 … 3] c: set '2'\n"
        "  [4 … 5] c: read '1'"
    )


def test_a_lost_write() -> None:
    kept, lost, read = told(Append(b"a"), 0, 1), told(Append(b"b"), 2, 3), told(Read(b"a"), 4, 5)
    assert violation_of(kept, lost, read).answers == (lost, read)


def test_a_write_applied_twice() -> None:
    write, read = told(Append(b"a"), 0, 1), told(Read(b"aa"), 2, 3)
    found = violation_of(write, told(Append(b"z"), 4, 5), read)
    assert found.excerpt == (write, read)
    assert found.answers == (read,)


def test_a_read_of_a_future_value() -> None:
    read, write = told(Read(b"1"), 0, 1), told(Write(b"1"), 2, 3)
    found = violation_of(told(Write(b"0"), 0, 0.5), read, write)
    assert (found.answers, found.writes) == ((read,), (write,))


def test_a_failed_write_that_took_effect() -> None:
    failed = replace(told(Write(b"1"), 0, 1), outcome=Outcome.FAILED)
    assert violation_of(failed, told(Read(b"1"), 2, 3)).answers == (told(Read(b"1"), 2, 3),)


def test_a_lost_answer_may_come_true_late_or_never() -> None:
    unknown = Operation(client="c", key="k", action=Append(b"u"), invoked=0)
    reads = [told(Read(b"a"), 2, 3), told(Read(b"a"), 4, 5)]
    write = told(Append(b"a"), 0, 1)
    assert check([unknown, write, *reads]) is None
    assert check([unknown, write, *reads, told(Read(b"au"), 6, 7)]) is None
    assert check([unknown, write, *reads, told(Read(b"auu"), 6, 7)]) is not None


def corrupted(history: History, draw: random.Random, change: str) -> list[Operation]:
    """One answer replaced by one that no register gives."""
    operations = list(history.operations)
    reads = [
        i
        for i, o in enumerate(operations)
        if o.outcome is Outcome.OK and isinstance(o.action, Read) and o.action.value and o.action.value.count(b";") > 6
    ]
    i = draw.choice(reads)
    match operations[i].action:
        case Read(bytes(value)):
            parts = value.split(b";")[:-1]
            match change:
                case "an append is missing":
                    del parts[draw.randrange(len(parts) - 1)]
                case "an append stands there twice":
                    parts.insert(draw.randrange(len(parts) - 1), parts[-1])
                case "two appends are swapped":
                    parts[1], parts[3] = parts[3], parts[1]
                case "the read is stale":
                    parts = parts[:1]
            operations[i] = replace(operations[i], action=Read(b";".join(parts) + b";"))
    return operations


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "change", ["an append is missing", "an append stands there twice", "two appends are swapped", "the read is stale"]
)
def test_a_small_excerpt_shows_what_is_wrong_in_a_long_history(seed: int, change: str) -> None:
    history = run(seed, operations=500, keys=3, clients=10, lost=0.02, only_appends=True)
    operations = corrupted(history, random.Random(seed), change)
    found = check(operations)
    assert found is not None
    assert 1 <= len(found.answers) <= 4
    assert any(o not in history.operations for o in found.answers)  # the corrupted read is among them


def test_a_search_that_takes_too_long_says_so() -> None:
    with pytest.raises(Undecided, match="no verdict about"):
        check(run(1, operations=200, keys=1, clients=8, lost=0.0).operations, max_steps=20)


def pairs() -> Iterator[tuple[Operation, str]]:
    yield told(Read(None), 0, 1), "[0 … 1] c: read nothing"
    yield told(Write(None, False), 0, 1), "[0 … 1] c: delete nothing"
    yield told(Append(b"a", 3), 0, 1.5), "[0 … 1.5] c: append 'a', now 3 bytes"
    yield told(CompareAndSet(b"a", b"b", False), 0, 1), "[0 … 1] c: set 'b' if 'a': differs"
    yield told(CompareAndSet(None, b"b"), 0, 1).weakened, "[0 … unknown] c: set 'b' if nothing"


@pytest.mark.parametrize(("operation", "text"), list(pairs()))
def test_operations_read_well(operation: Operation, text: str) -> None:
    assert str(operation) == text


def test_an_operation_does_not_end_before_it_begins() -> None:
    with pytest.raises(ValueError, match="before it began"):
        told(Read(), 2, 1)

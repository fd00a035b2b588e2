import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.types import NodeId, Uuid
from ottla.raft.core import HardState, Member, SafetyViolation
from ottla.raft.journal.outline import Outline, Place, check_order

A, B = Member(NodeId(1), Uuid(bytes(16))), Member(NodeId(2), Uuid(bytes(16)))


def test_an_entry_replaces_all_from_its_index_on() -> None:
    outline = Outline(Place(10, 2))
    for index, term in [(11, 2), (12, 3), (13, 3), (12, 4)]:
        outline.put(index, term)
    assert [outline.term_at(index) for index in range(9, 14)] == [None, 2, 2, 4, None]
    assert outline.last == Place(12, 4)


@pytest.mark.parametrize(("index", "term"), [(10, 9), (13, 9), (12, 1), (11, 1)])
def test_a_gap_an_entry_of_the_snapshot_and_an_older_term_are_refused(index: int, term: int) -> None:
    outline = Outline(Place(10, 2))
    outline.put(11, 2)
    with pytest.raises(SafetyViolation):
        outline.put(index, term)
    assert outline.last == Place(11, 2)


def test_a_copy_changes_apart() -> None:
    outline = Outline(Place(0, 0))
    outline.copy().put(1, 1)
    assert outline.last == Place(0, 0)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 4)), max_size=40), st.integers(0, 12))
def test_it_agrees_with_a_list_of_terms(puts: list[tuple[int, int]], compacted: int) -> None:
    outline, terms = Outline(Place(0, 0)), [0]
    for index, term in puts:
        if index > len(terms) or term < terms[index - 1]:
            with pytest.raises(SafetyViolation):
                outline.put(index, term)
        else:
            outline.put(index, term)
            terms[index:] = [term]
    base = min(compacted, len(terms) - 1)
    outline.compact(Place(base, terms[base]))
    expected = [None] * base + terms[base:] + [None]
    assert [outline.term_at(index) for index in range(len(terms) + 1)] == expected
    assert outline.last == Place(len(terms) - 1, terms[-1])


def test_neither_a_term_nor_a_vote_is_forgotten() -> None:
    for before, after in [
        (HardState(2, None), HardState(1, None)),
        (HardState(2, A), HardState(2, B)),
        (HardState(2, A), HardState(2, None)),
    ]:
        with pytest.raises(SafetyViolation):
            check_order(before, after)
    check_order(HardState(2, A), HardState(2, A))
    check_order(HardState(2, A), HardState(3, None))
    check_order(HardState(2, None), HardState(2, B))

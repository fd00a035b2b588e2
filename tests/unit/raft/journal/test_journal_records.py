from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import DecodeError
from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Entry, EntryKind, HardState, Member
from ottla.raft.journal.outline import Place
from ottla.raft.journal.records import (
    Opening,
    decode_opening,
    decode_records,
    decode_version,
    encode_opening,
    encode_records,
)

numbers = st.integers(0, 2**64 - 1)
members = st.builds(Member, st.integers(-(2**31), 2**31 - 1).map(NodeId), st.binary(min_size=16, max_size=16).map(Uuid))
states = st.builds(HardState, numbers, st.none() | members)
logged = st.builds(Entry, numbers, numbers, st.sampled_from(EntryKind), st.binary(), numbers, numbers, numbers)


@given(st.none() | states, st.lists(logged, max_size=5))
def test_records_come_back_as_they_were(state: HardState | None, entries: list[Entry]) -> None:
    body = encode_records(state, entries)
    assert list(decode_records(body)) == ([] if state is None else [state]) + list(entries)
    assert body[-1]  # a zero there would look like the end of an unfinished write


@given(members, numbers, st.booleans(), numbers, numbers, numbers, states)
def test_an_opening_comes_back_as_it_was(
    member: Member, size: int, restarts: bool, index: int, term: int, end: int, state: HardState
) -> None:
    opening = Opening(
        version=1, member=member, size=size, restarts=restarts, base=Place(index, term), previous_end=end,
        hard_state=state,
    )  # fmt: skip
    body = encode_opening(opening)
    assert decode_opening(body) == opening
    assert decode_version(body) == 1


@given(st.binary(max_size=60) | st.lists(logged, max_size=2).map(lambda some: encode_records(None, some)[:-3]))
def test_other_bytes_raise_nothing_but_decode_errors(body: bytes) -> None:
    with suppress(DecodeError):
        list(decode_records(body))
    with suppress(DecodeError):
        decode_opening(body)


def test_an_unknown_record_an_unknown_kind_of_entry_and_a_length_beyond_the_end_are_refused() -> None:
    whole = encode_records(None, [Entry(1, 1, EntryKind.DATA, b"abc")])
    kind = bytearray(whole)
    kind[17] = 99
    for body in (b"", b"\x07", whole[:-1], whole[:-3] + b"\xff", bytes(kind), whole + whole):
        with pytest.raises(DecodeError):
            list(decode_records(body))

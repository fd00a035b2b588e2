"""The store's client protocol: what is said is understood, and nothing else gets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.kv.commands import Append, Command, CompareAndSet, Delete, Set, Status
from examples.kv.protocol import (
    Describe,
    Error,
    Get,
    InvalidRequest,
    Open,
    Reply,
    Request,
    State,
    Write,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20).map(str.encode)
KEYS = TEXTS.filter(bool)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Set, KEYS, TEXTS),
    st.builds(Delete, KEYS),
    st.builds(CompareAndSet, KEYS, st.none() | TEXTS, TEXTS),
    st.builds(Append, KEYS, TEXTS),
)
NUMBERS = st.integers(1, (1 << 63) - 1)
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.just(Open()), st.just(Describe()), st.builds(Get, KEYS), st.builds(Write, COMMANDS, NUMBERS, NUMBERS)
)


@given(REQUESTS)
def test_a_request_is_one_line_and_comes_back_as_it_was(request: Request) -> None:
    line = encode_request(request)
    assert line.index(b"\n") == len(line) - 1
    assert decode_request(line) == request


@pytest.mark.parametrize(
    "reply",
    [
        Reply(node=1, client=17),
        Reply(node=1, value=b"v"),
        Reply(node=1),
        Reply(node=2, status=Status.OK, length=4),
        Reply(node=2, status=Status.ABSENT),
        Reply(node=3, error=Error.NOT_LEADER, leader=2, detail="the quorum's leader is node 2"),
        Reply(node=3, state=State(leader=None, term=4, applied=9, digest="00")),
    ],
)
def test_a_reply_comes_back_as_it_was(reply: Reply) -> None:
    assert decode_reply(encode_reply(reply)) == reply


@given(st.binary(max_size=60) | REQUESTS.map(encode_request).flatmap(lambda line: st.just(line[: len(line) // 2])))
def test_bytes_that_are_no_request_are_invalid(line: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_request(line)

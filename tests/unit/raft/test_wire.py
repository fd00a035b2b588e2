"""Raft's messages on the wire."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import DecodeError
from ottla.core.types import NodeId, Uuid
from ottla.raft import wire
from ottla.raft.core import messages as messages_module
from ottla.raft.core.entries import Entry, EntryKind
from ottla.raft.core.member import Member
from ottla.raft.core.membership import Membership
from ottla.raft.core.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Message,
    SnapshotChunk,
    SnapshotResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from ottla.v1 import quorum_pb2 as pb

numbers = st.integers(0, wire.MAX_NUMBER)
members = st.builds(
    Member,
    st.integers(0, (1 << 31) - 1).map(NodeId),
    st.binary(min_size=16, max_size=16).map(Uuid),
)
checksums = st.integers(0, (1 << 32) - 1)


@st.composite
def appends(draw: st.DrawFn) -> AppendRequest:
    previous = draw(st.integers(0, wire.MAX_NUMBER - 10))
    contents = draw(
        st.lists(st.tuples(numbers, st.sampled_from(EntryKind), st.binary(), numbers, numbers, numbers), max_size=5)
    )
    entries = tuple(Entry(previous + n, *content) for n, content in enumerate(contents, 1))
    return AppendRequest(
        source=draw(members), target=draw(members), term=draw(numbers), number=draw(numbers),
        previous_index=previous, previous_term=draw(numbers), commit=draw(numbers), entries=entries,
    )  # fmt: skip


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    everyone = draw(st.lists(members, min_size=1, max_size=5, unique=True))
    voters = draw(st.integers(1, len(everyone)))
    endpoints = {member: draw(st.text(min_size=1, max_size=20)) for member in everyone if draw(st.booleans())}
    return Membership(frozenset(everyone[:voters]), frozenset(everyone[voters:]), endpoints)


def built(kind: Callable[..., Message], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Message]:
    return st.builds(kind, source=members, target=members, term=numbers, **fields)


messages: st.SearchStrategy[Message] = st.one_of(
    built(VoteRequest, last_index=numbers, last_term=numbers, pre=st.booleans(), transfer=st.booleans()),
    built(VoteResponse, granted=st.booleans(), pre=st.booleans()),
    appends(),
    built(AppendResponse, number=numbers, matched=st.booleans(), index=numbers, hint_term=numbers),
    built(Heartbeat, round=numbers, commit=numbers),
    built(HeartbeatResponse, round=numbers),
    built(
        SnapshotChunk, number=numbers, index=numbers, index_term=numbers, membership=memberships(), size=numbers,
        checksum=checksums, offset=numbers, data=st.binary(), data_checksum=checksums,
    ),
    built(SnapshotResponse, number=numbers, index=numbers, offset=numbers),
    built(TimeoutNow),
)  # fmt: skip

SOURCE, TARGET = Member(NodeId(1), Uuid(b"s" * 16)), Member(NodeId(2), Uuid(b"t" * 16))


def one_message(**fields: Any) -> bytes:
    """A frame of one message, which is well-formed but for `fields`."""
    whole: dict[str, Any] = {
        "source_node": 1, "source_directory": b"s" * 16, "target_node": 2, "target_directory": b"t" * 16, "term": 7,
        "heartbeat": pb.QuorumHeartbeat(),
    }  # fmt: skip
    if fields.keys() & wire._DECODERS.keys():
        del whole["heartbeat"]
    return pb.QuorumFrame(messages=[pb.QuorumMessage(**(whole | fields))]).SerializeToString()


@given(messages)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    decoded = wire.decode(wire.encode(message))
    assert decoded == [message]
    assert type(decoded[0]) is type(message)


def test_every_kind_of_message_is_known() -> None:
    kinds = {kind for kind in vars(messages_module).values() if isinstance(kind, type) and issubclass(kind, Message)}
    assert set(wire._ENCODERS) == kinds - {Message}
    assert set(wire._DECODERS) == {field.name for field in pb.QuorumMessage.DESCRIPTOR.oneofs_by_name["body"].fields}
    assert [kind.value for kind in EntryKind] == list(pb.QuorumEntryKind.values())


@given(st.lists(messages, max_size=4))
def test_joined_frames_are_a_frame_of_all_messages(several: list[Message]) -> None:
    assert wire.decode(b"".join(map(wire.encode, several))) == several


@given(appends())
def test_entries_are_ordinary_ones(message: AppendRequest) -> None:
    (decoded,) = wire.decode(wire.encode(message))
    assert isinstance(decoded, AppendRequest)
    for entry in decoded.entries:
        assert isinstance(entry.kind, EntryKind)
        assert hash(entry) == hash(
            Entry(
                entry.index, entry.term, entry.kind, entry.data, entry.client, entry.sequence, entry.resolved_below
            )
        )  # fmt: skip


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_decode_error(data: bytes) -> None:
    decode_or_refuse(data)


@given(messages, st.data())
def test_a_damaged_frame_gives_messages_or_a_decode_error(message: Message, data: st.DataObject) -> None:
    frame = bytearray(wire.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(frame) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert", "repeat"])):
            case "change":
                frame[position] = data.draw(st.integers(0, 255))
            case "cut":
                del frame[position : position + data.draw(st.integers(0, 3))]
            case "insert":
                frame[position:position] = data.draw(st.binary(min_size=1, max_size=4))
            case _:
                frame += frame[position:]
        if not frame:
            break
    decode_or_refuse(bytes(frame))


def decode_or_refuse(data: bytes) -> None:
    try:
        decoded = wire.decode(data)
    except DecodeError:
        return
    assert wire.decode(b"".join(map(wire.encode, decoded))) == decoded


TOO_LARGE = 1 << 63


@pytest.mark.parametrize(
    "frame",
    [
        pb.QuorumFrame(welcome=True).SerializeToString(),
        pb.QuorumFrame(hello=pb.QuorumHello()).SerializeToString(),
        pb.QuorumFrame(messages=[pb.QuorumMessage(term=1)]).SerializeToString(),
        one_message(source_node=-1),
        one_message(target_node=-1),
        one_message(source_directory=b"short"),
        one_message(target_directory=b"t" * 17),
        one_message(term=TOO_LARGE),
        one_message(vote_request=pb.QuorumVoteRequest(last_index=TOO_LARGE)),
        one_message(vote_request=pb.QuorumVoteRequest(last_term=TOO_LARGE)),
        one_message(append_request=pb.QuorumAppendRequest(number=TOO_LARGE)),
        one_message(append_request=pb.QuorumAppendRequest(commit=TOO_LARGE)),
        one_message(append_request=pb.QuorumAppendRequest(previous_term=TOO_LARGE)),
        one_message(append_request=pb.QuorumAppendRequest(previous_index=TOO_LARGE - 1, entries=[pb.QuorumEntry()])),
        one_message(append_request=pb.QuorumAppendRequest(entries=[pb.QuorumEntry(term=TOO_LARGE)])),
        one_message(append_request=pb.QuorumAppendRequest(entries=[pb.QuorumEntry(client=TOO_LARGE)])),
        one_message(append_request=pb.QuorumAppendRequest(entries=[pb.QuorumEntry(sequence=TOO_LARGE)])),
        one_message(append_request=pb.QuorumAppendRequest(entries=[pb.QuorumEntry(resolved_below=TOO_LARGE)])),
        one_message(append_request=pb.QuorumAppendRequest(entries=[pb.QuorumEntry(kind=4)])),  # type: ignore[arg-type]
        one_message(append_request=pb.QuorumAppendRequest(entries=[pb.QuorumEntry(kind=-1)])),  # type: ignore[arg-type]
        one_message(append_response=pb.QuorumAppendResponse(index=TOO_LARGE)),
        one_message(append_response=pb.QuorumAppendResponse(hint_term=TOO_LARGE)),
        one_message(heartbeat=pb.QuorumHeartbeat(round=TOO_LARGE)),
        one_message(heartbeat=pb.QuorumHeartbeat(commit=TOO_LARGE)),
        one_message(heartbeat_response=pb.QuorumHeartbeatResponse(round=TOO_LARGE)),
        one_message(snapshot_chunk=pb.QuorumSnapshotChunk()),
        one_message(snapshot_chunk=pb.QuorumSnapshotChunk(membership=bytes(4), offset=TOO_LARGE)),
        one_message(snapshot_chunk=pb.QuorumSnapshotChunk(membership=bytes(4), size=TOO_LARGE)),
        one_message(snapshot_chunk=pb.QuorumSnapshotChunk(membership=bytes(5))),
        one_message(snapshot_response=pb.QuorumSnapshotResponse(offset=TOO_LARGE)),
    ],
)
def test_what_no_member_says_is_a_decode_error(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        wire.decode(frame)


def test_the_frame_of_the_cases_above_is_well_formed() -> None:
    assert wire.decode(one_message()) == [Heartbeat(source=SOURCE, target=TARGET, term=7, round=0, commit=0)]


def test_entries_out_of_place_are_not_sent() -> None:
    message = AppendRequest(
        source=SOURCE, target=TARGET, term=1, number=1, previous_index=4, previous_term=1, commit=4,
        entries=(Entry(5, 1), Entry(7, 1)),
    )  # fmt: skip
    with pytest.raises(ValueError, match="entry 7 stands where 6 is due"):
        wire.encode(message)


def test_an_empty_frame_carries_nothing() -> None:
    assert wire.decode(b"") == []

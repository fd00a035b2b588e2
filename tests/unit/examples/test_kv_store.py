"""The key-value store of the examples: what each command does, exactly, and how it stands as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.kv.commands import Answer, Append, Command, CompareAndSet, Delete, Set, Status, decode, encode
from examples.kv.store import KeyValueStore, read
from ottla.raft.quorum import Entry, Quorum, Snapshot, StateMachine

COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Set, st.binary(max_size=4), st.binary(max_size=4)),
    st.builds(Delete, st.binary(max_size=4)),
    st.builds(CompareAndSet, st.binary(max_size=4), st.none() | st.binary(max_size=4), st.binary(max_size=4)),
    st.builds(Append, st.binary(max_size=4), st.binary(max_size=4)),
)


def run(store: KeyValueStore, *commands: Command) -> list[Answer]:
    return [Answer.decode(store.apply(Entry(i, 1, encode(command)))) for i, command in enumerate(commands, 1)]


def test_set_and_get() -> None:
    store: StateMachine = KeyValueStore()
    assert isinstance(store, KeyValueStore)
    assert store.get(b"a") is None
    assert run(store, Set(b"a", b"1"), Set(b"a", b"2")) == [Answer(Status.OK)] * 2
    assert store.get(b"a") == b"2"


def test_delete_says_whether_there_was_something() -> None:
    store = KeyValueStore()
    assert run(store, Set(b"a", b""), Delete(b"a"), Delete(b"a")) == [
        Answer(Status.OK),
        Answer(Status.OK),
        Answer(Status.ABSENT),
    ]
    assert store.get(b"a") is None


def test_compare_and_set_tells_nothing_from_empty() -> None:
    store = KeyValueStore()
    commands = [
        CompareAndSet(b"a", b"", b"1"),
        CompareAndSet(b"a", None, b"2"),
        CompareAndSet(b"a", None, b"3"),
        CompareAndSet(b"a", b"2", b"4"),
    ]
    ok, mismatch = Answer(Status.OK), Answer(Status.MISMATCH)
    assert run(store, *commands) == [mismatch, ok, mismatch, ok]
    assert store.get(b"a") == b"4"


def test_append_answers_the_new_length() -> None:
    store = KeyValueStore()
    assert run(store, Append(b"a", b"xy"), Append(b"a", b"z")) == [Answer(Status.OK, 2), Answer(Status.OK, 3)]
    assert store.get(b"a") == b"xyz"


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x01", b"\x01\x00\x00\x00\x09a", b"\x03\x00", b"\x03\xff\xff\xff\xff"]
)
def test_bytes_that_are_no_command_change_nothing(data: bytes) -> None:
    store = KeyValueStore()
    run(store, Set(b"a", b"1"))
    assert store.apply(Entry(2, 1, data)) == Answer(Status.INVALID).encode()
    assert store.snapshot()() == b"\x00\x00\x00\x01a\x00\x00\x00\x011"


@given(COMMANDS)
def test_a_command_survives_its_encoding_and_no_part_of_it_passes_for_one(command: Command) -> None:
    data = encode(command)
    assert decode(data) == command
    for size in range(len(data)):
        with pytest.raises(ValueError):
            decode(data[:size])


def test_commands_and_answers_as_bytes() -> None:
    assert encode(Set(b"k", b"v")) == b"\x01\x00\x00\x00\x01k\x00\x00\x00\x01v"
    assert encode(Delete(b"k")) == b"\x02\x00\x00\x00\x01k"
    assert encode(CompareAndSet(b"k", None, b"v")) == b"\x03\x00\x00\x00\x01k\x00\x00\x00\x00\x01v"
    assert encode(CompareAndSet(b"k", b"", b"v")) == b"\x03\x00\x00\x00\x01k\x01\x00\x00\x00\x00\x00\x00\x00\x01v"
    assert encode(Append(b"k", b"v")) == b"\x04\x00\x00\x00\x01k\x00\x00\x00\x01v"
    assert Answer(Status.OK, 5).encode() == b"\x00\x00\x00\x00\x05"
    with pytest.raises(ValueError, match="an answer of 0 bytes"):
        Answer.decode(b"")


def test_a_snapshot_is_frozen_when_it_is_taken() -> None:
    store = KeyValueStore()
    run(store, Set(b"b", b"2"), Set(b"a", b"1"))
    encode_later = store.snapshot()
    run(store, Set(b"a", b"9"), Delete(b"b"))
    other = KeyValueStore()
    run(other, Set(b"c", b"3"))
    other.restore(Snapshot(2, 1, encode_later()))
    assert [other.get(key) for key in (b"a", b"b", b"c")] == [b"1", b"2", None]


@given(st.lists(COMMANDS, max_size=20), st.integers(0, 20))
def test_a_restored_store_goes_on_like_the_one_it_came_from(commands: list[Command], cut: int) -> None:
    store, other = KeyValueStore(), KeyValueStore()
    run(store, *commands[:cut])
    other.restore(Snapshot(cut, 1, store.snapshot()()))
    assert run(store, *commands[cut:]) == run(other, *commands[cut:])
    assert store.snapshot()() == other.snapshot()()


async def test_a_read_waits_for_the_barrier() -> None:
    store = KeyValueStore()

    class Behind:
        """A node that applies what it lacks while the barrier is awaited."""

        async def read_barrier(self) -> int:
            run(store, Set(b"a", b"new"))
            return 1

    quorum: Quorum = Behind()  # type: ignore[assignment]  # all that a read uses
    assert await read(quorum, store, b"a") == b"new"

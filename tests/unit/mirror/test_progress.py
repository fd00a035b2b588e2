"""Records of the progress topic, and what a ledger knows of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import DecodeError
from ottla.mirror.core.numbers import read_number, read_text, write_number, write_text
from ottla.mirror.core.offset_map import Chunk
from ottla.mirror.core.progress import (
    CopiedPartition,
    Ledger,
    MapId,
    ProgressRecord,
    decode_key,
    decode_record,
    encode_key,
    progress_partition,
)
from ottla.mirror.core.provenance import Paths
from ottla.mirror.core.runs import Run

ID = MapId("cluster-a", "s" * 22, "t" * 22, 3)


def record(*runs: Run, number: int = 0, position: int = 1000, map_id: MapId = ID, **more: object) -> ProgressRecord:
    names = {"source_alias": "a", "source_topic": "orders", "target_topic": "a.orders", **more}
    return ProgressRecord(map_id=map_id, chunk=Chunk(number, position, runs), **names)  # type: ignore[arg-type]


@given(st.integers(0, 2**63 - 1), st.text(max_size=40))
def test_numbers_and_texts_are_read_back(number: int, text: str) -> None:
    data = bytearray(b"before")
    write_number(data, number)
    write_text(data, text)
    found, position = read_number(bytes(data), 6)
    assert (found, read_text(bytes(data), position)) == (number, (text, len(data)))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9 + b"\x7f", b"\xff" * 12])
def test_a_number_that_is_cut_off_or_too_large_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        read_number(data, 0)


def test_numbers_beyond_63_bits_are_not_written() -> None:
    for number in (-1, 1 << 63):
        with pytest.raises(ValueError, match="is not between"):
            write_number(bytearray(), number)


def test_a_record_is_read_back_as_it_was_written() -> None:
    written = record(Run(0, 5, 10), Run(20, 17, 3, 2), number=7, paths=(("x",), ("y", "z")))
    key, value = written.encode()
    assert decode_key(key) == (ID, 7)
    assert decode_record(ID, 7, value) == written


def test_bytes_that_are_no_record_are_refused() -> None:
    _, value = record(Run(0, 5, 10)).encode()
    for broken in (value[:-1], value + b"\0", b"\x01" + value[1:], b"", record(Run(0, 5, 10, 1)).encode()[1]):
        with pytest.raises(DecodeError):
            decode_record(ID, 0, broken)


@given(st.binary(max_size=60))
def test_no_bytes_make_decoding_raise_anything_else(data: bytes) -> None:
    for decode in (lambda: decode_key(data), lambda: decode_record(ID, 0, data)):
        try:
            decode()
        except DecodeError:
            continue


def test_records_of_other_kinds_are_left_alone() -> None:
    ledger = Ledger()
    ledger.replay(b"\x05whatever", b"x")
    assert list(ledger) == []


def test_a_partitions_records_lie_in_one_partition() -> None:
    assert {progress_partition(ID, 8), progress_partition(MapId(*ID), 8)} == {progress_partition(ID, 8)}
    spread = {progress_partition(ID._replace(partition=number), 8) for number in range(200)}
    assert spread == set(range(8))


def test_a_ledger_tells_where_a_copy_came_from() -> None:
    ledger = Ledger()
    from_a = record(Run(0, 0, 10), Run(10, 20, 10, 1), paths=(("cluster-c",),))
    from_d = record(Run(0, 10, 5), map_id=ID._replace(source_cluster_id="cluster-d"))
    for one in (from_a, from_d):
        ledger.replay(*one.encode())
    paths = [ledger.path_at(ID.target_topic_id, 3, offset) for offset in (9, 10, 15, 20, 30)]
    assert paths == [("cluster-a",), ("cluster-d",), None, ("cluster-c", "cluster-a"), None]
    assert ledger.path_at("another topic of that name..", 3, 9) is None
    assert ledger.path_at(ID.target_topic_id, 4, 9) is None


def test_a_ledger_follows_tombstones_of_the_oldest_chunks() -> None:
    ledger = Ledger()
    ledger.replay(encode_key(ID, 0), None)  # compaction took the chunk, and has left its tombstone
    for number in (1, 2):
        ledger.replay(*record(Run(number * 10, number * 10, 5), number=number, position=number * 10 + 5).encode())
    ledger.replay(encode_key(ID, 1), None)
    copy = ledger.get(ID)
    assert copy is not None
    assert [run.source for run in copy.map.runs()] == [20]
    assert copy.map.position == 25


def test_a_copy_writes_what_a_ledger_reads() -> None:
    copy = CopiedPartition(ID, "a", "orders", "a.orders")
    path = copy.paths.index(("cluster-c",))
    for one in copy.records(copy.map.plan([Run(0, 0, 1, path)], 7)):
        copy.replay(one)
        ledger = Ledger()
        ledger.replay(*one.encode())
    assert ledger.path_at(ID.target_topic_id, 3, 0) == ("cluster-c", "cluster-a")
    assert ledger.get(ID) is not None and copy.map.position == 7


def test_paths_of_a_transaction_that_failed_do_not_shift_those_that_are_committed() -> None:
    ledger = Ledger()
    ledger.replay(*record(Run(0, 0, 1), position=1).encode())
    copy = ledger.get(ID)
    assert copy is not None
    assert copy.paths.index(("never", "committed")) == 1
    ledger.replay(*record(Run(0, 0, 1), Run(1, 1, 1, 1), position=2, paths=(("x",),)).encode())  # by another process
    assert ledger.path_at(ID.target_topic_id, 3, 1) == ("x", "cluster-a")


def test_a_path_has_one_index() -> None:
    paths = Paths()
    assert [paths.index(path) for path in ((), ("a",), ("a", "b"), ("a",))] == [0, 1, 2, 1]
    assert paths.others() == (("a",), ("a", "b"))
    assert paths[2] == ("a", "b")

"""What becomes of fetched batches: order, gaps, markers, aborted data and loops."""

from struct import pack

import pytest

from ottla.mirror.core.offset_map import Chunk
from ottla.mirror.core.plan import Action, LedgerTooShort, Step, plan_batches, restamp, wanted_records
from ottla.mirror.core.progress import Ledger, MapId, ProgressRecord
from ottla.mirror.core.provenance import Origins, Path, is_loop
from ottla.mirror.core.runs import Run
from ottla.records.batch import Compression, Record, decode_records, encode_batch, read_header, validate
from ottla.records.header import BatchHeader

TOPIC = "t" * 22


def batch(base: int, *values: bytes, producer_id: int = -1, compression: Compression = Compression.NONE) -> bytes:
    records = [Record(timestamp=1000 + number, value=value) for number, value in enumerate(values)]
    transactional = producer_id >= 0
    return encode_batch(
        records,
        base_offset=base,
        compression=compression,
        producer_id=producer_id,
        producer_epoch=0 if transactional else -1,
        base_sequence=0 if transactional else -1,
        is_transactional=transactional,
    )


def marker(offset: int, producer_id: int, *, commit: bool) -> bytes:
    record = Record(timestamp=1, key=pack(">hh", 0, int(commit)), value=pack(">hi", 0, 0))
    return encode_batch(
        [record], base_offset=offset, producer_id=producer_id, producer_epoch=0, is_transactional=True, is_control=True
    )


def with_gap(data: bytes, delta: int) -> bytes:
    """The batch as compaction leaves it when it took its last records: it keeps its last offset."""
    changed = bytearray(data)
    changed[23:27] = pack(">i", delta)
    return bytes(changed)


def plan(
    data: bytes,
    position: int = 0,
    aborted: tuple[tuple[int, int], ...] = (),
    paths: dict[int, Path | None] | None = None,
) -> list[tuple[str, int, Path]]:
    def path_of(header: BatchHeader) -> Path | None:
        assert paths is not None
        return paths[header.base_offset]

    steps = plan_batches(
        data, position, aborted, path_of=None if paths is None else path_of, target_cluster_id="target"
    )
    return [(step.action.value, step.next_offset, step.path) for step in steps]


def test_whole_batches_pass_as_they_are() -> None:
    data = batch(0, b"a", b"b") + batch(2, b"c", compression=Compression.LZ4) + batch(9, b"d")
    assert plan(data) == [("pass", 2, ()), ("pass", 3, ()), ("pass", 10, ())]


def test_a_batch_that_begins_before_the_position_is_made_anew_and_those_before_it_are_passed_over() -> None:
    data = batch(0, b"a", b"b") + batch(2, b"c", b"d", b"e") + batch(5, b"f")
    assert plan(data, 3) == [("rewrite", 5, ()), ("pass", 6, ())]
    (step, _) = plan_batches(data, 3, (), path_of=None, target_cluster_id="target")
    assert [(record.offset, record.value) for record in wanted_records(data, step, 3)] == [(3, b"d"), (4, b"e")]


def test_the_last_batch_of_a_fetch_may_be_cut_off() -> None:
    data = batch(0, b"a") + batch(1, b"b")
    assert plan(data[:-1]) == [("pass", 1, ())]
    assert plan(data[:10]) == []


def test_what_a_producer_may_not_write_is_made_anew() -> None:
    compacted = with_gap(batch(0, b"a"), 4)
    appended = encode_batch([Record(timestamp=1, value=b"x")], base_offset=5, log_append_time_ms=99)
    old = bytearray(batch(6, b"y"))
    old[22] |= 0x40  # compaction has set the delete horizon, where the base timestamp was
    assert plan(compacted + appended + bytes(old)) == [("rewrite", 5, ()), ("rewrite", 6, ()), ("rewrite", 7, ())]
    steps = list(plan_batches(appended, 5, (), path_of=None, target_cluster_id="target"))
    assert [record.timestamp for record in wanted_records(appended, steps[0], 5)] == [99]


def test_markers_and_aborted_data_are_left_out() -> None:
    data = (
        batch(0, b"a", producer_id=7)
        + batch(1, b"b", producer_id=8)
        + marker(2, 7, commit=False)
        + batch(3, b"c", producer_id=7)
        + marker(4, 8, commit=True)
        + marker(5, 7, commit=True)
    )
    assert [action for action, _, _ in plan(data, aborted=((7, 0),))] == [
        "leave out",
        "pass",
        "leave out",
        "pass",
        "leave out",
        "leave out",
    ]
    # From within: the marker that ends the aborted transaction is still seen, also when it lies before the position.
    assert [action for action, _, _ in plan(data, 3, ((7, 0),))] == ["pass", "leave out", "leave out"]


def test_what_was_in_the_target_already_is_left_out() -> None:
    data = batch(0, b"a") + batch(1, b"b") + batch(2, b"c")
    paths: dict[int, Path | None] = {0: (), 1: ("target",), 2: ("x", "y")}
    assert plan(data, paths=paths) == [("pass", 1, ()), ("leave out", 2, ("target",)), ("pass", 3, ("x", "y"))]


def test_a_path_that_is_not_known_yet_asks_for_more_of_the_ledger() -> None:
    with pytest.raises(LedgerTooShort) as short:
        plan(batch(0, b"a") + batch(1, b"b"), paths={0: (), 1: None})
    assert short.value.header.base_offset == 1


def test_a_batch_of_another_producer_keeps_its_records_bytes() -> None:
    original = batch(5, b"a", b"b", b"c", compression=Compression.ZSTD)
    stamped = restamp(memoryview(original), 42, 3, 17)
    header = validate(stamped)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (42, 3, 17)
    assert (header.base_offset, header.is_transactional, header.compression) == (0, True, Compression.ZSTD)
    assert stamped[61:] == original[61:]
    assert [record[1:] for record in decode_records(stamped)] == [record[1:] for record in decode_records(original)]
    assert read_header(original).producer_id == -1  # what was fetched is not touched


def test_steps_know_where_their_batches_lie() -> None:
    first, second = batch(0, b"a"), batch(1, b"b")
    steps = list(plan_batches(first + second, 0, (), path_of=None, target_cluster_id="target"))
    assert [type(step) for step in steps] == [Step, Step]
    assert [(step.start, step.action) for step in steps] == [(0, Action.PASS), (len(first), Action.PASS)]


# -- provenance


def ledger_with(*runs: Run, source: str = "a", paths: tuple[Path, ...] = ()) -> Ledger:
    ledger = Ledger()
    add(ledger, *runs, source=source, paths=paths)
    return ledger


def add(ledger: Ledger, *runs: Run, source: str = "a", paths: tuple[Path, ...] = ()) -> None:
    ledger.replay(
        *ProgressRecord(
            map_id=MapId(source, "s" * 22, TOPIC, 0),
            chunk=Chunk(0, runs[-1].source_end, runs),
            source_alias=source,
            source_topic="x",
            target_topic="x",
            paths=paths,
        ).encode()
    )


def test_batches_outside_of_transactions_were_produced_here() -> None:
    assert Origins(Ledger()).path_of(TOPIC, 0, read_header(batch(0, b"a"))) == ()


def test_batches_of_transactions_are_looked_up() -> None:
    ledger = ledger_with(Run(0, 0, 5), Run(5, 10, 5, 1), paths=(("c",),))
    origins = Origins(ledger)
    headers = [read_header(batch(offset, b"a", producer_id=9)) for offset in (0, 10, 6)]
    assert [origins.path_of(TOPIC, 0, header) for header in headers] == [("a",), ("c", "a"), None]
    assert origins.path_of("another", 0, headers[0]) is None


def test_a_producer_that_the_ledger_does_not_know_writes_here() -> None:
    origins = Origins(ledger_with(Run(0, 0, 5)))
    here, later = (read_header(batch(offset, b"a", producer_id=9)) for offset in (6, 7))
    assert origins.path_of(TOPIC, 0, here) is None
    assert origins.settled_path_of(TOPIC, 0, here) == ()
    assert origins.path_of(TOPIC, 0, later) == ()  # without another look into the topic
    assert origins.path_of(TOPIC, 1, later) is None  # in another partition it may be somebody else


def test_a_batch_that_the_ledger_knows_after_all_has_its_path() -> None:
    ledger = ledger_with(Run(0, 0, 5))
    origins = Origins(ledger)
    header = read_header(batch(5, b"a", producer_id=9))
    assert origins.path_of(TOPIC, 0, header) is None
    add(ledger, Run(0, 0, 6))
    assert origins.settled_path_of(TOPIC, 0, header) == ("a",)


def test_nothing_comes_back_in_pairs_and_rings() -> None:
    """Records travel until nobody takes them; each cluster gets each once, whichever flows there are."""
    for flows in (
        [("a", "b"), ("b", "a")],
        [("a", "b"), ("b", "c"), ("c", "a")],
        [("a", "b"), ("b", "c"), ("c", "b")],  # a feeds a pair
    ):
        for start in "abc":
            arrived: list[tuple[str, Path]] = [(start, ())]  # cluster and the record's path there
            for cluster, path in arrived:
                assert len(arrived) < 10
                for source, target in flows:
                    if source == cluster and not is_loop((*path, source), target):
                        arrived.append((target, (*path, source)))
            assert len({cluster for cluster, _ in arrived}) == len(arrived)

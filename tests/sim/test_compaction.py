"""Compaction on the simulated disk: what stays, what goes, and what a crash in the middle leaves."""

from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest

from ottla.partitions.config import LogConfig
from ottla.partitions.results import State
from ottla.records.batch import decode_records
from ottla.records.header import read_header
from ottla.testing.sim.files import PowerCut
from tests.sim.log_harness import Node, make_batch

CONFIG = LogConfig(
    segment_bytes=1500,
    index_interval_bytes=200,
    retention_ms=-1,
    cleanup_compact=True,
    cleanup_delete=False,
    min_cleanable_dirty_ratio=0.01,
    delete_retention_ms=10_000,
)


def write(node: Node, random: Random, count: int, latest: dict[bytes, bytes | None], tag: str) -> None:
    for n in range(count):
        keys = [f"key-{random.randrange(0, 8)}".encode() for _ in range(3)]
        values = [f"{tag}-{n}-{place}".encode() if random.random() < 0.8 else None for place in range(3)]
        batch = make_batch(values, keys=keys, timestamp=node.clock.time_ms())  # type: ignore[arg-type]
        node.append(batch)
        latest.update(zip(keys, values, strict=True))
        node.settle()


def state_of(node: Node) -> dict[bytes, bytes | None]:
    state: dict[bytes, bytes | None] = {}
    previous = -1
    for batch in node.read_all():
        header = read_header(batch)
        assert header.base_offset > previous
        previous = header.last_offset
        for record in decode_records(batch):
            assert record.key is not None
            state[record.key] = record.value
    return state


def living(state: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    return {key: value for key, value in state.items() if value is not None}


def compact(node: Node) -> None:
    node.clock.run_for(2500)  # the recovery point passes what is sealed
    node.manager.compact()
    node.clock.run_until(lambda: not node.partition.compacting)
    node.clock.run_for(2500)


@pytest.mark.parametrize("seed", range(12))
def test_compaction_keeps_the_last_value_of_each_key(seed: int) -> None:
    node, random = Node(seed, CONFIG, journal_bytes=8192 * (seed % 2)), Random(seed)
    latest: dict[bytes, bytes | None] = {}
    for round_number in range(4):
        write(node, random, 30, latest, str(round_number))
        before = node.partition.size_bytes
        compact(node)
        assert node.partition.state is State.ONLINE, node.partition.error
        assert node.partition.size_bytes < before
        assert living(state_of(node)) == living(latest)
    node.crash()
    assert node.partition.state is State.ONLINE, node.partition.error
    assert living(state_of(node)) == living(latest)


def test_tombstones_go_after_delete_retention_ms() -> None:
    node = Node(1, CONFIG)
    latest: dict[bytes, bytes | None] = {}
    for value in (b"value", None):
        node.append(make_batch([value], keys=[b"gone"], timestamp=node.clock.time_ms()))  # type: ignore[list-item]
    write(node, Random(1), 30, latest, "a")
    compact(node)
    assert b"gone" in state_of(node)
    node.clock.run_for(20_000)
    write(node, Random(2), 30, latest, "b")
    compact(node)
    assert b"gone" not in state_of(node)


def test_the_last_batch_of_a_live_producer_stays_without_records() -> None:
    node = Node(3, CONFIG)
    latest: dict[bytes, bytes | None] = {}
    batch = make_batch([b"x"], keys=[b"key-0"], producer_id=9, producer_epoch=0, base_sequence=0)
    node.append(batch)
    write(node, Random(3), 60, latest, "a")
    compact(node)
    first = read_header(node.read_all()[0])
    assert (first.producer_id, first.base_offset, first.last_offset, first.record_count) == (9, 0, 0, 0)


def test_offsets_do_not_move() -> None:
    node = Node(4, CONFIG)
    latest: dict[bytes, bytes | None] = {}
    write(node, Random(4), 60, latest, "a")
    end = node.partition.log_end_offset
    compact(node)
    assert node.partition.log_end_offset == end
    for batch in node.read_all():
        header = read_header(batch)
        for record in decode_records(batch):
            found = node.read(record.offset, 1).buffers[0]
            assert read_header(found).base_offset == header.base_offset


def test_nothing_younger_than_min_compaction_lag_ms_is_compacted() -> None:
    node = Node(5, replace(CONFIG, min_compaction_lag_ms=1_000_000))
    latest: dict[bytes, bytes | None] = {}
    write(node, Random(5), 60, latest, "a")
    before = node.partition.size_bytes
    compact(node)
    assert node.partition.size_bytes == before


@pytest.mark.parametrize("seed", range(60))
def test_a_crash_during_compaction_loses_nothing(seed: int) -> None:
    random = Random(seed)
    node = Node(seed, CONFIG, journal_bytes=8192 * (seed % 2))
    latest: dict[bytes, bytes | None] = {}
    for round_number in range(3):
        write(node, random, 25, latest, str(round_number))
        node.clock.run_for(2500)
        node.cut_power_after(random.randrange(0, 60))
        with suppress(PowerCut):
            node.manager.compact()
            node.clock.run_until(lambda: not node.partition.compacting)
        node.crash()
        assert node.partition.state is State.ONLINE, node.partition.error
        assert living(state_of(node)) == living(latest)

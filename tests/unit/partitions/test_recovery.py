"""What a start reads, what it takes from indexes, and what it must not believe of them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from ottla.partitions.checkpoints import PARTITION_METADATA_FILE
from ottla.partitions.config import LogConfig
from ottla.partitions.index import OffsetIndex, TimeIndex
from ottla.partitions.segment import INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX, file_name
from ottla.records.header import read_header
from ottla.testing.sim.files import SimFile
from tests.sim.log_harness import DIRECTORY, Node, make_batch

CONFIG = LogConfig(segment_bytes=3000, index_interval_bytes=200, retention_ms=-1)
ONE_SEGMENT = LogConfig(index_interval_bytes=200, retention_ms=-1)


def fill(node: Node, timestamps: range, *, size: int = 100) -> None:
    """A record for each timestamp, in batches of their own."""
    for timestamp in timestamps:
        node.append(make_batch([b"v" * size], timestamp=timestamp))
    node.settle()


def pass_checkpoint(node: Node) -> None:
    node.clock.run_for(1500)


def found(node: Node, timestamps: range) -> list[int]:
    return [node.find(timestamp).offset for timestamp in timestamps]


def index_files(node: Node) -> list[str]:
    names = node.files.list_directory(DIRECTORY)
    return [f"{DIRECTORY}/{name}" for name in names if name.endswith("index")]


def test_last_record_of_a_segment_sealed_before_a_crash_is_found_by_time() -> None:
    node = Node(1, replace(CONFIG, index_interval_bytes=1000))
    fill(node, range(100, 130))
    assert len(node.partition.log.segments) == 2
    node.kill()  # before any checkpoint: the start reads both segments
    node.stop()  # and saves the first one's indexes
    node.kill()
    assert found(node, range(100, 130)) == list(range(30))


def node_that_lost(timestamps: range, *, size: int = 100, **fields: Any) -> Node:
    """Records 0 to 9 are durable; more were written and spoken of in sidecars, and a crash took all of them."""
    for seed in range(50):
        node = Node(seed, LogConfig(index_interval_bytes=200, flush_on_ack=False), save_bytes=500)
        fill(node, range(100, 110))
        node.partition.log.flush()
        pass_checkpoint(node)
        for timestamp in timestamps:
            node.append(make_batch([b"v" * size], timestamp=timestamp, **fields))
        node.settle()
        pass_checkpoint(node)
        node.crash()
        if node.partition.log_end_offset == 10:
            return node
    raise AssertionError("no seed loses them all")


def write_others(node: Node, timestamps: range) -> None:
    """Records of another size take the offsets, and the recovery point passes them before their sidecars are saved."""
    node.partition.environment.save_every_bytes = 1 << 30
    fill(node, timestamps, size=333)
    node.partition.log.flush()
    node.settle()
    pass_checkpoint(node)
    assert node.partition.recovery_point == node.partition.log_end_offset
    node.crash()


def test_indexes_of_records_that_a_crash_took_are_not_believed_later() -> None:
    node = node_that_lost(range(5000, 5100))
    index = OffsetIndex(0, node.files.read_bytes(f"{DIRECTORY}/{file_name(0, INDEX_SUFFIX)}"))
    times = TimeIndex(0, node.files.read_bytes(f"{DIRECTORY}/{file_name(0, TIME_INDEX_SUFFIX)}"))
    assert index.entry(len(index) - 1)[0] < 10
    assert times.entry(len(times) - 1)[1] < 10
    write_others(node, range(200, 290))
    assert found(node, range(200, 290)) == list(range(10, 100))
    for offset in range(100):
        assert read_header(b"".join(node.read(offset, 1).buffers)).base_offset == offset


def test_producers_whose_records_a_crash_took_are_not_remembered_later() -> None:
    node = node_that_lost(range(5000, 5001), size=1000, producer_id=5, producer_epoch=0, base_sequence=0)
    write_others(node, range(200, 290))
    assert node.partition.log_end_offset == 100
    assert len(node.partition.producers) == 0


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("kept_bytes", [0, 12, 24])
def test_an_index_that_ends_early_costs_time_and_never_an_answer(kept_bytes: int, clean: bool) -> None:
    node = Node(3, CONFIG)
    fill(node, range(100, 160))
    pass_checkpoint(node)
    if clean:
        node.stop()
    for path in index_files(node):
        node.files.open(path).truncate(kept_bytes // 12 * (12 if path.endswith("timeindex") else 8))
    node.kill()
    assert len(node.partition.log.segments) > 2
    assert found(node, range(100, 160)) == list(range(60))


def test_indexes_that_are_gone_are_made_anew() -> None:
    node = Node(4, replace(CONFIG, segment_bytes=20_000))
    fill(node, range(100, 160), size=1000)
    node.stop()
    before = index_files(node)
    assert len(before) == 6
    for path in before:
        node.files.remove(path)
    node.kill()
    assert found(node, range(100, 160)) == list(range(60))
    node.stop()
    assert index_files(node) == before
    assert all(node.files.size(path) for path in before)


@pytest.mark.parametrize("journal_bytes", [0, 8192])
def test_a_start_after_a_crash_reads_only_what_lies_past_the_recovery_point(
    journal_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(5, ONE_SEGMENT, journal_bytes=journal_bytes, save_bytes=20_000)
    fill(node, range(1000, 3000), size=1000)
    pass_checkpoint(node)
    assert node.partition.recovery_point == 2000
    fill(node, range(3000, 3010), size=1000)
    past = sum(len(batch) for batch in node.read_all()[2000:])
    read_bytes = 0
    pread = SimFile.pread

    def counted(file: SimFile, length: int, position: int) -> bytes:
        nonlocal read_bytes
        data = pread(file, length, position)
        if file.path.endswith(".log"):
            read_bytes += len(data)
        return data

    monkeypatch.setattr(SimFile, "pread", counted)
    node.crash()
    monkeypatch.undo()
    assert node.partition.log_end_offset == 2010
    slack = 1000 + 2 * 1100  # an index interval, two batches; it is read once to be checked, once to be written again
    assert read_bytes <= 2 * (past + slack)
    assert found(node, range(2990, 3010)) == list(range(1990, 2010))


def test_a_stop_saves_nothing_that_a_start_soon_learns_from_a_small_log() -> None:
    node = Node(6, CONFIG)
    node.append(make_batch([b"v"], timestamp=100, producer_id=5, producer_epoch=0, base_sequence=0))
    pass_checkpoint(node)
    node.stop()
    assert node.files.list_directory(DIRECTORY) == [file_name(0, LOG_SUFFIX), PARTITION_METADATA_FILE]
    node.kill()
    assert node.partition.epochs.entries == [(0, 0)]
    assert [producer.producer_id for producer in node.partition.producers] == [5]
    assert node.find(100).offset == 0


@pytest.mark.parametrize("operation", ["sync", "sync_directory"])
@pytest.mark.parametrize("seed", range(8))
def test_what_a_truncation_took_stays_away_though_the_process_died_before_its_sync(seed: int, operation: str) -> None:
    node = Node(seed, CONFIG)
    fill(node, range(100, 160))
    pass_checkpoint(node)
    removed = 0

    def before(happening: str, path: str) -> None:
        nonlocal removed
        removed += happening == "remove" and path.endswith(LOG_SUFFIX)
        if happening == operation and path.startswith(DIRECTORY) and (removed or operation == "sync"):
            node.files.before = None
            raise OSError(5, "injected")

    node.files.before = before
    assert node.call(node.partition.truncate, 5) is not None
    node.kill()  # the page cache shows the shorter log, the disk may not
    end = node.partition.log_end_offset
    node.crash()
    assert node.partition.log_end_offset == end


def test_an_orderly_stop_writes_down_the_brokers_epoch_and_a_crash_does_not() -> None:
    node = Node(1, CONFIG)
    assert node.manager.stopped_epoch == -1
    node.manager.broker_epoch = 7
    node.stop()
    assert json.loads(node.files.read_bytes(".kafka_cleanshutdown")) == {"version": 0, "brokerEpoch": 7}
    node.start()
    assert node.manager.stopped_epoch == 7
    node.manager.broker_epoch = 8
    node.crash()
    assert node.manager.stopped_epoch == -1


@pytest.mark.parametrize("marker", [b"", b"{}", b"[1]", b'{"version":0,"brokerEpoch":null}'])
def test_an_orderly_stop_that_does_not_tell_the_epoch_is_orderly_all_the_same(marker: bytes) -> None:
    node = Node(1, CONFIG)
    node.stop()
    node.files.write_atomically(".kafka_cleanshutdown", marker)
    node.start()
    assert node.manager.stopped_epoch == -1

"""What a start reads, what it takes from indexes, and what it must not believe of them."""

from dataclasses import replace

import pytest

from ottla.partitions.config import LogConfig
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


def test_indexes_of_records_that_a_crash_took_are_not_believed_later() -> None:
    node = Node(2, LogConfig(index_interval_bytes=200, flush_on_ack=False), save_bytes=500)
    fill(node, range(100, 110))
    node.partition.log.flush()
    pass_checkpoint(node)
    fill(node, range(5000, 5100))
    pass_checkpoint(node)  # saves indexes of what is not synced yet
    node.crash()
    survived = node.partition.log_end_offset
    assert 10 <= survived < 110
    fill(node, range(200, 290), size=333)
    node.partition.log.flush()
    node.settle()
    node.clock.run_for(100)
    node.partition.environment.save_every_bytes = 1 << 30
    pass_checkpoint(node)
    node.crash()
    assert node.partition.log_end_offset == survived + 90
    if survived == 10:
        assert found(node, range(200, 290)) == list(range(10, 100))
    for offset in range(node.partition.log_end_offset):
        assert read_header(b"".join(node.read(offset, 1).buffers)).base_offset == offset


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

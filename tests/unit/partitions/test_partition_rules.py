"""What a partition accepts, refuses and remembers, on the simulated disk."""

import tracemalloc
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import structlog

from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions import producer_expiry
from ottla.partitions.config import LogConfig
from ottla.partitions.results import Isolation, Origin, State, TimestampOffset
from ottla.records.batch import Record, assemble_batch, decode_records
from ottla.records.compression import Compression
from ottla.records.header import patch_base_offset, patch_crc, read_header
from ottla.records.record import encode_records
from tests.sim.log_harness import TOPIC, TOPIC_ID, Node, make_batch


def refusal(node: Node, batch: bytes) -> ErrorCode:
    end = node.partition.log_end_offset
    with pytest.raises(ApiError) as caught:
        node.append(batch)
    assert node.partition.log_end_offset == end
    return caught.value.code


def produced(sequence: int, *, count: int = 1, epoch: int = 0, **fields: Any) -> bytes:
    return make_batch([b"v"] * count, producer_id=5, producer_epoch=epoch, base_sequence=sequence, **fields)


@pytest.fixture
def node() -> Node:
    return Node(1, LogConfig())


def test_refuses_what_kafka_refuses(node: Node) -> None:
    good = make_batch([b"a"])
    flipped = bytearray(good)
    flipped[-1] ^= 1
    assert refusal(node, bytes(flipped)) is ErrorCode.CORRUPT_MESSAGE
    assert refusal(node, good + good) is ErrorCode.INVALID_RECORD
    assert refusal(node, b"") is ErrorCode.INVALID_RECORD
    old = bytearray(good)
    old[16] = 1
    assert refusal(node, bytes(old)) is ErrorCode.INVALID_RECORD
    moved = bytearray(good)
    patch_base_offset(moved, 0, 7, -1)
    assert refusal(node, bytes(moved)) is ErrorCode.INVALID_RECORD
    counted = bytearray(good)
    counted[57:61] = (2).to_bytes(4, "big")
    patch_crc(counted)
    assert refusal(node, bytes(counted)) is ErrorCode.INVALID_RECORD
    assert refusal(node, make_batch([b"a"], is_control=True)) is ErrorCode.INVALID_RECORD
    assert refusal(node, make_batch([b"a"], producer_id=3, producer_epoch=0)) is ErrorCode.INVALID_RECORD


def test_refuses_by_size_time_and_key(node: Node) -> None:
    now_ms = node.clock.time_ms()
    node.partition.update_config(LogConfig(max_message_bytes=200))
    assert refusal(node, make_batch([b"v" * 300])) is ErrorCode.MESSAGE_TOO_LARGE
    node.partition.update_config(LogConfig(segment_bytes=200))
    assert refusal(node, make_batch([b"v" * 300])) is ErrorCode.RECORD_LIST_TOO_LARGE
    config = LogConfig(message_timestamp_before_max_ms=1000, message_timestamp_after_max_ms=1000)
    node.partition.update_config(config)
    assert refusal(node, make_batch([b"a"], timestamp=now_ms - 2000)) is ErrorCode.INVALID_TIMESTAMP
    assert refusal(node, make_batch([b"a"], timestamp=now_ms + 2000)) is ErrorCode.INVALID_TIMESTAMP
    node.partition.update_config(replace(config, cleanup_compact=True))
    assert refusal(node, make_batch([b"a"], timestamp=now_ms)) is ErrorCode.INVALID_RECORD


def test_log_append_time_is_written_into_the_batch(node: Node) -> None:
    node.partition.update_config(LogConfig(log_append_time=True))
    appended, _ = node.append(make_batch([b"a", b"b"], timestamp=5))
    assert appended.log_append_time_ms == node.clock.time_ms()
    node.settle()
    records = decode_records(node.read_all()[0])
    assert [record.timestamp for record in records] == [appended.log_append_time_ms] * 2


def test_a_duplicate_of_the_last_five_batches_gets_the_offsets_of_its_original(node: Node) -> None:
    for sequence in range(7):
        node.append(produced(sequence))
    node.settle()
    appended, ack = node.append(produced(3))
    assert (appended.base_offset, ack.code, node.partition.log_end_offset) == (3, ErrorCode.NONE, 7)
    assert refusal(node, produced(1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_duplicate_is_acknowledged_only_with_its_original(node: Node) -> None:
    _, first = node.append(produced(0))
    _, second = node.append(produced(0))
    assert (first.code, second.code) == (None, None)
    node.settle()
    assert (first.code, second.code) == (ErrorCode.NONE, ErrorCode.NONE)
    assert node.partition.log_end_offset == 1


def test_gaps_old_epochs_and_new_epochs(node: Node) -> None:
    node.append(produced(0, count=3))
    assert refusal(node, produced(4)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refusal(node, produced(1, epoch=1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    node.append(produced(0, epoch=1))
    assert refusal(node, produced(3, epoch=0)) is ErrorCode.INVALID_PRODUCER_EPOCH


@pytest.mark.parametrize("clean", [True, False])
def test_producers_are_known_after_a_restart(node: Node, clean: bool) -> None:
    node.append(produced(0, count=3))
    node.settle()
    if clean:
        node.stop()
        node.kill()
    else:
        node.crash()
    appended, _ = node.append(produced(0, count=3))
    assert appended.base_offset == 0
    assert refusal(node, produced(9)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_silent_producers_are_forgotten(node: Node) -> None:
    node.append(produced(0))
    node.settle()
    node.clock.run_for(node.manager.producer_expiration_ms + 1)
    node.manager.housekeeping()
    appended, _ = node.append(produced(0))
    assert appended.base_offset == 1


@pytest.mark.interpreted
def test_who_falls_silent_while_others_are_looked_at_is_forgotten_too(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at millions takes longer than many a `producer.id.expiration.ms`."""
    monkeypatch.setattr(producer_expiry, "_PRODUCERS_A_TURN", 1)  # one partition at a time
    node.append(produced(0))
    first, node.partition = node.partition, node.manager.create(TOPIC, TOPIC_ID, 1, node.config)
    node.append(produced(0))
    node.settle()
    node.manager.producer_expiration_ms = 500
    node.manager.housekeeping()
    assert (len(first.producers), len(node.partition.producers)) == (1, 1)
    node.clock.run_for(1500)
    assert (len(first.producers), len(node.partition.producers)) == (1, 0)


def test_takes_batches_of_coordinators_without_a_sequence_for_no_duplicates(node: Node) -> None:
    batch = make_batch([b"v"], producer_id=5, producer_epoch=0, is_transactional=True)

    def append(code: ErrorCode, guard: int) -> None:
        node.partition.append(memoryview(bytearray(batch)), acks=-1, done=None, origin=Origin.COORDINATOR, guard=guard)

    with pytest.raises(ApiError) as unverified:
        append(ErrorCode.NONE, 0)
    assert unverified.value.code is ErrorCode.INVALID_TXN_STATE
    guard = node.partition.admit(5, 0, -1, adds=True, resume=append)
    node.partition.verifications.answered(guard, ErrorCode.NONE)
    append(ErrorCode.NONE, 0)
    assert node.partition.log_end_offset == 2


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("restart", [None, "clean", "crash"])
def test_read_committed_waits_for_the_marker_and_names_aborted_transactions(
    node: Node, commit: bool, restart: str | None
) -> None:
    node.append(make_batch([b"before"]))
    node.append_transactional(produced(0, is_transactional=True))
    node.append(make_batch([b"after"]))
    node.settle()
    assert node.partition.last_stable_offset == 1
    assert read_header(node.read(0, isolation=Isolation.READ_COMMITTED).buffers[-1]).base_offset == 0
    node.end_transaction(5, 1, committed=commit)
    assert node.partition.last_stable_offset == 1  # the marker is not below the high watermark yet
    node.settle()
    if restart == "clean":
        node.stop()
        node.kill()
    elif restart == "crash":
        node.crash()
    assert node.partition.last_stable_offset == 4
    result = node.read(0, isolation=Isolation.READ_COMMITTED)
    assert result.aborted == ([] if commit else [(5, 1)])


def test_a_failed_sync_acknowledges_nothing_and_takes_only_the_partition_offline(node: Node) -> None:
    _, before = node.append(make_batch([b"before"]))
    node.settle()
    node.fail_next("sync", OSError(5, "injected"))
    with structlog.testing.capture_logs() as told:
        _, lost = node.append(make_batch([b"lost"]))
        node.settle()
    assert (before.code, lost.code) == (ErrorCode.NONE, ErrorCode.KAFKA_STORAGE_ERROR)
    assert node.partition.state is State.OFFLINE
    assert [one["error"] for one in told if one["log_level"] == "error"] == ["[Errno 5] injected"]
    assert refusal(node, make_batch([b"more"])) is ErrorCode.KAFKA_STORAGE_ERROR
    node.kill()  # the pages are in the cache still; what recovery shows must be durable
    assert node.partition.error is None
    kept = node.read_all()
    node.crash()
    assert node.read_all()[: len(kept)] == kept


def test_deleting_records_leaves_the_rest_to_retention() -> None:
    """The others may be too old already; when they go is for housekeeping to say."""
    node = Node(1, LogConfig(segment_bytes=2000, retention_ms=1000))
    for n in range(12):
        node.append(make_batch([b"%d" % n + b"v" * 300], timestamp=1))
        node.settle()
    node.clock.run_for(5000)
    first, second = node.partition.log.segments[:2]
    assert node.call(node.partition.delete_records, second.base_offset + 1) == second.base_offset + 1
    node.settle()
    assert node.partition.log_start_offset == second.base_offset + 1
    assert node.partition.log.segments[0] is second
    assert not node.files.exists(first.path())
    node.manager.housekeeping()
    node.clock.run_for(5000)
    assert node.partition.log_start_offset == node.partition.log_end_offset == 12


def test_a_bit_flipped_below_the_durable_end_is_never_cut_off() -> None:
    """Wherever it is: either the next start names the damage, or nothing of the log is missing."""
    for seed in range(60):
        node = Node(seed, LogConfig(segment_bytes=2000))
        for n in range(12):
            node.append(make_batch([b"%d" % n + b"v" * 300]))
            node.settle()
        node.clock.run_for(3000)
        end = node.partition.log_end_offset
        path = node.partition.log.segments[seed % 3].path()
        inode = node.files.open(path).inode
        place = node.random.randrange(0, len(inode.content))
        for content in (inode.content, inode.durable):
            content[place] ^= 1 << node.random.randrange(0, 8)
        node.crash() if seed % 2 else node.kill()
        partition = node.partition
        if partition.error is None:
            assert partition.log_end_offset == end
        else:
            assert path in str(partition.error)
            assert len(node.files.open(path).inode.content) == len(inode.content)


@pytest.mark.parametrize("seed", range(20))
def test_an_acknowledged_record_is_found_by_its_time_at_once(seed: int) -> None:
    node = Node(seed, LogConfig(), journal_bytes=1 << 16)
    node.clock.run_for(100)  # the journal is ready
    for n in range(4):
        found: list[TimestampOffset | ApiError] = []

        def look(code: ErrorCode, n: int = n, found: list[TimestampOffset | ApiError] = found) -> None:
            assert code == ErrorCode.NONE
            node.partition.offset_for_timestamp(1000 + n, isolation=Isolation.READ_UNCOMMITTED, done=found.append)

        batch = make_batch([b"v"], timestamp=1000 + n)
        node.partition.append(memoryview(bytearray(batch)), acks=-1, done=look)
        node.clock.run_until(partial(bool, found))
        assert found == [TimestampOffset(1000 + n, n, 0)]


def test_a_small_batch_of_millions_of_records_costs_a_compacted_topic_no_more_than_its_limit() -> None:
    node = Node(1, LogConfig(cleanup_compact=True))
    one_record = encode_records([Record(timestamp=0, key=b"k", value=b"")], 0)
    for count, error in ((100_000, None), (2_000_000, ErrorCode.CORRUPT_MESSAGE)):
        header = read_header(make_batch([b""], timestamp=0))
        header.last_offset_delta, header.record_count = count - 1, count
        batch = bytearray(assemble_batch(header, one_record * count, Compression.ZSTD))
        assert len(batch) < 10_000
        tracemalloc.start()
        try:
            node.partition.append(memoryview(batch), acks=-1, done=None)
        except ApiError as refusal:
            assert refusal.code == error
        else:
            assert error is None
        finally:
            _, most_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert most_bytes < 10 << 20


def test_a_deletion_that_a_failed_partition_cannot_save_is_not_acknowledged() -> None:
    node = Node(1, LogConfig())
    for _ in range(3):
        node.append(make_batch([b"v"]))
    node.settle()
    node.manager.checkpoint(lambda _: None)  # under way: what is deleted now waits for the next one
    node.fail_next("write", OSError(5, "injected"))
    node.append(make_batch([b"v"]))
    answer = node.call(node.partition.delete_records, 2)
    assert isinstance(answer, ApiError)
    assert answer.code is ErrorCode.KAFKA_STORAGE_ERROR


def test_what_the_page_cache_has_little_of_is_read_from_the_disk(node: Node) -> None:
    """A reader far away would else get a few batches for a round trip, where it asked for many."""
    for _ in range(100):
        node.append(make_batch([b"v" * 900]))
    node.settle()
    node.read(0)  # its file is open, its index loaded
    asked: list[int] = []

    def read_cached(file: Any, length: int, position: int) -> bytes:
        asked.append(length)
        return bytes(file.inode.content[position : position + min(length, 3000)])

    node.disk.read_cached = read_cached  # type: ignore[method-assign]
    much = node.read(0, 50_000)
    assert much.size > 49_000
    assert asked
    little: list[Any] = []
    result = node.partition.read(0, 4000, isolation=Isolation.LOG_END, minimum_one_batch=True, done=little.append)
    assert result is not None  # most of it is at hand
    assert 2000 < result.size < 3000


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, True),
        ({"coordinator_epoch": 5}, True),
        ({"coordinator_epoch": 3}, False),  # a younger coordinator has written a marker
        ({"epoch": 0}, False),
        ({"leader_epoch": 1}, False),
    ],
)
def test_a_grant_counts_for_nothing_when_it_may_be_over(node: Node, fields: dict[str, int], counts: bool) -> None:
    node.append_transactional(produced(0, epoch=1, is_transactional=True), adds=False)
    node.end_transaction(5, 1, committed=True, coordinator_epoch=4, transaction_version=1)
    grant = {"epoch": 1, "coordinator_epoch": 4, "leader_epoch": node.partition.leader_epoch} | fields
    node.partition.grant(5, **grant)
    assert len(node.partition.verifications) == counts


def test_a_grant_of_a_transaction_that_is_open_already_leaves_nothing_behind(node: Node) -> None:
    node.append_transactional(produced(0, is_transactional=True), adds=False)
    node.partition.grant(5, 0, coordinator_epoch=0, leader_epoch=node.partition.leader_epoch)
    assert len(node.partition.verifications) == 0

"""Where the files of a deleted partition go, with topic names of any length, on a real file system."""

import asyncio
import errno
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ottla.adapters.clock import LoopClock
from ottla.adapters.disk import ThreadedDisk
from ottla.core.errors import StorageError
from ottla.core.types import Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import DAMAGED_SUFFIX, DELETE_SUFFIX, PartitionManager, name_apart
from tests.sim.log_harness import TOPIC, Node, make_batch
from tests.sim.log_harness import TOPIC_ID as HARNESS_TOPIC_ID

TOPIC_ID = Uuid(b"0123456789abcdef")


@pytest.mark.parametrize("length", [1, 100, 210, 249])
def test_a_deleted_topic_leaves_its_name_free(tmp_path: Path, length: int) -> None:
    topic = "x" * length

    async def delete() -> None:
        loop = asyncio.get_running_loop()
        disk = ThreadedDisk(loop, str(tmp_path))
        manager = PartitionManager(disk, LoopClock(loop))
        manager.open()
        partition = manager.create(topic, TOPIC_ID, 0, LogConfig())
        written: asyncio.Future[object] = loop.create_future()
        partition.append(memoryview(bytearray(make_batch([b"v"]))), acks=-1, done=written.set_result)
        await written
        assert (tmp_path / f"{topic}-0").exists()
        removed = asyncio.Event()
        manager.remove(topic, 0, removed.set)
        await removed.wait()
        assert not (tmp_path / f"{topic}-0").exists()
        closed: asyncio.Future[Exception | None] = loop.create_future()
        manager.close(closed.set_result)
        assert await closed is None
        disk.close()

    asyncio.run(asyncio.wait_for(delete(), 20))


def test_partitions_of_one_topic_are_moved_to_different_names() -> None:
    names = {name_apart(f"{'x' * 249}-{index}", TOPIC_ID, DELETE_SUFFIX) for index in (1, 2, 12)}
    assert len(names) == 3
    assert all(len(name) <= 255 for name in names)


def remove(node: Node, *, keep: bool = False) -> None:
    removed: list[bool] = []
    node.manager.remove(TOPIC, 0, lambda: removed.append(True), may_return=True, keep=keep)
    node.clock.run_until(lambda: bool(removed))


@pytest.mark.parametrize("operation", ["rename", "sync_directory"])
def test_a_replica_that_a_failing_disk_kept_from_going_can_come_back_without_a_restart(operation: str) -> None:
    node = Node(1, LogConfig())
    node.append(make_batch([b"old"]))
    node.settle()
    failures = 0

    def before(wanted: str, path: str) -> None:
        nonlocal failures
        if wanted == operation and failures < 3:
            failures += 1
            raise OSError(errno.EIO, "Input/output error", path)

    node.files.before = before
    remove(node)
    assert failures == 3
    node.partition = node.manager.create(TOPIC, HARNESS_TOPIC_ID, 0, node.config)
    node.append(make_batch([b"new"]))
    node.settle()
    node.kill()
    [batch] = node.read_all()
    assert b"new" in batch


@pytest.mark.parametrize("seed", range(5))
def test_the_journal_brings_nothing_back_into_a_replica_that_was_removed_and_returned(seed: int) -> None:
    node = Node(seed, LogConfig(), journal_bytes=65_536)
    for n in range(20):
        node.append(make_batch([b"old %d" % n]))
        node.settle()
    remove(node)
    node.partition = node.manager.create(TOPIC, HARNESS_TOPIC_ID, 0, node.config)
    node.append(make_batch([b"new" * 50_000]))  # too much for the journal
    node.settle()
    node.kill()
    [batch] = node.read_all()
    assert b"newnew" in batch


@pytest.mark.parametrize("topic_id", [HARNESS_TOPIC_ID, Uuid(b"another topic id")])
def test_the_checkpoints_of_a_partition_that_was_removed_say_nothing_of_the_next_one(
    topic_id: Uuid, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(1, LogConfig())
    for n in range(20):
        node.append(make_batch([b"old %d" % n]))
    node.settle()
    assert node.call(node.partition.delete_records, 10) == 10  # with a checkpoint
    remove(node)
    node.partition = node.manager.create(TOPIC, topic_id, 0, node.config)
    node.append(make_batch([b"new"]))
    node.settle()
    monkeypatch.setattr("tests.sim.log_harness.TOPIC_ID", topic_id)
    node.kill()
    [batch] = node.read_all()
    assert b"new" in batch


def test_a_partition_that_is_removed_after_a_restart_leaves_no_log_start_behind() -> None:
    node = Node(1, LogConfig())
    for n in range(20):
        node.append(make_batch([b"old %d" % n]))
    node.settle()
    assert node.call(node.partition.delete_records, 10) == 10
    node.kill()
    remove(node)
    node.partition = node.manager.create(TOPIC, HARNESS_TOPIC_ID, 0, node.config)
    for n in range(15):
        node.append(make_batch([b"new %d" % n]))
    node.clock.run_for(3000)
    node.kill()
    assert len(node.read_all()) == 15


@pytest.mark.parametrize("begun_before_the_end", [False, True])
def test_a_checkpoint_under_way_brings_nothing_of_a_removed_partition_back(*, begun_before_the_end: bool) -> None:
    node = Node(1, LogConfig())
    for n in range(20):
        node.append(make_batch([b"old %d" % n]))
    node.settle()
    assert node.call(node.partition.delete_records, 10) == 10
    other = node.manager.create("other", Uuid(b"another topic id"), 0, LogConfig())

    def begin_checkpoint() -> None:
        other.append(memoryview(bytearray(make_batch([b"v"]))), acks=-1, done=None)
        node.clock.run_until(lambda: other.log.idle)
        node.disk.stalls = 1.0
        node.manager.checkpoint(lambda _: None)
        node.disk.stalls = 0.0

    begin_checkpoint()
    remove(node)
    if begun_before_the_end:
        begin_checkpoint()
    node.partition = node.manager.create(TOPIC, HARNESS_TOPIC_ID, 0, node.config)
    for n in range(15):
        node.append(make_batch([b"new %d" % n]))
    node.settle()
    assert node.partition.recovery_point <= node.partition.log_end_offset
    node.clock.run_for(3000)
    node.kill()
    assert node.partition.log_start_offset == 0
    assert len(node.read_all()) == 15


def test_damaged_files_are_kept_once_beside_the_replica_that_is_made_anew() -> None:
    node = Node(1, LogConfig())
    kept = name_apart(f"{TOPIC}-0", HARNESS_TOPIC_ID, DAMAGED_SUFFIX)
    failures = node.manager.environment.failures
    for value in (b"first", b"second"):
        node.append(make_batch([value]))
        node.settle()
        node.partition.log.fail(StorageError("damaged"))
        remove(node, keep=True)
        assert value in node.files.read_bytes(f"{kept}/00000000000000000000.log")
        node.partition = node.manager.create(TOPIC, HARNESS_TOPIC_ID, 0, node.config)
        assert node.partition.log_end_offset == 0
        assert node.partition.error is None
    assert node.manager.environment.failures == failures + 4  # who tells of failed replicas looks again


@pytest.mark.parametrize("seed", range(3))
def test_a_write_that_was_under_way_when_its_log_failed_comes_to_no_other_replica(seed: int) -> None:
    node = Node(seed, LogConfig(segment_bytes=200))
    node.append(make_batch([b"first" * 20]))
    node.settle()
    node.disk.stalls = 1.0
    node.append(make_batch([b"late" * 20]))  # to a segment that it makes
    node.clock.run_until(lambda: bool(node.partition.environment.writing))
    node.disk.stalls = 0.0
    node.partition.log.fail(StorageError("damage was found"))
    remove(node, keep=True)
    node.partition = node.manager.create(TOPIC, HARNESS_TOPIC_ID, 0, node.config)
    node.append(make_batch([b"new"]))
    node.clock.run_for(2 * node.disk.stall_ms)
    assert node.files.list_directory("t-0") == ["00000000000000000000.log", "partition.metadata"]
    node.kill()
    [batch] = node.read_all()
    assert b"new" in batch


@pytest.mark.parametrize("restarts", [False, True])
def test_what_was_kept_of_a_damaged_replica_can_be_deleted(restarts: bool) -> None:
    node = Node(1, LogConfig())
    kept = name_apart(f"{TOPIC}-0", HARNESS_TOPIC_ID, DAMAGED_SUFFIX)
    node.append(make_batch([b"first"]))
    node.settle()
    node.partition.log.fail(StorageError("damaged"))
    remove(node, keep=True)
    node.partition = node.manager.create(TOPIC, HARNESS_TOPIC_ID, 0, node.config)
    if restarts:
        node.kill()
    other = Uuid(b"another topic id")
    node.manager.drop_damaged(TOPIC, other, 0)  # of a namesake, of which there is nothing
    node.settle()
    assert node.files.exists(kept)
    with capture_logs() as logs:
        node.manager.drop_damaged(TOPIC, HARNESS_TOPIC_ID, 0)
        node.clock.run_until(lambda: not node.files.exists(kept))
        node.settle()
    assert [(one["event"], one["directory"]) for one in logs] == [
        ("deleted what was kept of a damaged replica, as it is here no more", kept)
    ]

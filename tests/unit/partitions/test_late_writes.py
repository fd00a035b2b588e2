"""What the journal has reaches the segments later: nobody who reads, cuts, rolls, stops or crashes sees that."""

from random import Random
from typing import Any

import pytest

from ottla.core.errors import ErrorCode, StorageError
from ottla.core.types import Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.journal import DIRECTORY, SharedJournal
from ottla.partitions.late_writes import LATE_LOG_BYTES, LATE_WRITE_MS, LateWrites
from ottla.partitions.results import State
from ottla.partitions.write_job import WriteJob
from ottla.testing.sim.clock import SimClock
from ottla.testing.sim.disk import SimDisk
from tests.sim.log_harness import DIRECTORY as LOG_DIRECTORY
from tests.sim.log_harness import Ack, Node, make_batch

WRITTEN_MS = 3 * LATE_WRITE_MS


class Journaled(Node):
    """A node whose first record made the segment's file, so that the journal takes the next ones."""

    def __init__(self, seed: int = 1, config: LogConfig | None = None, *, journal_bytes: int = 1 << 20) -> None:
        super().__init__(seed, config or LogConfig(), journal_bytes=journal_bytes)
        self.values: list[bytes] = []
        self.clock.run_for(50)
        self.put()
        self.clock.run_for(WRITTEN_MS)

    def put(self, value: bytes = b"", *, wait_ms: float = 25, acks: int = -1) -> Ack:
        self.values.append(value or b"value %d" % len(self.values))
        ack = self.append(make_batch(self.values[-1:], timestamp=self.clock.time_ms()), acks)[1]
        self.clock.run_for(wait_ms)
        return ack

    @property
    def journal(self) -> SharedJournal:
        journal = self.partition.environment.journal
        assert journal is not None
        return journal

    @property
    def unwritten(self) -> int:
        """How many records the journal has and the files have not."""
        log = self.partition.log
        return max(0, log.durable_end_offset - log.written_end_offset)

    def note_writes(self) -> set[float]:
        """When jobs wrote to segments, from now on."""
        moments: set[float] = set()

        def before(operation: str, path: str) -> None:
            if operation == "write" and path.endswith(".log"):
                moments.add(self.clock.monotonic_ms())

        self.files.before = before
        return moments

    def check(self) -> None:
        """All that was put is there."""
        batches = self.read_all()
        assert len(batches) == len(self.values)
        assert all(value in batch for value, batch in zip(self.values, batches, strict=True))

    def file(self) -> Any:
        return self.files.read_bytes(self.partition.log.active.path())


def test_many_commits_are_one_write_to_the_segment_and_can_be_read_before() -> None:
    node = Journaled()
    written = node.note_writes()
    acks = [node.put(b"v" * 800, wait_ms=11) for _ in range(8)]  # 6,400 bytes: more than the tails may keep of written
    assert [ack.code for ack in acks] == [ErrorCode.NONE] * 8
    assert node.unwritten == 8
    assert not written
    node.check()
    node.clock.run_for(WRITTEN_MS)
    assert len(written) == 1
    assert not node.unwritten
    assert node.partition.log.tail.base_offset > 1
    node.check()


def test_acks_1_and_a_look_by_time_do_not_wait_for_the_timer() -> None:
    node = Journaled()
    before = node.clock.time_ms()
    assert node.put(acks=1).code is ErrorCode.NONE
    assert node.unwritten == 1
    assert node.find(before).offset == 1
    assert node.clock.time_ms() - before < LATE_WRITE_MS
    assert not node.unwritten


def test_much_of_one_log_is_written_at_once() -> None:
    node = Journaled()
    for _ in range(LATE_LOG_BYTES // 50_000):
        for _ in range(30):
            node.put(b"v" * 1900, wait_ms=0)
        node.settle()
    late = node.partition.environment.late
    assert late.since_ms is not None
    assert node.partition.environment.oldest_write_ms == late.since_ms, "a disk that stalls here is seen"
    node.check()


@pytest.mark.parametrize("seed", range(10))
def test_a_crash_between_journal_and_segment_loses_nothing(seed: int) -> None:
    node = Journaled(seed)
    for _ in range(3):
        node.put()
    assert node.unwritten == 3
    node.kill() if seed % 2 else node.crash()
    node.check()


@pytest.mark.parametrize("seed", range(10))
def test_the_journals_files_take_turns_while_segments_lack_something(seed: int) -> None:
    node = Journaled(seed, journal_bytes=8192)
    epoch = node.journal._epoch
    for _ in range(30):
        node.put(b"v" * 500)
    assert node.journal._epoch > epoch + 1, "each was full and emptied"
    node.crash()
    node.check()


def test_a_late_write_that_fails_keeps_the_journal() -> None:
    node = Journaled()
    acks = [node.put(), node.put()]
    assert node.unwritten == 2
    node.fail_next("write", OSError(28, "No space left on device"))
    node.clock.run_for(WRITTEN_MS)
    assert node.journal.failed
    assert node.partition.state is State.OFFLINE
    assert [ack.code for ack in acks] == [ErrorCode.NONE] * 2
    node.crash()
    node.check()


@pytest.mark.parametrize("seed", range(3))
def test_a_large_write_takes_along_what_its_segment_lacks_and_the_journal_waits_for_it(seed: int) -> None:
    node = Journaled(seed)
    acks = [node.put(), node.put()]
    assert node.unwritten == 2
    written = node.note_writes()
    node.disk.stalls = 1.0
    large = node.put(b"v" * 20_000, wait_ms=0)
    node.clock.run_until(lambda: bool(node.partition.environment.writing))
    node.disk.stalls = 0.0
    told: list[Exception | None] = []
    node.journal.retire(told.append)
    node.clock.run_until(lambda: bool(told))
    assert told == [None]
    assert [ack.code for ack in (*acks, large)] == [ErrorCode.NONE] * 3
    assert len(written) == 1
    node.crash()
    node.check()


def test_a_large_write_that_fails_with_what_it_took_along_keeps_the_journal() -> None:
    node = Journaled()
    ack = node.put()
    assert node.unwritten == 1
    node.fail_next("write", OSError(28, "No space left on device"))
    node.put(b"v" * 20_000)
    assert node.journal.failed
    assert ack.code is ErrorCode.NONE
    node.crash()
    del node.values[-1]
    node.check()


@pytest.mark.parametrize("seed", range(10))
def test_a_large_write_waits_for_a_late_one_under_way(seed: int) -> None:
    node = Journaled(seed)
    node.put()
    node.clock.run_until(lambda: node.partition.environment.late.since_ms is not None)
    large = node.put(b"v" * 20_000, wait_ms=0)
    node.clock.run_until(lambda: large.code is not None)
    assert all(value in node.file() for value in node.values)


@pytest.mark.parametrize("seed", range(5))
def test_what_was_cut_off_before_it_was_written_does_not_come_back(seed: int) -> None:
    node = Journaled(seed)
    for _ in range(4):
        node.put()
    assert node.unwritten == 4
    assert node.call(node.partition.truncate, 3) is None
    del node.values[3:]
    node.check()
    node.put(b"other")
    assert node.unwritten == 1
    node.crash()
    node.check()


def test_a_clean_stop_writes_everything() -> None:
    node = Journaled()
    for _ in range(4):
        node.put()
    assert node.unwritten == 4
    node.stop()
    assert all(value in node.file() for value in node.values)
    node.files.remove_tree(DIRECTORY)
    node.kill()
    node.check()


@pytest.mark.parametrize("crash", [False, True])
def test_a_segment_that_is_sealed_gets_what_it_lacks_with_the_first_write_to_its_successor(crash: bool) -> None:
    node = Journaled(config=LogConfig(segment_bytes=4000))
    for _ in range(4):
        node.put(b"v" * 800, wait_ms=15)
    assert node.unwritten == 4
    assert len(node.partition.log.segments) == 1
    node.put(b"v" * 800)
    sealed, active = node.partition.log.segments
    assert sealed.written == sealed.size
    assert active.created
    if crash:
        node.crash()
    node.check()


def test_what_a_failed_log_had_in_the_journal_never_reaches_a_namesake() -> None:
    node = Journaled()
    node.put()
    node.partition.log.fail(StorageError("damage was found"))
    assert node.unwritten == 1
    gone: list[bool] = []
    node.manager.remove("t", 0, lambda: gone.append(True), keep=True)
    node.clock.run_until(lambda: bool(gone))
    [kept] = [name for name in node.files.list_directory("") if name.endswith("-damaged")]
    assert node.values[1] in node.files.read_bytes(f"{kept}/{'0' * 20}.log")
    node.partition = node.manager.create("t", Uuid(b"another topic id"), 0, LogConfig())
    before, node.values = node.values, []
    node.put(b"of another topic")
    node.clock.run_for(WRITTEN_MS)
    assert before[1] not in node.files.read_bytes(f"{LOG_DIRECTORY}/{'0' * 20}.log")
    node.check()


class Listener:
    """A log that asks for everything to be written as soon as it hears of its own bytes."""

    def __init__(self) -> None:
        self.late: LateWrites | None = None
        self.told: list[str] = []

    def late_written(self, job: WriteJob, error: Exception | None) -> None:
        self.told.append(f"{job.size} bytes")
        if job.size == 1:
            assert self.late is not None
            self.late.write_all(lambda: self.told.append("all"))


def test_who_asks_while_a_job_is_told_of_does_not_take_its_end_for_that_of_the_next_one() -> None:
    clock = SimClock()
    disk = SimDisk(clock, Random(1))
    log = Listener()
    late = log.late = LateWrites(disk, clock, lambda _: None)

    def add(size: int) -> None:
        job = WriteJob(disk, Uuid(bytes(16)), [], 0)
        job.size = size
        late.add(log, job)

    add(1)
    clock.run_until(lambda: late.since_ms is not None)
    add(2)
    clock.run_for(WRITTEN_MS)
    assert log.told == ["1 bytes", "2 bytes", "all"]

"""The log against a deliberately dumb model, on a disk that forgets and tears at a crash."""

import os
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.config import LogConfig
from ottla.partitions.results import Isolation, State
from ottla.records.header import read_header
from ottla.testing.sim.files import PowerCut
from tests.sim.log_harness import Ack, Node, make_batch

CONFIG = LogConfig(segment_bytes=3000, index_interval_bytes=200, retention_ms=-1)
STEPS = int(os.environ.get("OTTLA_MODEL_STEPS", "60"))
EXAMPLES = int(os.environ.get("OTTLA_MODEL_EXAMPLES", "60"))


class Entry:
    """A batch that the model was given."""

    def __init__(self, batch: bytes, base_offset: int, ack: Ack | None, acks: int, timestamp: int) -> None:
        header = read_header(batch)
        self.payload = batch[16:]  # magic, CRC and what it covers: all that the log must not change
        self.base_offset, self.timestamp = base_offset, timestamp
        self.next_offset = base_offset + header.last_offset_delta + 1
        self.size = len(batch)
        self.ack, self.acks = ack, acks


class LogModel(RuleBasedStateMachine):
    @initialize(
        seed=st.integers(0, 2**32),
        page_cache=st.sampled_from([False, False, False, True]),
        journal_bytes=st.sampled_from([0, 8192, 32_768]),
        save_bytes=st.sampled_from([500, 1500, 1 << 20]),
    )
    def start(self, seed: int, page_cache: bool, journal_bytes: int, save_bytes: int) -> None:
        self.config = replace(CONFIG, flush_on_ack=not page_cache)
        self.node = Node(seed, self.config, journal_bytes=journal_bytes, save_bytes=save_bytes)
        self.entries: list[Entry] = []  # from the log start to the log end
        self.log_start = 0
        self.certain_start = 0  # what a crash cannot take back
        self.end = 0
        self.durable = 0  # must survive
        self.count = 0

    # -- what may happen

    @rule(
        records=st.integers(1, 4), size=st.integers(0, 700), acks=st.sampled_from([-1, -1, 1]), burst=st.integers(1, 4)
    )
    def append(self, records: int, size: int, acks: int, burst: int) -> None:
        for _ in range(burst):
            self.count += 1
            timestamp = self.node.clock.time_ms()
            values = [f"{self.count}:{n}".encode() + b"v" * size for n in range(records)]
            batch = make_batch(values, timestamp=timestamp)
            try:
                appended, ack = self.node.append(batch, acks)
            except ApiError as error:
                assert error.code is ErrorCode.KAFKA_STORAGE_ERROR
                assert self.node.partition.state is State.OFFLINE
                return
            assert appended.base_offset == self.end
            self.end = appended.last_offset + 1
            self.entries.append(Entry(batch, appended.base_offset, ack, acks, timestamp))

    @rule(duration_ms=st.integers(0, 30))
    def pass_time(self, duration_ms: int) -> None:
        self.node.clock.run_for(duration_ms)

    @rule(duration_ms=st.integers(900, 2500))
    def pass_checkpoint(self, duration_ms: int) -> None:
        self.node.clock.run_for(duration_ms)

    @rule(
        where=st.floats(0, 1), max_bytes=st.integers(1, 6000), isolation=st.sampled_from(Isolation), one=st.booleans()
    )
    def read(self, where: float, max_bytes: int, isolation: Isolation, one: bool) -> None:
        partition = self.node.partition
        if partition.state is State.OFFLINE:
            return
        offset = self.log_start + int((self.end - self.log_start) * where)
        end = self.end if isolation is Isolation.LOG_END else partition.high_watermark
        result = self.node.read(offset, max_bytes, isolation, one)
        wanted = [entry for entry in self.entries if entry.next_offset > offset and entry.next_offset <= end]
        self.check_read(b"".join(bytes(b) for b in result.buffers), wanted, max_bytes, one)

    def check_read(self, data: bytes, wanted: list[Entry], max_bytes: int, one: bool) -> None:
        if not data:
            assert not wanted or (not one and wanted[0].size > max_bytes)
            return
        assert len(data) <= max_bytes or (one and len(data) == wanted[0].size)
        at = 0
        for entry in wanted:
            if at == len(data):
                break
            header = read_header(data, at)
            assert header.base_offset == entry.base_offset
            assert data[at + 16 : at + header.size_bytes] == entry.payload
            at += header.size_bytes
        assert at == len(data)

    @rule(data=st.data())
    def find_by_time(self, data: st.DataObject) -> None:
        if self.node.partition.state is State.OFFLINE or not self.entries:
            return
        self.node.settle()
        if self.node.partition.error is not None:
            return
        timestamp = data.draw(st.sampled_from(self.entries)).timestamp + data.draw(st.integers(-1, 1))
        expected = next(
            (
                max(entry.base_offset, self.log_start)
                for entry in self.entries
                if entry.timestamp >= timestamp and entry.next_offset > self.log_start
            ),
            -1,
        )
        try:
            assert self.node.find(timestamp).offset == expected
        except ApiError as error:  # what the journal has was to be written to the segment first, and that failed
            assert error.code is ErrorCode.KAFKA_STORAGE_ERROR
            assert self.node.is_offline

    @rule()
    def restart(self) -> None:
        online = self.node.partition.state is State.ONLINE
        self.node.stop()
        if self.node.partition.state is State.ONLINE and online:
            for entry in self.entries:
                assert entry.ack is None or entry.ack.code is ErrorCode.NONE, "a stop leaves nobody waiting"
            self.durable = self.end
            self.certain_start = self.log_start
        self.node.kill()
        self.after_crash()

    @rule()
    def kill(self) -> None:
        """The process dies: what it wrote is in the page cache still, and must be durable once recovered."""
        self.note_acknowledged()
        self.node.kill()
        self.after_crash()

    @rule(operations=st.integers(0, 25), duration_ms=st.integers(0, 40))
    def crash(self, operations: int, duration_ms: int) -> None:
        self.node.cut_power_after(operations)
        with suppress(PowerCut):
            self.node.clock.run_for(duration_ms)
        self.note_acknowledged()
        self.node.crash()
        self.after_crash()

    @rule(operations=st.integers(0, 12))
    def crash_in_recovery(self, operations: int) -> None:
        self.note_acknowledged()
        self.node.disk.crash()
        self.node.cut_power_after(operations)
        with suppress(PowerCut):
            self.node.start()
            self.node.clock.run_for(5)
        self.node.crash()
        self.after_crash()

    @rule(kind=st.sampled_from(["write", "sync"]))
    def disk_error(self, kind: str) -> None:
        self.node.fail_next(kind, OSError(28 if kind == "write" else 5, "injected"))

    @precondition(lambda self: self.node.partition.state is State.ONLINE)
    @rule(where=st.floats(0, 1), cut=st.sampled_from([None, None, 3, 8, 14]))
    def truncate(self, where: float, cut: int | None) -> None:
        self.node.settle()
        if not self.entries or self.node.partition.error is not None:
            return
        self.note_acknowledged()
        place = int((len(self.entries) - 1) * where)
        offset = self.entries[place].base_offset
        if offset < self.log_start:
            return
        self.durable = min(self.durable, offset)
        if cut is not None:
            self.node.cut_power_after(cut)
        results: list[Exception | None] = []
        try:
            self.node.partition.truncate(offset, results.append)
            self.node.clock.run_until(lambda: bool(results))
        except PowerCut:
            self.forget_acks(offset)
            self.node.crash()
            self.after_crash()
            return
        self.node.files.before = None
        if results[0] is None:
            del self.entries[place:]
            self.end = offset
            assert self.node.partition.log_end_offset == offset
        else:
            self.forget_acks(offset)
            assert self.node.partition.state is State.OFFLINE

    @precondition(lambda self: self.node.partition.state is State.ONLINE)
    @rule(where=st.floats(0, 1))
    def delete_records(self, where: float) -> None:
        partition = self.node.partition
        offset = self.log_start + int((partition.high_watermark - self.log_start) * where)
        answer = self.node.call(partition.delete_records, offset)
        if isinstance(answer, int):
            assert answer >= offset
            self.certain_start = max(offset, self.certain_start)
        self.new_start(partition.log_start_offset)

    @precondition(lambda self: self.node.partition.state is State.ONLINE)
    @rule(keep_bytes=st.integers(0, 12_000))
    def retention(self, keep_bytes: int) -> None:
        partition = self.node.partition
        partition.update_config(replace(self.config, retention_bytes=keep_bytes))
        before = partition.size_bytes if partition.log.segments[0].base_offset == self.log_start else 0
        self.node.manager.housekeeping()
        partition.update_config(self.config)
        assert partition.log_start_offset <= partition.high_watermark
        assert partition.size_bytes >= min(before, keep_bytes)
        self.new_start(partition.log_start_offset)

    # -- the model's own bookkeeping

    def new_start(self, offset: int) -> None:
        assert offset >= self.log_start
        self.log_start = offset
        self.entries = [entry for entry in self.entries if entry.next_offset > self.certain_start]

    def note_acknowledged(self) -> None:
        """All that was acknowledged durably, or shown to a consumer, must be there later."""
        if not self.config.flush_on_ack:
            if self.node.partition.state is State.ONLINE:
                self.durable = max(self.durable, self.node.partition.log.durable_end_offset)
            return
        for entry in self.entries:
            if entry.acks == -1 and entry.ack is not None and entry.ack.code is ErrorCode.NONE:
                self.durable = max(self.durable, entry.next_offset)
        if self.node.partition.state is State.ONLINE:
            self.durable = max(self.durable, self.node.partition.high_watermark)

    def forget_acks(self, offset: int) -> None:
        for entry in self.entries:
            if entry.base_offset >= offset:
                entry.ack = None

    def after_crash(self) -> None:
        """A prefix of what was appended is there, and all that must be."""
        partition = self.node.partition
        assert partition.state is State.ONLINE, partition.error
        self.end = partition.log_end_offset
        detail = f"end {self.end}, certain start {self.certain_start}, start {self.log_start}, durable {self.durable}"
        detail += f", batches {[(entry.base_offset, entry.next_offset) for entry in self.entries]}"
        assert self.end >= self.durable, f"acknowledged records are gone: {detail}"
        known = {self.certain_start, self.log_start} | {entry.next_offset for entry in self.entries}
        assert self.end in known | {entry.base_offset for entry in self.entries[:1]}, detail
        assert self.certain_start <= partition.log_start_offset <= max(self.log_start, self.end)
        self.entries = [entry for entry in self.entries if entry.next_offset <= self.end]
        self.log_start = self.certain_start = partition.log_start_offset
        self.new_start(self.log_start)
        for entry in self.entries:
            entry.ack = None
        self.durable = self.end
        batches = self.node.read_all()
        assert len(batches) == len(self.entries)
        for batch, entry in zip(batches, self.entries, strict=True):
            assert read_header(batch).base_offset == entry.base_offset
            assert batch[16:] == entry.payload

    @invariant()
    def ends_are_in_order(self) -> None:
        if not hasattr(self, "node"):
            return
        log = self.node.partition.log
        # What the journal made durable may be on its way to its segment still.
        assert max(log.durable_end_offset, log.written_end_offset) <= log.log_end_offset
        assert self.node.partition.high_watermark <= log.log_end_offset

    def teardown(self) -> None:
        if hasattr(self, "node"):
            self.note_acknowledged()
            self.node.crash()
            self.after_crash()


LogModel.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestLogModel = pytest.mark.timeout(max(600, EXAMPLES))(LogModel.TestCase)

"""One simulated node with one partition, and helpers to make and compare batches."""

from collections.abc import Callable
from random import Random
from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import PartitionManager
from ottla.partitions.partition import Partition
from ottla.partitions.results import Appended, Isolation, Origin, ReadResult, State, TimestampOffset
from ottla.partitions.verification import APPEND, NO_GUARD
from ottla.records.batch import Record, encode_batch
from ottla.records.control import encode_end_transaction_marker
from ottla.records.header import iterate_headers, read_header
from ottla.testing.sim.clock import SimClock
from ottla.testing.sim.disk import SimDisk, SimWorker
from ottla.testing.sim.files import PowerCut

TOPIC, TOPIC_ID = "t", Uuid(b"0123456789abcdef")
DIRECTORY = "t-0"


def make_batch(
    values: list[bytes], *, timestamp: int = -1, keys: list[bytes | None] | None = None, **fields: Any
) -> bytes:
    keys = keys or [None] * len(values)
    records = [
        Record(offset=n, timestamp=timestamp, key=key, value=value, headers=())
        for n, (key, value) in enumerate(zip(keys, values, strict=True))
    ]
    return encode_batch(records, **fields)


class Ack:
    """What a producer hears: nothing yet, or a code, once."""

    def __init__(self) -> None:
        self.code: ErrorCode | None = None

    def __call__(self, code: ErrorCode) -> None:
        assert self.code is None, "acknowledged twice"
        self.code = code


def append_verified(
    partition: Partition,
    batch: bytes,
    *,
    done: Callable[[ErrorCode], None] | None = None,
    adds: bool = True,
    origin: Origin = Origin.CLIENT,
) -> Appended:
    """Append a transactional batch whose coordinator, asked if need be, agrees at once."""
    header = read_header(batch)
    outcomes: list[Appended | ApiError] = []

    def append(guard: int) -> Appended:
        return partition.append(memoryview(bytearray(batch)), acks=-1, done=done, origin=origin, guard=guard)

    def resume(code: ErrorCode, guard: int) -> None:
        assert code is ErrorCode.NONE
        try:
            outcomes.append(append(guard))
        except ApiError as error:
            outcomes.append(error)

    guard = partition.admit(header.producer_id, header.producer_epoch, header.base_sequence, adds=adds, resume=resume)
    if guard == APPEND:
        return append(NO_GUARD)
    partition.verifications.answered(guard, ErrorCode.NONE)
    [outcome] = outcomes
    if isinstance(outcome, ApiError):
        raise outcome
    return outcome


class Node:
    """Starts, stops and crashes; time passes only in its methods. By default each log is synced by itself."""

    def __init__(
        self, seed: int, config: LogConfig, *, journal_bytes: int = 0, save_bytes: int = 1 << 20, **disk_settings: Any
    ) -> None:
        self.random = Random(seed)
        self.journal_bytes, self.save_bytes = journal_bytes, save_bytes
        self.clock = SimClock()
        self.disk = SimDisk(self.clock, self.random, **disk_settings)
        self.config = config
        self.start()

    @property
    def files(self) -> Any:
        return self.disk.files

    is_counted_on = True  # as the metadata says, at the next start

    def start(self) -> None:
        self.manager = PartitionManager(
            self.disk, self.clock, worker=SimWorker(self.disk), journal_bytes=self.journal_bytes
        )
        environment = self.manager.environment
        environment.tail_budget.limit_bytes = 2000  # so that reads come from files, too
        environment.open_files.limit = 3
        environment.save_every_bytes = environment.save_at_stop_bytes = self.save_bytes
        self.manager.open()
        self.partition: Partition = self.manager.create(
            TOPIC, TOPIC_ID, 0, self.config, is_counted_on=self.is_counted_on
        )

    def crash(self) -> None:
        self.files.before = None
        self.disk.crash()
        self.start()

    def kill(self) -> None:
        """The process dies, the machine does not: the page cache survives."""
        self.files.before = None
        self.clock.forget_all()
        self.start()

    def stop(self) -> None:
        self.call(self.manager.close)

    def cut_power_after(self, operations: int) -> None:
        def before(operation: str, path: str) -> None:
            nonlocal operations
            del path
            if operation in ("read", "list"):
                return
            operations -= 1
            if operations < 0:
                raise PowerCut

        self.files.before = before

    def fail_next(self, wanted: str, error: OSError) -> None:
        def before(operation: str, path: str) -> None:
            if operation == wanted and path.endswith(".log"):
                self.files.before = None
                raise error

        self.files.before = before

    def call(self, function: Callable[..., None], *arguments: Any, **named: Any) -> Any:
        """Call something that ends with `done(result)`, and let time pass until it does."""
        results: list[Any] = []
        function(*arguments, **named, done=results.append) if named else function(*arguments, results.append)
        self.clock.run_until(lambda: bool(results))
        return results[0]

    def append(self, batch: bytes, acks: int = -1, *, guard: int = NO_GUARD) -> tuple[Any, Ack]:
        ack = Ack()
        appended = self.partition.append(memoryview(bytearray(batch)), acks=acks, done=ack, guard=guard)
        return appended, ack

    def append_transactional(self, batch: bytes, *, adds: bool = True) -> tuple[Any, Ack]:
        """The coordinator agrees at once."""
        ack = Ack()
        return append_verified(self.partition, batch, done=ack, adds=adds), ack

    def end_transaction(
        self, producer_id: int, epoch: int, *, committed: bool, coordinator_epoch: int = 0, transaction_version: int = 2
    ) -> tuple[Any, Ack]:
        """Write the marker; `epoch` is the marker's."""
        ack = Ack()
        batch = encode_end_transaction_marker(
            committed=committed,
            coordinator_epoch=coordinator_epoch,
            producer_id=producer_id,
            producer_epoch=epoch,
            timestamp_ms=self.clock.time_ms(),
        )
        appended = self.partition.append(
            memoryview(bytearray(batch)),
            acks=-1,
            done=ack,
            origin=Origin.COORDINATOR,
            transaction_version=transaction_version,
        )
        return appended, ack

    def settle(self) -> None:
        log = self.partition.log
        self.clock.run_until(lambda: self.partition.error is not None or log.idle)

    def read(
        self, offset: int, max_bytes: int = 1 << 20, isolation: Isolation = Isolation.LOG_END, minimum_one: bool = True
    ) -> ReadResult:
        results: list[ReadResult | ApiError] = []
        result = self.partition.read(
            offset, max_bytes, isolation=isolation, minimum_one_batch=minimum_one, done=results.append
        )
        if result is None:
            self.clock.run_until(lambda: bool(results))
            answer = results[0]
            if isinstance(answer, ApiError):
                raise answer
            return answer
        return result

    def read_all(self) -> list[bytes]:
        """Every batch that the log holds, from its start to its end."""
        batches: list[bytes] = []
        offset = self.partition.log_start_offset
        while offset < self.partition.log_end_offset:
            data = b"".join(self.read(offset).buffers)
            if not data:
                break
            for position, header in iterate_headers(data):
                batches.append(data[position : position + header.size_bytes])
                offset = header.next_offset
        return batches

    @property
    def is_offline(self) -> bool:
        return self.partition.state is State.OFFLINE

    def find(self, timestamp: int) -> TimestampOffset:
        answer = self.call(self.partition.offset_for_timestamp, timestamp, isolation=Isolation.LOG_END)
        if isinstance(answer, ApiError):
            raise answer
        assert isinstance(answer, TimestampOffset)
        return answer

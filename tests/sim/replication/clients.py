"""Producers that retry until they are answered, one batch at a time."""

from random import Random
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.partition import Partition
from ottla.partitions.replication.types import NO_LEADER, PartitionId
from ottla.records.header import read_header
from tests.sim.log_harness import make_batch
from tests.sim.replication.checker import Violation
from tests.sim.replication.contents import Held

if TYPE_CHECKING:
    from tests.sim.replication.cluster import Cluster
    from tests.sim.replication.host import Process


class Producer:
    """`acks` 1: what it writes may vanish, and makes logs diverge."""

    def __init__(self, cluster: "Cluster", number: int, key: PartitionId, random: Random) -> None:
        self.cluster, self.number, self.key, self.random = cluster, number, key, random
        self.acks = 1 if random.random() < 0.25 else -1
        self.idempotent = self.acks == -1 and random.random() < 0.6
        self.sequence = self.count = self.acknowledged = 0
        self.attempt = 0
        self.stopped = False
        self.batch = b""
        self.records = 0
        self.first_offset: int | None = None  # where an idempotent batch went at its first attempt

    def start(self) -> None:
        self._next()

    def _next(self) -> None:
        if self.stopped:
            return
        self.count += 1
        self.records = self.random.randrange(1, 4)
        size = self.random.choice([10, 10, 100, 900])
        values = [f"{self.number}:{self.count}:{n}".encode() + b"v" * size for n in range(self.records)]
        fields: dict[str, Any] = {}
        if self.idempotent:
            fields = {"producer_id": 1000 + self.number, "producer_epoch": 0, "base_sequence": self.sequence}
        self.batch = make_batch(values, **fields)
        self._send()

    def _send(self) -> None:
        self.attempt += 1
        attempt = self.attempt
        cluster = self.cluster
        state = cluster.controller.partitions[self.key]
        leader = state.leader if self.random.random() < 0.9 else self.random.choice(state.replicas)
        process = cluster.hosts[leader].process if leader != NO_LEADER else None
        if process is None:
            self._again(attempt, 0.05)
            return
        cluster.world.call_later(3.0 + self.random.random(), self._again, attempt, 0.0)  # request.timeout.ms
        cluster.world.call_later(self._delay_s(), self._arrive, process, attempt)

    def _arrive(self, process: "Process", attempt: int) -> None:
        if process.loop.alive:
            process.loop.call_soon(self._append, process, attempt)

    def _append(self, process: "Process", attempt: int) -> None:
        partition = process.partitions.get(self.key)
        if partition is None:
            return
        answered = _Answer(self, process, partition, attempt)
        try:
            appended = partition.append(memoryview(bytearray(self.batch)), acks=self.acks, done=answered)
        except ApiError as error:
            if partition.leader_epoch == self.cluster.controller.partitions[self.key].leader_epoch:
                self._judge(error.code)  # one that leads without knowing that it does not may miss much
            self._refused(error.code, attempt)
            return
        answered.base_offset = appended.base_offset
        if answered.code is not None:
            answered(answered.code)

    def _judge(self, code: ErrorCode) -> None:
        if code in (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH):
            # One batch at a time, each retried until it is acknowledged: there can be no gap, unless records are gone.
            raise Violation(f"producer {self.number} is refused with {code.name} though it has no gap")

    def _refused(self, code: ErrorCode, attempt: int) -> None:
        self.cluster.world.call_later(self._delay_s(), self._again, attempt, 0.02)

    def answered(self, process: "Process", base_offset: int, code: ErrorCode, attempt: int) -> None:
        if code is not ErrorCode.NONE:
            self._refused(code, attempt)
            return
        if self.acks == -1:
            epoch = self.cluster.checker.contents.epoch_of(process.partitions[self.key], base_offset)
            crc = read_header(self.batch).crc
            self.cluster.checker.acked(process, self.key, Held(base_offset, base_offset + self.records, epoch, crc))
        self.cluster.world.call_later(self._delay_s(), self._done, attempt)

    def _done(self, attempt: int) -> None:
        if attempt != self.attempt:
            return
        self.attempt += 1
        self.acknowledged += 1
        self.sequence += self.records
        self.cluster.world.call_later(self.random.random() * self.random.choice([0.01, 0.1, 0.3]), self._next)

    def _again(self, attempt: int, pause_s: float) -> None:
        if attempt != self.attempt or self.stopped:
            return
        self.attempt += 1
        self.cluster.world.call_later(pause_s, self._send_unless_stopped)

    def _send_unless_stopped(self) -> None:
        if not self.stopped:
            self._send()

    def _delay_s(self) -> float:
        return 0.0002 + self.random.random() * 0.001


class _Answer:
    def __init__(self, producer: Producer, process: "Process", partition: Partition, attempt: int) -> None:
        self.producer, self.process, self.partition, self.attempt = producer, process, partition, attempt
        self.base_offset: int | None = None
        self.code: ErrorCode | None = None

    def __call__(self, code: ErrorCode) -> None:
        if self.base_offset is None:
            self.code = code  # from within `append`
        else:
            self.producer.answered(self.process, self.base_offset, code, self.attempt)

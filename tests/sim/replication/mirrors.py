"""Mirrors of a log in another cluster: two for each partition, so that one is mostly a zombie.

Each believes what it was last told of where the copy ends, and appends what follows there in the source. Whatever is
acknowledged must be the source's batches at the source's offsets, each once.
"""

from random import Random
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.mirroring import append_mirrored, begin_at, check_mirror
from ottla.partitions.partition import Partition
from ottla.partitions.replication.types import NO_LEADER, PartitionId
from ottla.records.header import patch_base_offset, read_header
from tests.sim.log_harness import make_batch
from tests.sim.replication.checker import Violation
from tests.sim.replication.contents import Held

if TYPE_CHECKING:
    from tests.sim.replication.cluster import Cluster
    from tests.sim.replication.host import Process

SOURCE = "cluster/topic/t"
_SOURCE_EPOCH = 77  # nothing of it may be left in the copy


class Source:
    """The log that is mirrored: it begins at `start` and never ends."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.start = self.end = random.choice([0, 0, 7, 5_000_000_000])
        self.batches: dict[int, bytes] = {}  # by base offset

    def following(self, offset: int, count: int) -> list[bytes]:
        """The next batches from this offset on. Raises Violation when none begins there."""
        found: list[bytes] = []
        while len(found) < count:
            while offset >= self.end:
                self._grow()
            batch = self.batches.get(offset)
            if batch is None:
                raise Violation(f"the copy ends at {offset}, in the middle of a batch of the source")
            found.append(batch)
            offset = read_header(batch).next_offset
        return found

    def _grow(self) -> None:
        records, size = self.random.randrange(1, 4), self.random.choice([10, 100, 900])
        fields: dict[str, Any] = {"producer_id": 9, "producer_epoch": 0, "base_sequence": self.end % 1000}
        values = [b"%d:%d" % (self.end, n) + b"v" * size for n in range(records)]
        batch = bytearray(make_batch(values, **fields if self.random.random() < 0.5 else {}))
        patch_base_offset(batch, 0, self.end, _SOURCE_EPOCH)
        self.batches[self.end] = bytes(batch)
        self.end += records


class Mirror:
    """One mirror process's task for one partition; the interface is that of `clients.Producer`."""

    def __init__(self, cluster: "Cluster", key: PartitionId, source: Source, random: Random) -> None:
        self.cluster, self.key, self.source, self.random = cluster, key, source, random
        self.count = self.acknowledged = self.attempt = 0
        self.stopped = False
        self.end: int | None = None  # where it believes that the copy ends

    def start(self) -> None:
        self._next()

    def _next(self) -> None:
        if self.stopped:
            return
        self.attempt += 1
        attempt, cluster = self.attempt, self.cluster
        state = cluster.controller.partitions[self.key]
        leader = state.leader if self.random.random() < 0.9 else self.random.choice(state.replicas)
        process = cluster.hosts[leader].process if leader != NO_LEADER else None
        if process is None:
            self._again(attempt)
            return
        cluster.world.call_later(3.0 + self.random.random(), self._again, attempt)
        cluster.world.call_later(self._delay_s(), self._arrive, process, attempt)

    def _arrive(self, process: "Process", attempt: int) -> None:
        if process.loop.alive:
            process.loop.call_soon(self._ask, process, attempt)

    def _ask(self, process: "Process", attempt: int) -> None:
        partition = process.partitions.get(self.key)
        if partition is None or attempt != self.attempt:
            return
        try:
            check_mirror(partition, SOURCE)
            if self.end is None:
                self.end = partition.log_end_offset
                self._again(attempt)  # what it was told may be old when it is used
                return
            self._append(process, partition, self.end, attempt)
        except ApiError as error:
            if error.code in (ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD, ErrorCode.INVALID_REQUEST):
                raise Violation(f"what follows in the source is refused: {error}") from error
            self.end = None
            self._again(attempt)

    def _append(self, process: "Process", partition: Partition, end: int, attempt: int) -> None:
        self.count += 1
        if end < self.source.start:
            self.cluster.checker.began(self.key, self.source.start)
            begin_at(partition, self.source.start, expected_end_offset=end, done=lambda _: self._lost_track(attempt))
            return
        batches = self.source.following(end, self.random.randrange(1, 4))
        headers = [read_header(batch) for batch in batches]

        def done(code: ErrorCode) -> None:
            if code is not ErrorCode.NONE:
                self._lost_track(attempt)
                return
            for header in headers:
                epoch = self.cluster.checker.contents.epoch_of(partition, header.base_offset)
                held = Held(header.base_offset, header.next_offset, epoch, header.crc)
                self.cluster.checker.acked(process, self.key, held)
            if attempt == self.attempt:
                self.acknowledged += 1
                self.end = headers[-1].next_offset
                self._again(attempt)

        append_mirrored(partition, memoryview(bytearray(b"".join(batches))), expected_end_offset=end, done=done)

    def _lost_track(self, attempt: int) -> None:
        if attempt == self.attempt:
            self.end = None
            self._again(attempt)

    def _again(self, attempt: int) -> None:
        if attempt == self.attempt and not self.stopped:
            self.attempt += 1
            self.cluster.world.call_later(self.random.random() * self.random.choice([0.01, 0.05, 0.3]), self._next)

    def _delay_s(self) -> float:
        return 0.0002 + self.random.random() * 0.001


def check_copies(cluster: "Cluster", sources: dict[PartitionId, Source]) -> None:
    """In the end each replica holds the source's batches, one after the other, and no others."""
    for host in cluster.hosts.values():
        assert host.process is not None
        for key, partition in host.process.partitions.items():
            source, due = sources[key], None
            for held in cluster.checker.contents.of(partition).batches:
                original = source.batches.get(held.base_offset)
                if original is None or read_header(original).crc != held.crc or held.epoch == _SOURCE_EPOCH:
                    raise Violation(f"node {host.node} has {held}, which is not what the source has there")
                if due is not None and held.base_offset != due:
                    raise Violation(f"node {host.node} has {held} where {due} was due")
                due = held.next_offset

"""Transactions on two replicas of a partition, against a dumb reference: what a read_committed reader gets.

A history is drawn from a seed: producers of both transaction versions that begin, commit, abort and repeat what they
sent; a high watermark that lags behind; kills, power cuts, clean stops; compaction, deleted records; changes of the
leader, after which the old one is cut; replicas that lose their disk and copy what is left. After every step both are
read as a consumer would.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.config import LogConfig
from ottla.partitions.replication.anew import start_anew
from ottla.partitions.results import Isolation, State
from ottla.records.aborted import AbortedFilter
from ottla.records.batch import decode_records
from ottla.records.header import iterate_headers, read_header
from ottla.testing.sim.files import PowerCut
from tests.sim.log_harness import Node, make_batch

CONFIG = LogConfig(segment_bytes=1500, index_interval_bytes=200, retention_ms=-1)
COMPACTED = LogConfig(
    segment_bytes=600,
    index_interval_bytes=200,
    retention_ms=-1,
    cleanup_compact=True,
    cleanup_delete=False,
    min_cleanable_dirty_ratio=0.01,
    delete_retention_ms=10_000,
)


class Role:
    """Other replicas, as the leader's partition sees them; the history moves the high watermark itself."""

    has_enough_replicas = True
    latest_is_known = True
    others_have_all = True

    def appended(self) -> None: ...
    def begun_anew(self, offset: int) -> None: ...
    def synced(self, end_offset: int) -> None: ...
    def failed(self) -> None: ...


class Replica(Node):
    """A node whose partition is one of several replicas."""

    saved_high_watermark = 0

    def start(self) -> None:
        super().start()
        self.partition.start_replicated(self.saved_high_watermark)
        self.partition.become_follower(0, Role())

    @property
    def end(self) -> int:
        return self.partition.log_end_offset


@dataclass(slots=True)
class Entry:
    """A batch in the reference's log."""

    base_offset: int
    next_offset: int
    producer_id: int = -1
    is_transactional: bool = False
    committed: bool | None = None  # of a marker; None: data
    records: list[tuple[bytes, bytes | None]] = field(default_factory=list)


@dataclass(slots=True)
class Producer:
    """A client, with what it knows."""

    producer_id: int
    version: int
    epoch: int = 0
    sequence: int = 0
    is_open: bool = False
    sent: list[tuple[bytes, int]] = field(default_factory=list)  # of this epoch: batch, base offset


class Reference:
    """Every batch since the beginning; nothing is ever compacted or forgotten here."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def cut(self, offset: int) -> None:
        self.entries = [entry for entry in self.entries if entry.next_offset <= offset]

    def outcomes(self) -> list[tuple[int, int | None, bool, int]]:
        """(first offset, offset of the marker, committed, producer id) of every transaction."""
        open_since: dict[int, int] = {}
        found: list[tuple[int, int | None, bool, int]] = []
        for entry in self.entries:
            if entry.committed is not None:
                first = open_since.pop(entry.producer_id, None)
                if first is not None:
                    found.append((first, entry.base_offset, entry.committed, entry.producer_id))
            elif entry.is_transactional:
                open_since.setdefault(entry.producer_id, entry.base_offset)
        return found + [(first, None, False, producer_id) for producer_id, first in open_since.items()]

    def last_stable_offsets(self, high_watermark: int, committed_end: int, log_start: int) -> tuple[int, int]:
        """Between these it may be.

        Whether records that are deleted began a transaction, not every replica knows. And one that has forgotten how
        far its high watermark was may know that a marker was below it: below `committed_end` none is lost.
        """
        outcomes = self.outcomes()
        low = [first for first, marker, _, _ in outcomes if marker is None or marker >= high_watermark]
        unstable = [
            (first, producer_id, marker)
            for first, marker, _, producer_id in outcomes
            if marker is None or marker >= committed_end
        ]
        left = [
            entry.base_offset
            for first, producer_id, marker in unstable
            for entry in self.entries
            if entry.producer_id == producer_id and entry.committed is None and entry.next_offset > log_start
            if entry.base_offset >= first and (marker is None or entry.base_offset < marker)
        ]
        return max(log_start, min([high_watermark, *low])), max(log_start, min([high_watermark, *left]))

    def visible(self, end: int, log_start: int) -> list[tuple[int, bytes, bytes | None]]:
        """(offset, key, value) of what a read_committed reader may see up to a last stable offset."""
        outcomes = self.outcomes()
        seen = []
        for entry in self.entries:
            if entry.committed is not None:
                continue
            if entry.is_transactional and not any(
                producer_id == entry.producer_id and committed and first <= entry.base_offset < (marker or 0)
                for first, marker, committed, producer_id in outcomes
            ):
                continue
            for offset, (key, value) in enumerate(entry.records, entry.base_offset):
                if log_start <= offset < end:
                    seen.append((offset, key, value))
        return seen


def read_as_consumer(node: Node, random: Random) -> list[tuple[int, bytes, bytes | None]]:
    """All that a read_committed reader gets, in fetches of random sizes, filtered as clients do."""
    partition, seen = node.partition, []
    offset = partition.log_start_offset
    while offset < partition.last_stable_offset:
        result = node.read(offset, random.choice((1, 300, 1000, 1 << 20)), Isolation.READ_COMMITTED)
        data = b"".join(bytes(part) for part in result.buffers)
        if not data:
            break
        leave_out = AbortedFilter(result.aborted)
        for position, header in iterate_headers(data):
            records = decode_records(data[position : position + header.size_bytes])
            if not leave_out(header, records):
                seen += [(record.offset, record.key, record.value) for record in records if record.offset >= offset]
            following = header.next_offset
        offset = following
    return seen  # type: ignore[return-value]


class History:
    """One seed's."""

    def __init__(self, seed: int, *, compacted: bool) -> None:
        self.random = Random(seed)
        self.compacted = compacted
        self.config = COMPACTED if compacted else CONFIG
        self.save_bytes = self.random.choice((400, 1500, 1 << 20))
        self.leader, self.follower = self.new_replica(), self.new_replica()
        self.epoch = 0
        self.reference = Reference()
        self.count = 0
        self.producers = [Producer(100 + n, 1 + n % 2) for n in range(4)]
        self.pending_aborts: list[Producer] = []
        self.committed_end = self.cleaned_to = 0
        self.lead()

    def new_replica(self) -> Replica:
        journal_bytes = self.random.choice((0, 8192))
        return Replica(
            self.random.randrange(1 << 30), self.config, journal_bytes=journal_bytes, save_bytes=self.save_bytes
        )

    def lead(self) -> None:
        self.epoch += 1
        self.leader.partition.become_leader(self.epoch, Role())
        self.follower.partition.become_follower(self.epoch, Role())

    # -- what may happen

    def run(self, steps: int) -> None:
        rules: list[Any] = (
            [self.append] * 10 + [self.end] * (10 if self.compacted else 6) + [self.repeat] * 4 + [self.replicate] * 6
        )
        rules += [self.advance] * 8 + [self.pass_time] * 4 + [self.restart] * 2 + [self.change_leader] * 2
        rules += [self.lose_disk, self.delete_records]
        rules += [self.compact] * 4 if self.compacted else []
        for _ in range(steps):
            self.random.choice(rules)()
            self.check()

    def append(self) -> None:
        count = self.random.randint(1, 3)
        records: list[tuple[bytes, bytes | None]] = []
        for _ in range(count):
            self.count += 1
            value = f"value-{self.count}".encode() * self.random.randint(1, 8) if self.random.random() < 0.85 else None
            records.append((f"key-{self.random.randrange(6)}".encode(), value))
        keys, values = [key for key, _ in records], [value for _, value in records]
        producer = self.random.choice([None, *self.producers])
        named: dict[str, Any] = {"keys": keys, "timestamp": self.random.choice((1, self.leader.clock.time_ms()))}
        if producer is None:
            appended, _ = self.leader.append(make_batch(values, **named))  # type: ignore[arg-type]
            entry = Entry(appended.base_offset, appended.last_offset + 1, records=records)
        else:
            named |= {"producer_id": producer.producer_id, "producer_epoch": producer.epoch}
            batch = make_batch(values, base_sequence=producer.sequence, is_transactional=True, **named)  # type: ignore[arg-type]
            appended, _ = self.leader.append_transactional(batch, adds=producer.version == 2)
            producer.is_open = True
            producer.sequence += count
            producer.sent = [*producer.sent, (batch, appended.base_offset)][-5:]
            entry = Entry(appended.base_offset, appended.last_offset + 1, producer.producer_id, True, records=records)
        assert appended.base_offset == self.last_offset(), "nothing but what was appended is in the log"
        self.reference.entries.append(entry)

    def last_offset(self) -> int:
        return self.reference.entries[-1].next_offset if self.reference.entries else 0

    def end(self) -> None:
        producer = self.random.choice(self.producers)
        if not producer.is_open:
            return
        committed = self.random.random() < 0.5
        marker_epoch = producer.epoch + (producer.version == 2)
        appended, _ = self.leader.end_transaction(
            producer.producer_id, marker_epoch, committed=committed, transaction_version=producer.version
        )
        producer.is_open = False
        if producer.version == 2:
            producer.epoch, producer.sequence, producer.sent = marker_epoch, 0, []
        self.reference.entries.append(
            Entry(appended.base_offset, appended.base_offset + 1, producer.producer_id, True, committed)
        )

    def repeat(self) -> None:
        """A retry of one of the last five: the same offsets, and nothing more in the log."""
        producer = self.random.choice(self.producers)
        if not producer.sent:
            return
        batch, base_offset = self.random.choice(producer.sent)
        end = self.leader.end
        appended, ack = self.leader.append_transactional(batch, adds=producer.version == 2)
        assert (appended.base_offset, self.leader.end) == (base_offset, end)
        committed = appended.last_offset < self.leader.partition.high_watermark
        assert (ack.code is ErrorCode.NONE) == committed, "acknowledged with its original"

    def replicate(self) -> None:
        leader, follower = self.leader, self.follower
        self.begin_anew()
        end = leader.end if self.random.random() < 0.5 else self.random.randint(follower.end, leader.end)
        while follower.end < end:
            data = b"".join(
                bytes(part) for part in leader.read(max(follower.end, leader.partition.log_start_offset)).buffers
            )
            batches = [data[position : position + header.size_bytes] for position, header in iterate_headers(data)]
            for batch in batches:
                if read_header(batch).base_offset < end:
                    follower.partition.append_replicated(memoryview(bytearray(batch)))
            end = min(end, follower.end)
        self.tell_follower()

    def tell_follower(self) -> None:
        follower, leader = self.follower.partition, self.leader.partition
        known = min(leader.high_watermark, follower.log_end_offset)
        if known > follower.high_watermark:
            follower.advance(known)
        if leader.log_start_offset > follower.log_start_offset:
            follower.move_log_start(min(leader.log_start_offset, follower.high_watermark))

    def advance(self) -> None:
        """What both have durably may count as committed."""
        self.leader.settle()
        self.follower.settle()
        partition = self.leader.partition
        limit = min(partition.log.durable_end_offset, self.follower.partition.log.durable_end_offset)
        ends = [e.next_offset for e in self.reference.entries if partition.high_watermark < e.next_offset <= limit]
        if ends:
            partition.advance(self.random.choice(ends))
            self.committed_end = max(self.committed_end, partition.high_watermark)

    def pass_time(self) -> None:
        duration_ms = self.random.choice((10, 1500, 1500, 12_000))
        for node in (self.leader, self.follower):
            node.clock.run_for(duration_ms)

    def restart(self) -> None:
        """Either replica; whichever it is may have forgotten how far the high watermark was."""
        node = self.random.choice((self.leader, self.follower))
        partition = node.partition
        durable, high_watermark = partition.log.durable_end_offset, partition.high_watermark
        earlier = [entry.next_offset for entry in self.reference.entries if entry.next_offset <= high_watermark]
        node.saved_high_watermark = self.random.choice([high_watermark, *earlier[-4:]])
        kind = self.random.choice(("stop", "kill", "crash"))
        if kind == "crash":
            node.cut_power_after(self.random.randint(0, 20))
            with suppress(PowerCut):
                node.clock.run_for(20)
            node.crash()
        else:
            if kind == "stop":
                node.stop()
                durable = partition.log_end_offset
            node.kill()
        assert node.partition.state is State.ONLINE, node.partition.error
        assert node.end >= durable, f"{kind}: {durable} were durable, {node.end} are left"
        if node is self.leader:
            self.rewound(node.end)
            if self.follower.end > node.end:
                self.follower.settle()
                assert self.follower.call(self.follower.partition.truncate, node.end) is None
            self.lead()
        else:
            node.partition.become_follower(self.epoch, Role())

    def rewound(self, offset: int) -> None:
        """What was above is gone: producers go on as if it had never been acknowledged, which it was not."""
        if self.last_offset() <= offset:
            return
        self.reference.cut(offset)
        open_ids = {producer_id for _, marker, _, producer_id in self.reference.outcomes() if marker is None}
        for producer in self.producers:
            # A transaction that lost its beginning or its marker is aborted by the coordinator, in a new epoch.
            marker_epoch = producer.epoch + 1
            producer.is_open = producer.producer_id in open_ids
            producer.epoch, producer.sequence, producer.sent = marker_epoch, 0, []
            if producer.is_open:
                producer.epoch -= 1  # `end` writes the marker of the epoch after
                self.pending_aborts.append(producer)

    def write_pending_aborts(self) -> None:
        for producer in self.pending_aborts:
            appended, _ = self.leader.end_transaction(
                producer.producer_id, producer.epoch + 1, committed=False, transaction_version=2
            )
            producer.is_open = False
            producer.epoch, producer.sequence, producer.sent = producer.epoch + 1, 0, []
            self.reference.entries.append(
                Entry(appended.base_offset, appended.base_offset + 1, producer.producer_id, True, False)
            )
        self.pending_aborts.clear()

    def change_leader(self) -> None:
        """To the follower, which has all that is committed; the old leader is cut where they differ."""
        if self.follower.partition.log.durable_end_offset < self.committed_end:
            return
        old, new = self.leader, self.follower
        old.settle()
        new.settle()
        self.leader, self.follower = new, old
        self.rewound(new.end)
        self.lead()
        if old.end > new.end:
            assert old.call(old.partition.truncate, new.end) is None
        self.write_pending_aborts()

    def lose_disk(self) -> None:
        """The follower begins anew with what the leader still has."""
        self.follower = self.new_replica()
        self.follower.partition.become_follower(self.epoch, Role())
        self.replicate()

    def begin_anew(self) -> None:
        """What a follower does whose log ends before the leader's first batch."""
        self.leader.settle()
        batches, partition = self.leader.read_all(), self.follower.partition
        first = read_header(batches[0]).base_offset if batches else self.leader.end
        if first > self.follower.end:
            results: list[Exception | None] = []
            start_anew(partition, first, results.append)
            self.follower.clock.run_until(lambda: bool(results))

    def delete_records(self) -> None:
        partition = self.leader.partition
        if self.compacted or self.random.random() < 0.7:
            return
        offset = self.random.randint(partition.log_start_offset, partition.high_watermark)
        answer = self.leader.call(partition.delete_records, offset)
        assert not isinstance(answer, ApiError)
        self.leader.clock.run_for(2500)

    def compact(self) -> None:
        duration_ms = self.random.choice((2500, 12_000))
        for node in (self.leader, self.follower):
            node.clock.run_for(duration_ms)
            node.manager.compact()
            partition = node.partition
            node.clock.run_until(lambda partition=partition: not partition.compacting)  # type: ignore[misc]
            assert partition.state is State.ONLINE, partition.error
            self.cleaned_to = max(self.cleaned_to, partition.cleaned_to)

    # -- what must be

    def check(self) -> None:
        self.write_pending_aborts()
        for name, node in (("leader", self.leader), ("follower", self.follower)):
            partition = node.partition
            high_watermark, log_start = partition.high_watermark, partition.log_start_offset
            low, high = self.reference.last_stable_offsets(high_watermark, self.committed_end, log_start)
            stable = partition.last_stable_offset
            assert low <= stable <= high, f"{name}: {stable} is not in {low}-{high}, high watermark {high_watermark}"
            wanted, seen = self.reference.visible(stable, log_start), read_as_consumer(node, self.random)
            if not self.compacted:
                assert seen == wanted, name
                continue
            assert set(seen) <= set(wanted), name
            if stable >= self.cleaned_to:  # else what is seen may have given way to what is not seen yet
                assert latest(seen) == latest(wanted), name


def latest(records: list[tuple[int, bytes, bytes | None]]) -> dict[bytes, bytes]:
    last = {key: value for _, key, value in records}
    return {key: value for key, value in last.items() if value is not None}

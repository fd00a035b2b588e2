"""Three nodes in memory that lead one after another: they hang, are replaced, and answer late, twice or never.

One partition, with the rules of a broker and no cleverness: what a producer may append is found by reading the whole
log anew each time. A leader knows the producer's last five batches. What is committed stays; what is not may go when
another leads.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import ProduceRequest, ProduceResult
from ottla.client.types import (
    PartitionDescription,
    TopicDescription,
    TopicPartition,
)
from ottla.records.batch import decode_records
from ottla.records.header import BatchHeader, read_header
from tests.unit.client.fake_cluster import FakeCluster, failed

T0 = TopicPartition("t", 0)
BATCHES_REMEMBERED = 5
Answer = asyncio.Future[dict[TopicPartition, ProduceResult]]


class PartitionLog:
    """A log, and what its leader would say of one more batch."""

    def __init__(self, batches: list[bytes]) -> None:
        self.batches = batches

    def values(self) -> list[int]:
        return [int(record.value or b"") for batch in self.batches for record in decode_records(batch)]

    def offset_of(self, index: int) -> int:
        return sum(read_header(batch).record_count for batch in self.batches[:index])

    def append(self, batch: bytes) -> int | ErrorCode:
        """The index of the batch, which may be there already."""
        header = read_header(batch)
        known = [
            (index, other)
            for index, other in enumerate(map(read_header, self.batches))
            if other.producer_id == header.producer_id
        ]
        if known:
            code = self._judge(header, known)
            if code is not None:
                return code
        self.batches.append(batch)
        return len(self.batches) - 1

    @staticmethod
    def _judge(header: BatchHeader, known: list[tuple[int, BatchHeader]]) -> int | ErrorCode | None:
        last = known[-1][1]
        if header.producer_epoch < last.producer_epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if header.producer_epoch > last.producer_epoch:
            return None if header.base_sequence == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        of_epoch = [(index, other) for index, other in known if other.producer_epoch == header.producer_epoch]
        for index, other in of_epoch[-BATCHES_REMEMBERED:]:
            if (other.base_sequence, other.record_count) == (header.base_sequence, header.record_count):
                return index
        follows = header.base_sequence == last.base_sequence + last.record_count
        return None if follows else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


class Pending(NamedTuple):
    """A request at a node."""

    request: ProduceRequest
    answer: Answer


class Node:
    """What came to it, and whether it does anything."""

    def __init__(self) -> None:
        self.hangs = False
        self.is_mute = False  # it works, and its answers do not arrive
        self.queue: list[Pending] = []
        self.unanswered: list[Pending] = []  # of the open connection
        self.believes: PartitionLog | None = None  # it was replaced and does not know it yet: its own copy


class FakeLeaders(FakeCluster):
    """`log` is the current leader's; requests take `delay_s` each, and commits as long again."""

    def __init__(self, random: Random | None = None) -> None:
        super().__init__(t=1)
        self.leader = self.told = 1  # who leads, and who is said to
        self.nodes = {1: Node(), 2: Node(), 3: Node()}
        self.partition = PartitionLog([])
        self.committed = 0  # batches
        self.refusals: list[ErrorCode] = []  # for the next batches, in order
        self.term = 0
        self.random = random
        self.asked = 0  # how often who leads
        self._waiting: list[tuple[int, Pending]] = []  # for a commit: the index of the batch

    # -- faults

    def elect(self, node_id: int, *, keep: int | None = None, unaware: bool = False) -> None:
        """Another leader; the log is cut to `keep` batches, not below what is committed."""
        old, waiting = self.nodes[self.leader], self._waiting
        if unaware and node_id != self.leader:
            old.believes = PartitionLog(list(self.partition.batches))
        self.leader, self._waiting, self.term = node_id, [], self.term + 1
        self.nodes[node_id].believes = None
        if keep is not None:
            del self.partition.batches[max(keep, self.committed) :]
        self._after(self._commit, len(self.partition.batches), self.term)
        if not unaware:
            for _, pending in waiting:
                self._answer(old, pending, failed(ErrorCode.NOT_LEADER_OR_FOLLOWER))

    def tell(self) -> None:
        """Metadata are right again."""
        self.told = self.leader

    def release(self, node_id: int) -> None:
        """It does now what it did not while it hung; answers that were withheld stay lost."""
        node = self.nodes[node_id]
        node.hangs = node.is_mute = False
        node.believes = None
        self._after(self._work, node_id)

    def break_connection(self, node_id: int) -> None:
        """What has no answer fails. The node may do it yet, after what comes by the next connection, or before."""
        node = self.nodes[node_id]
        unanswered, node.unanswered = node.unanswered, []
        for pending in unanswered:
            if not pending.answer.done():
                pending.answer.set_exception(ClientError(ErrorCode.NETWORK_EXCEPTION, "connection reset"))

    # -- the transport

    async def describe_topics(
        self, names: object, *, allow_auto_create: bool
    ) -> tuple[list[TopicDescription], dict[str, ClientError]]:
        self.asked += 1
        partition = PartitionDescription(
            partition=0, leader_id=self.told, leader_epoch=0, replica_ids=(1, 2, 3), in_sync_replica_ids=(1, 2, 3)
        )
        return [TopicDescription(name="t", topic_id="", internal=False, partitions=(partition,))], {}

    def produce(self, node_id: int, request: ProduceRequest) -> Answer:
        loop = asyncio.get_running_loop()
        pending = Pending(request, loop.create_future())
        self.requests.append(request)
        node = self.nodes[node_id]
        node.queue.append(pending)
        node.unanswered.append(pending)
        loop.call_later(request.timeout_ms / 1000, self._on_deadline, node_id, pending)
        self._after(self._work, node_id)
        return pending.answer

    def _on_deadline(self, node_id: int, pending: Pending) -> None:
        if not pending.answer.done():
            self.break_connection(node_id)

    # -- a node

    def _after(self, call: Callable[..., object], *arguments: object) -> None:
        delay_s = 0.0 if self.random is None else self.random.choice([0.0, 0.001, 0.01])
        asyncio.get_running_loop().call_later(delay_s, call, *arguments)

    def _work(self, node_id: int) -> None:
        node = self.nodes[node_id]
        while node.queue and not node.hangs:
            self._do(node_id, node, node.queue.pop(0))

    def _do(self, node_id: int, node: Node, pending: Pending) -> None:
        ((_, batch),) = pending.request.batches
        if self.refusals:
            self._answer(node, pending, failed(self.refusals.pop(0)))
        elif node_id != self.leader and node.believes is None:
            self._answer(node, pending, failed(ErrorCode.NOT_LEADER_OR_FOLLOWER))
        else:
            log = self.partition if node_id == self.leader else node.believes
            assert log is not None
            index = log.append(bytes(batch))
            if isinstance(index, ErrorCode):
                self._answer(node, pending, failed(index))
            elif node_id == self.leader:
                self._waiting.append((index, pending))
                self._after(self._commit, len(log.batches), self.term)

    def _commit(self, count: int, term: int) -> None:
        if term != self.term:
            return
        self.committed = max(self.committed, count)
        done = [(index, pending) for index, pending in self._waiting if index < self.committed]
        self._waiting = [(index, pending) for index, pending in self._waiting if index >= self.committed]
        for index, pending in done:
            self._answer(self.nodes[self.leader], pending, ProduceResult(None, self.partition.offset_of(index), -1))

    def _answer(self, node: Node, pending: Pending, result: ProduceResult) -> None:
        if pending in node.unanswered and not node.is_mute:
            node.unanswered.remove(pending)
            if not pending.answer.done():
                pending.answer.set_result({T0: result})

"""A transactional producer, as a client library would have it: transactions of version 2 (KIP-890), with retries.

    none ── InitProducerId ──▶ ready ── Produce, TxnOffsetCommit ──▶ in a transaction ── EndTxn ──▶ ready, epoch + 1

Or in the flow of older clients (KIP-98), which add what they write to, and keep epoch and sequences from one to the
next: only after a transaction that they gave up do they ask for another epoch (KIP-360).

    ready ── AddPartitionsToTxn, AddOffsetsToTxn ──▶ in a transaction ── Produce, TxnOffsetCommit, EndTxn ──▶ ready

What cannot be repeated ends the transaction (`Abortable`) or the producer (`Fenced`).
"""

import asyncio
from typing import Any, Final

from ottla.broker.produce import ProducedTopics, ProduceRequest
from ottla.controller.image import NO_LEADER
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.add_offsets_to_txn_request import AddOffsetsToTxnRequest
from ottla.protocol.messages.add_partitions_to_txn_request import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from ottla.protocol.messages.add_partitions_to_txn_response import AddPartitionsToTxnResponse
from ottla.protocol.messages.end_txn_request import EndTxnRequest
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.txn_offset_commit_request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.protocol.messages.txn_offset_commit_response import TxnOffsetCommitResponse
from tests.sim.cluster.calls import Reply, Unanswered, Unreached
from tests.sim.cluster.host import Process
from tests.sim.cluster.transactions.history import Attempt, Partition
from tests.sim.cluster.transactions.line import GROUP, RETRIABLE, TRANSACTION, WITHIN_S, Line
from tests.sim.cluster.transactions.member import Member
from tests.sim.log_harness import make_batch

TIMEOUT_MS: Final = 2500
OLDER: Final = {
    ApiKey.ADD_PARTITIONS_TO_TXN: 3,
    ApiKey.ADD_OFFSETS_TO_TXN: 3,
    ApiKey.TXN_OFFSET_COMMIT: 4,
    ApiKey.END_TXN: 4,
}
"""The newest versions of their flow."""

PATIENCE_S: Final = 6.0
"""For one request with all its repetitions."""

FENCED: Final = frozenset(
    {
        ErrorCode.PRODUCER_FENCED,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.INVALID_PRODUCER_ID_MAPPING,
        ErrorCode.UNKNOWN_PRODUCER_ID,
    }
)


class Fenced(Exception):
    """Another producer has taken the place of this one."""


class Abortable(Exception):
    """The transaction can only be aborted."""


class TransactionalProducer:
    """`producer_id`, `epoch`: as the coordinator said last; `sequences`: of each partition in this epoch."""

    def __init__(self, line: Line, transactional_id: str, *, is_older: bool) -> None:
        self.line, self.transactional_id, self.is_older = line, transactional_id, is_older
        self.added: set[Partition | str] = set()  # partitions and groups, to the transaction of an older client
        self.producer_id, self.epoch = -1, -1
        self.sequences: dict[Partition, int] = {}
        self._sending: set[asyncio.Task[ErrorCode | None]] = set()

    async def begin(self) -> None:
        """Take the place of whoever had this transactional id. Raises Fenced when somebody else does meanwhile."""
        await self._initialize(-1, -1)

    async def given_up(self) -> None:
        """After a transaction of which it is not known what was written: an older client needs another epoch."""
        if self.is_older:
            await self._initialize(self.producer_id, self.epoch)

    async def _initialize(self, producer_id: int, epoch: int) -> None:
        request = InitProducerIdRequest(
            transactional_id=self.transactional_id,
            transaction_timeout_ms=TIMEOUT_MS,
            producer_id=producer_id,
            producer_epoch=epoch,
        )
        answer = await self._repeat(TRANSACTION, self.transactional_id, ApiKey.INIT_PRODUCER_ID, request)
        if answer is None or answer.error_code:
            raise Fenced(answer and ErrorCode(answer.error_code))
        self._take(answer)

    async def write(self, attempt: Attempt, partition: Partition, values: list[bytes]) -> None:
        """One batch, until it is acknowledged. Raises Fenced and Abortable."""
        await self._add(partition)
        batch = self._batch(attempt, partition, values)
        end_s = self._now_s + PATIENCE_S
        while True:
            code = await self._produce(partition, batch)
            if code == ErrorCode.NONE:
                self.sequences[partition] = self.sequences.get(partition, 0) + len(values)
                return
            if code in FENCED:
                raise Fenced(code)
            if (code is not None and code not in RETRIABLE) or self._now_s > end_s:
                raise Abortable(code)
            await self.line.pause(0.03)

    async def send(self, attempt: Attempt, partition: Partition, values: list[bytes], late_s: float) -> None:
        """One batch, once, which arrives so late; nobody waits for it. Raises Fenced and Abortable."""
        await self._add(partition)
        batch = self._batch(attempt, partition, values)
        task = self.line.calls.loop.create_task(self._produce(partition, batch, late_s))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _batch(self, attempt: Attempt, partition: Partition, values: list[bytes]) -> bytes:
        attempt.sent.setdefault(partition, []).extend(values)
        return make_batch(
            values,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=self.sequences.get(partition, 0),
            is_transactional=True,
        )

    async def _produce(self, partition: Partition, batch: bytes, late_s: float | None = None) -> ErrorCode | None:
        """None: no answer."""
        line = self.line
        topic, index = partition
        known = await line.partition(topic, index)
        if known is None or known[1].leader == NO_LEADER:
            line.forget()
            return None
        topic_id, state = known

        def begin(process: Process, reply: Reply) -> None:
            def done(topics: ProducedTopics) -> None:
                reply(topics[0][1][0].error)

            request = ProduceRequest(
                acks=-1,
                timeout_ms=int(WITHIN_S * 1000),
                topics=[(topic_id, [(index, memoryview(bytearray(batch)))])],
                transactional_id=self.transactional_id,
                adds_partitions=not self.is_older,
            )
            process.broker.produce(request, done)

        try:
            code: ErrorCode = await line.calls.call(
                line.hosts[state.leader - 1],
                begin,
                within_s=WITHIN_S,
                late_s=line.late_s(ApiKey.PRODUCE) if late_s is None else late_s,
            )
        except (Unanswered, Unreached):
            line.reconnect()
            line.forget()
            return None
        if code is not ErrorCode.NONE:
            line.forget()
        return code

    async def commit_offsets(self, member: Member, offsets: dict[int, int]) -> None:
        """They become part of the transaction. Raises Fenced and Abortable."""
        await self._add(member.group)
        request = TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=member.group,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            generation_id=member.generation,
            member_id=member.member_id,
            group_instance_id=None,
            topics=[
                TxnOffsetCommitRequestTopic(
                    name=member.topic,
                    partitions=[
                        TxnOffsetCommitRequestPartition(
                            partition_index=index,
                            committed_offset=offset,
                            committed_leader_epoch=-1,
                            committed_metadata=None,
                        )
                        for index, offset in offsets.items()
                    ],
                )
            ],
        )
        answer = await self._repeat(GROUP, member.group, ApiKey.TXN_OFFSET_COMMIT, request)
        if answer is None:
            raise Abortable("TxnOffsetCommit")
        _check(answer)

    async def end(self, attempt: Attempt, *, commit: bool) -> None:
        """Raises Fenced and Abortable; then only the log knows how it ended."""
        attempt.asked_to_commit |= commit
        request = EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            committed=commit,
        )
        answer = await self._repeat(TRANSACTION, self.transactional_id, ApiKey.END_TXN, request)
        if answer is None or answer.error_code in FENCED:
            raise Fenced("EndTxn", answer and ErrorCode(answer.error_code))
        if answer.error_code:
            raise Abortable("EndTxn", ErrorCode(answer.error_code))
        attempt.told_committed |= commit
        self.added.clear()
        if not self.is_older:
            self._take(answer)

    async def _add(self, what: Partition | str) -> None:
        """A partition, or a group's, as older clients do it. Raises Fenced and Abortable."""
        if not self.is_older or what in self.added:
            return
        request: Any
        if isinstance(what, str):
            api_key = ApiKey.ADD_OFFSETS_TO_TXN
            request = AddOffsetsToTxnRequest(
                transactional_id=self.transactional_id,
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                group_id=what,
            )
        else:
            api_key = ApiKey.ADD_PARTITIONS_TO_TXN
            request = AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=self.transactional_id,
                v3_and_below_producer_id=self.producer_id,
                v3_and_below_producer_epoch=self.epoch,
                v3_and_below_topics=[AddPartitionsToTxnTopic(name=what[0], partitions=[what[1]])],
            )
        answer = await self._repeat(TRANSACTION, self.transactional_id, api_key, request)
        if answer is None:
            raise Abortable(api_key.name)
        _check(answer)
        self.added.add(what)

    # -- inside

    @property
    def _now_s(self) -> float:
        return self.line.checker.setting.world.now_s

    def _take(self, answer: Any) -> None:
        if (answer.producer_id, answer.producer_epoch) != (self.producer_id, self.epoch):
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
            self.sequences = {}

    async def _repeat(self, key_type: int, key: str, api_key: ApiKey, request: Any) -> Any | None:
        """Until there is an answer with another error than one that passes; None when that takes too long."""
        end_s = self._now_s + PATIENCE_S
        version = OLDER.get(api_key) if self.is_older else None
        while self._now_s <= end_s:
            answer = await self.line.ask_coordinator(key_type, key, api_key, request, version=version)
            if answer is not None:
                if not _codes(answer) & RETRIABLE:
                    return answer
                self.line.lost_coordinator(key_type, key)
            await self.line.pause(0.03)
        return None


def _codes(answer: Any) -> set[int]:
    """All that an answer tells."""
    match answer:
        case TxnOffsetCommitResponse():
            return {one.error_code for topic in answer.topics for one in topic.partitions}
        case AddPartitionsToTxnResponse():
            topics = answer.results_by_topic_v3_and_below
            return {one.partition_error_code for topic in topics for one in topic.results_by_partition}
    return {answer.error_code}


def _check(answer: Any) -> None:
    """Raises Fenced and Abortable."""
    codes = _codes(answer) - {ErrorCode.NONE}
    if codes & FENCED:
        raise Fenced(codes)
    if codes:
        raise Abortable(codes)

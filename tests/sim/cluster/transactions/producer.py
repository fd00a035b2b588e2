"""A transactional producer, as a client library would have it: transactions of version 2 (KIP-890), with retries.

    none ── InitProducerId ──▶ ready ── Produce, TxnOffsetCommit ──▶ in a transaction ── EndTxn ──▶ ready, epoch + 1

What cannot be repeated ends the transaction (`Abortable`) or the producer (`Fenced`).
"""

from typing import Any, Final

from ottla.broker.produce import ProducedTopics, ProduceRequest
from ottla.controller.image import NO_LEADER
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.end_txn_request import EndTxnRequest
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.txn_offset_commit_request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from tests.sim.cluster.calls import Reply, Unanswered, Unreached
from tests.sim.cluster.host import Process
from tests.sim.cluster.transactions.history import Attempt, Partition
from tests.sim.cluster.transactions.line import GROUP, RETRIABLE, TRANSACTION, WITHIN_S, Line
from tests.sim.cluster.transactions.member import Member
from tests.sim.log_harness import make_batch

TIMEOUT_MS: Final = 2500
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

    def __init__(self, line: Line, transactional_id: str) -> None:
        self.line, self.transactional_id = line, transactional_id
        self.producer_id, self.epoch = -1, -1
        self.sequences: dict[Partition, int] = {}

    async def begin(self) -> None:
        """Take the place of whoever had this transactional id. Raises Fenced when somebody else does meanwhile."""
        request = InitProducerIdRequest(
            transactional_id=self.transactional_id, transaction_timeout_ms=TIMEOUT_MS, producer_id=-1, producer_epoch=-1
        )
        answer = await self._repeat(TRANSACTION, self.transactional_id, ApiKey.INIT_PRODUCER_ID, request)
        if answer is None or answer.error_code:
            raise Fenced(answer and ErrorCode(answer.error_code))
        self._take(answer)

    async def write(self, attempt: Attempt, partition: Partition, values: list[bytes]) -> None:
        """One batch, until it is acknowledged. Raises Fenced and Abortable."""
        attempt.sent.setdefault(partition, []).extend(values)
        sequence = self.sequences.get(partition, 0)
        batch = make_batch(
            values,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=sequence,
            is_transactional=True,
        )
        end_s = self._now_s + PATIENCE_S
        while True:
            code = await self._produce(partition, batch)
            if code == ErrorCode.NONE:
                self.sequences[partition] = sequence + len(values)
                return
            if code in FENCED:
                raise Fenced(code)
            if (code is not None and code not in RETRIABLE) or self._now_s > end_s:
                raise Abortable(code)
            await self.line.pause(0.03)

    async def _produce(self, partition: Partition, batch: bytes) -> ErrorCode | None:
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
                adds_partitions=True,
            )
            process.broker.produce(request, done)

        try:
            code: ErrorCode = await line.calls.call(
                line.hosts[state.leader - 1], begin, within_s=WITHIN_S, late_s=line.late_s(ApiKey.PRODUCE)
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
        codes = {one.error_code for topic in answer.topics for one in topic.partitions} - {ErrorCode.NONE}
        if codes & FENCED:
            raise Fenced(codes)
        if codes:
            raise Abortable(codes)

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
        self._take(answer)

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
        while self._now_s <= end_s:
            answer = await self.line.ask_coordinator(key_type, key, api_key, request)
            if answer is not None:
                if api_key == ApiKey.TXN_OFFSET_COMMIT:
                    codes = {one.error_code for topic in answer.topics for one in topic.partitions}
                else:
                    codes = {answer.error_code}
                if not codes & RETRIABLE:
                    return answer
                self.line.lost_coordinator(key_type, key)
            await self.line.pause(0.03)
        return None

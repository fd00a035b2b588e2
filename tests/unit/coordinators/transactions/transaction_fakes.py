"""A node with the one partition of `__transaction_state`, producers that call it, and partitions that take markers."""

from collections.abc import Callable, Set
from dataclasses import replace
from typing import Any

from ottla.coordinators.runtime.turn import batch_of
from ottla.coordinators.transactions.config import TransactionConfig
from ottla.coordinators.transactions.ports import Caller, EndedTransaction, TopicPartition
from ottla.coordinators.transactions.records import TransactionRecordCodec, transaction_record
from ottla.coordinators.transactions.service import CONSUMER_OFFSETS, TRANSACTION_STATE, TransactionCoordinator
from ottla.coordinators.transactions.shard import TransactionShard
from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import Producer, Transaction, from_value
from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.results import Origin
from ottla.protocol.messages.add_offsets_to_txn_request import AddOffsetsToTxnRequest
from ottla.protocol.messages.add_partitions_to_txn_request import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from ottla.protocol.messages.describe_transactions_request import DescribeTransactionsRequest
from ottla.protocol.messages.end_txn_request import EndTxnRequest
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.list_transactions_request import ListTransactionsRequest
from ottla.records.batch import validate
from ottla.testing.sim.clock import SimClock
from tests.unit.coordinators.coordinator_fakes import Answer, quiet
from tests.unit.coordinators.fake_log import FakeLog

JOBS: TopicPartition = ("jobs", 0)
OTHER_JOBS: TopicPartition = ("jobs", 1)
MINUTE_MS = 60_000
FIRST_ID = 1000


class FakeTopics:
    def __init__(self) -> None:
        self.counts = {TRANSACTION_STATE: 1, CONSUMER_OFFSETS: 3}

    def partition_count(self, name: str) -> int:
        return self.counts.get(name, 0)


class FakeIds:
    """Producer ids 1000, 1001, ...; with `hold` they come when `give` is called."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self.next = FIRST_ID
        self.error: ApiError | None = None
        self.hold = False
        self.waiting: list[Callable[[int | ApiError], None]] = []

    def __call__(self, done: Callable[[int | ApiError], None], /) -> None:
        self.waiting.append(done)
        if not self.hold:
            self._clock.call_soon(self.give)

    def give(self) -> None:
        done = self.waiting.pop(0)
        if self.error is not None:
            done(self.error)
        else:
            self.next += 1
            done(self.next - 1)


class FakeMarkers:
    """Remembers what is sent; unless `hold`, everything is written at once, within `send`."""

    def __init__(self) -> None:
        self.hold = False
        self.sent: list[EndedTransaction] = []
        self.cancelled: list[str] = []
        self.open: dict[
            str, tuple[EndedTransaction, Callable[[list[TopicPartition]], None], Callable[[ApiError], None]]
        ] = {}

    def send(
        self,
        transaction: EndedTransaction,
        written: Callable[[list[TopicPartition]], None],
        failed: Callable[[ApiError], None],
    ) -> None:
        self.sent.append(transaction)
        self.open[transaction.transactional_id] = (transaction, written, failed)
        if not self.hold:
            self.write(transaction.transactional_id)

    def cancel(self, transactional_id: str) -> None:
        self.cancelled.append(transactional_id)
        del self.open[transactional_id]

    def write(self, transactional_id: str = "t", *partitions: TopicPartition) -> None:
        """These partitions, or all, have their marker."""
        transaction, written, _ = self.open[transactional_id]
        if not partitions:
            del self.open[transactional_id]
        written(list(partitions or transaction.partitions))

    def refuse(self, code: ErrorCode, transactional_id: str = "t") -> None:
        self.open.pop(transactional_id)[2](ApiError(code))


class Node:
    """Answers arrive when the clock runs; every call runs it, unless the log does not commit by itself."""

    def __init__(self, *, auto_commit: bool = True, **config: int) -> None:
        self.clock = SimClock()
        self.log = FakeLog(self.clock, auto_commit=auto_commit)
        self.topics = FakeTopics()
        self.ids = FakeIds(self.clock)
        self.markers = FakeMarkers()
        self.grants: list[tuple[int, int, int, Set[TopicPartition]]] = []
        self.config = TransactionConfig(**config)
        self.reports: list[str] = []
        self.epoch = 5
        self.coordinator = self._start()
        self.run()

    def _start(self) -> TransactionCoordinator:
        coordinator = TransactionCoordinator(
            config=self.config,
            clock=self.clock,
            producer_ids=self.ids,
            markers=self.markers,
            grants=lambda *grant: self.grants.append(grant),
            topics=self.topics,
            report=self._report,
        )
        coordinator.lead(0, self.log, self.epoch)
        return coordinator

    def _report(self, event: str, **fields: Any) -> None:
        quiet(event, **fields)
        self.reports.append(event)

    def run(self, duration_ms: float = 0) -> None:
        self.clock.run_for(duration_ms)

    def restart(self, *, committed_only: bool = False, lost_batches: int = 0, auto_commit: bool = True) -> None:
        """A crash of the process, after which this node (or another) leads with what is in the log.

        Unless it commits by itself, the new log has the high watermark of the old one.
        """
        self.clock.forget_all()
        batches = self.log.batches[: len(self.log.batches) - lost_batches]
        log = FakeLog(self.clock, auto_commit=auto_commit)
        for batch in batches:
            if not committed_only or log.log_end_offset < self.log.high_watermark:
                log.batches.append(batch)
                log.log_end_offset += validate(batch).record_count
        log.high_watermark = log.log_end_offset if auto_commit else self.log.high_watermark
        assert log.log_end_offset >= self.log.high_watermark
        self.log = log
        self.epoch += 1
        self.markers.open.clear()
        self.ids.waiting.clear()
        self.coordinator = self._start()
        self.run()

    @property
    def uncommitted_batches(self) -> int:
        """How many may be lost."""
        end, count = self.log.log_end_offset, 0
        for batch in reversed(self.log.batches):
            if end <= self.log.high_watermark:
                break
            end -= validate(batch).record_count
            count += 1
        return count

    # --- what is there

    @property
    def shard(self) -> TransactionShard:
        (shard,) = self.coordinator.runtime.active_shards()
        return shard

    def transaction(self, transactional_id: str = "t") -> Transaction:
        return self.shard.transactions[transactional_id]

    def state(self, transactional_id: str = "t") -> TransactionState:
        return self.transaction(transactional_id).state

    def history(self, transactional_id: str = "t", *, committed_only: bool = False) -> list[Transaction | None]:
        """What the log says of an id, in order; None is a tombstone."""
        codec = TransactionRecordCodec()
        found: list[Transaction | None] = []
        for record in self.log.records():
            if committed_only and record.offset >= self.log.high_watermark:
                break
            assert record.key is not None
            decoded = codec.decode(record.key, record.value)
            assert decoded is not None
            if decoded.key.transactional_id == transactional_id:
                found.append(None if decoded.value is None else from_value(decoded.value))
        return found

    def states(self, transactional_id: str = "t") -> list[TransactionState]:
        return [TransactionState.DEAD if item is None else item.state for item in self.history(transactional_id)]

    # --- calls

    def init(
        self,
        transactional_id: str | None = "t",
        *,
        producer: tuple[int, int] = (-1, -1),
        timeout_ms: int = MINUTE_MS,
        version: int = 5,
        connection: int = 1,
        **other: bool,
    ) -> Answer:
        answer = Answer()
        request = InitProducerIdRequest(
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            producer_id=producer[0],
            producer_epoch=producer[1],
            **other,
        )
        self.coordinator.init_producer_id(request, Caller("client", connection, version), answer)
        self.run()
        return answer

    def producer(self, transactional_id: str = "t", **arguments: Any) -> Producer:
        """A new producer that has its id and epoch."""
        response = self.init(transactional_id, **arguments).take()
        assert response.error_code == ErrorCode.NONE
        return Producer(response.producer_id, response.producer_epoch)

    def add(
        self,
        producer: tuple[int, int],
        *partitions: TopicPartition,
        transactional_id: str = "t",
        version: int = 5,
        verify_only: bool = False,
        connection: int = 1,
    ) -> list[ErrorCode]:
        """The error of each partition."""
        answer = self.adding(
            producer,
            *partitions,
            transactional_id=transactional_id,
            version=version,
            verify_only=verify_only,
            connection=connection,
        )
        codes = self.added(answer.take(), version)
        return [codes[partition] for partition in partitions or (JOBS,)]

    @staticmethod
    def added(response: Any, version: int) -> dict[TopicPartition, ErrorCode]:
        """What AddPartitionsToTxn answers for one transactional id."""
        if version < 4:
            results = response.results_by_topic_v3_and_below
        else:
            (transaction,) = response.results_by_transaction
            results = transaction.topic_results
        return {
            (topic.name, item.partition_index): ErrorCode(item.partition_error_code)
            for topic in results
            for item in topic.results_by_partition
        }

    def adding(
        self,
        producer: tuple[int, int],
        *partitions: TopicPartition,
        transactional_id: str = "t",
        version: int = 5,
        verify_only: bool = False,
        connection: int = 1,
    ) -> Answer:
        topics = [AddPartitionsToTxnTopic(name=topic, partitions=[index]) for topic, index in partitions or (JOBS,)]
        if version < 4:
            request = AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=transactional_id,
                v3_and_below_producer_id=producer[0],
                v3_and_below_producer_epoch=producer[1],
                v3_and_below_topics=topics,
            )
        else:
            transaction = AddPartitionsToTxnTransaction(
                transactional_id=transactional_id,
                producer_id=producer[0],
                producer_epoch=producer[1],
                verify_only=verify_only,
                topics=topics,
            )
            request = AddPartitionsToTxnRequest(transactions=[transaction])
        answer = Answer()
        self.coordinator.add_partitions(request, Caller("client", connection, version), answer)
        self.run()
        return answer

    def add_offsets(
        self, producer: tuple[int, int], group: str = "g", *, version: int = 4, connection: int = 1
    ) -> ErrorCode:
        answer = Answer()
        request = AddOffsetsToTxnRequest(
            transactional_id="t", producer_id=producer[0], producer_epoch=producer[1], group_id=group
        )
        self.coordinator.add_offsets(request, Caller("client", connection, version), answer)
        self.run()
        return answer.code

    def end(
        self,
        producer: tuple[int, int],
        *,
        committed: bool = True,
        transactional_id: str = "t",
        version: int = 5,
        connection: int = 1,
    ) -> Answer:
        answer = Answer()
        request = EndTxnRequest(
            transactional_id=transactional_id,
            producer_id=producer[0],
            producer_epoch=producer[1],
            committed=committed,
        )
        self.coordinator.end_txn(request, Caller("client", connection, version), answer)
        self.run()
        return answer

    def ended(self, producer: tuple[int, int], **arguments: Any) -> Producer:
        """EndTxn that succeeds; as whom the producer goes on."""
        response = self.end(producer, **arguments).take()
        assert response.error_code == ErrorCode.NONE
        return Producer(response.producer_id, response.producer_epoch)

    def describe(self, *transactional_ids: str) -> list[Any]:
        answer = Answer()
        self.coordinator.describe(
            DescribeTransactionsRequest(transactional_ids=list(transactional_ids)), Caller("admin", 1, 0), answer
        )
        self.run()
        states: list[Any] = answer.take().transaction_states
        return states

    def list(self, **filters: Any) -> Any:
        answer = Answer()
        self.coordinator.list_transactions(ListTransactionsRequest(**filters), Caller("admin", 1, 2), answer)
        self.run()
        return answer.take()

    # --- scenes

    def exhaust(self) -> Producer:
        """A producer that has the last epoch."""
        self.producer()
        self.write(replace(self.transaction(), producer_epoch=32_766))
        self.restart()
        return self.transaction().producer

    def write(self, transaction: Transaction) -> None:
        """Into the log, past the coordinator."""
        encoded = [TransactionRecordCodec().encode(transaction_record("t", transaction))]
        batch = memoryview(bytearray(batch_of(encoded, self.clock.time_ms())))
        self.log.append(batch, acks=-1, done=lambda code: None, origin=Origin.COORDINATOR)
        self.run()

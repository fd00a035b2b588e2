"""A transaction coordinator in memory behind the client's port, with faults that a test asks for."""

from collections import deque
from collections.abc import Sequence
from typing import NoReturn

from ottla.client.coordination import (
    GroupMetadata,
    GroupOffsets,
    OffsetAndMetadata,
    Outcomes,
    TransactionalProducer,
)
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import TopicPartition


class FakeTransactions:
    """Implements `ottla.client.coordination.TransactionCalls`."""

    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}
        self.ended: list[tuple[int, bool]] = []  # epoch, whether it was committed
        self.pending: dict[TopicPartition, OffsetAndMetadata] = {}
        self.committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self.groups: list[GroupMetadata] = []
        self.init_faults: deque[ClientError | None] = deque()  # for the next calls, in order
        self.end_faults: deque[ClientError | None] = deque()
        self.offset_faults: deque[ClientError | None] = deque()
        self.lose_answers: deque[bool] = deque()  # of ends

    async def init_producer_id(
        self, node_id: int, transactional_id: str, timeout_ms: int, before: TransactionalProducer | None
    ) -> TransactionalProducer:
        _raise_next(self.init_faults)
        epoch = self.epochs[transactional_id] = self.epochs.get(transactional_id, -1) + 1
        return TransactionalProducer(transactional_id=transactional_id, producer_id=7, producer_epoch=epoch)

    async def commit_offsets(
        self, node_id: int, producer: TransactionalProducer, group: GroupMetadata, offsets: GroupOffsets
    ) -> Outcomes:
        _raise_next(self.offset_faults)
        self.groups.append(group)
        self.pending |= offsets
        return dict.fromkeys(offsets)

    async def end_transaction(
        self, node_id: int, producer: TransactionalProducer, *, commit: bool
    ) -> TransactionalProducer:
        _raise_next(self.end_faults)
        name, epoch = producer.transactional_id, producer.producer_epoch
        repeated = bool(self.ended) and self.ended[-1] == (epoch, commit) and self.epochs[name] == epoch + 1
        if not repeated:
            if epoch != self.epochs[name]:
                raise ClientError(ErrorCode.PRODUCER_FENCED)
            self.ended.append((epoch, commit))
            self.epochs[name] = epoch + 1
            if commit:
                self.committed |= self.pending
            self.pending.clear()
        if self.lose_answers and self.lose_answers.popleft():
            raise ClientError(ErrorCode.NETWORK_EXCEPTION, "the answer got lost")
        return TransactionalProducer(transactional_id=name, producer_id=7, producer_epoch=self.epochs[name])

    async def list_transactions(
        self, node_id: int, *, states: Sequence[str], producer_ids: Sequence[int], longer_than_ms: int
    ) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def describe_transaction(self, node_id: int, transactional_id: str) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def describe_producers(self, node_id: int, partitions: Sequence[TopicPartition]) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def abort_partition(self, node_id: int, partition: TopicPartition, state: object) -> NoReturn:
        raise AssertionError("not asked for in these tests")


def _raise_next(faults: deque[ClientError | None]) -> None:
    fault = faults.popleft() if faults else None
    if fault is not None:
        raise fault

"""Writing on the target: one transactional id, its transactions one after the other, and no retry within one.

Whatever goes wrong, the transaction is given up: `fence` ends it, whichever way it was going, and then the progress
topic says what is committed. So there is one way back for a failed request, a killed process and a zombie alike.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from ottla.client.coordination import CoordinatorType, TransactionalProducer
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import ProduceRequest, ProduceResult
from ottla.client.types import TopicPartition
from ottla.core.types import Buffer
from ottla.mirror.core.plan import restamp
from ottla.mirror.engine.side import Side
from ottla.records.header import read_header

T = TypeVar("T")

_IN_FLIGHT: Final = 5  # what leaders remember of an idempotent producer
_TRANSACTION_TIMEOUT_MS: Final = 30_000
_TIMEOUT_MS: Final = 15_000
_PATIENCE_S: Final = 10.0
# The end of the transaction before is still being written (KIP-890): the first batch of the next is to wait.
_NOT_YET: Final = frozenset({ErrorCode.CONCURRENT_TRANSACTIONS})


class TransactionWriter:
    """Not for use by two at once. Calls raise ClientError; after any, `fence` comes next."""

    def __init__(self, side: Side, transactional_id: str) -> None:
        self._side = side
        self._id = transactional_id
        self._producer: TransactionalProducer | None = None
        self._sequences: dict[TopicPartition, int] = {}
        self._is_open = False

    @property
    def is_fenced(self) -> bool:
        """Whether this is the one that writes under its id, as far as it knows."""
        return self._producer is not None

    def give_up(self) -> None:
        """The transaction failed, or it is not known whether it did."""
        self._producer = None

    async def fence(self) -> None:
        """Become the one that writes under this id: what another one has open is ended, and what it writes refused."""
        self._producer = None
        self._producer = await self._ask(
            lambda node_id: self._side.transport.transactions.init_producer_id(
                node_id, self._id, _TRANSACTION_TIMEOUT_MS, None
            )
        )
        self._sequences.clear()
        self._is_open = False

    async def write(self, partition: TopicPartition, topic_id: str, batches: Sequence[Buffer]) -> list[int]:
        """Write batches in their order; their base offsets on the target."""
        offsets: list[int] = []
        under_way: deque[asyncio.Future[dict[TopicPartition, ProduceResult]]] = deque()
        try:
            for number, batch in enumerate(batches):
                if not self._is_open:
                    offsets.append(await self._first(partition, topic_id, batch))
                    self._is_open = True
                    continue
                if len(under_way) == _IN_FLIGHT:
                    offsets.append(self._base_offset(await under_way.popleft(), partition, number - _IN_FLIGHT))
                under_way.append(self._send(partition, topic_id, self._stamped(partition, batch)))
            while under_way:
                number = len(batches) - len(under_way)
                offsets.append(self._base_offset(await under_way.popleft(), partition, number))
        finally:
            for answer in under_way:
                answer.add_done_callback(_seen)
        return offsets

    async def commit(self) -> None:
        """Commit; when this fails, it is not known whether it is."""
        producer = self._producer
        assert producer is not None
        self._producer = None  # unless it succeeds
        self._producer = await self._ask(
            lambda node_id: self._side.transport.transactions.end_transaction(node_id, producer, commit=True)
        )
        self._sequences.clear()
        self._is_open = False

    async def _ask(self, call: Callable[[int], Awaitable[T]]) -> T:
        try:
            return await self._side.coordinators.ask(CoordinatorType.TRANSACTION, self._id, call, _PATIENCE_S * 1000)
        except ClientError as error:
            raise self._side.explained(error, "Write", self._id) from error

    async def _first(self, partition: TopicPartition, topic_id: str, batch: Buffer) -> int:
        """The first batch of a transaction goes alone, as it may be refused for a moment."""
        stamped = self._stamped(partition, batch)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S
        delay = 0.002
        while True:
            result = (await self._send(partition, topic_id, stamped))[partition]
            if result.error is None or result.error.code not in _NOT_YET or loop.time() > deadline:
                return self._base_offset({partition: result}, partition, 0)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 0.05)

    def _stamped(self, partition: TopicPartition, batch: Buffer) -> bytearray:
        assert self._producer is not None
        sequence = self._sequences.get(partition, 0)
        self._sequences[partition] = sequence + read_header(batch).record_count
        return restamp(batch, self._producer.producer_id, self._producer.producer_epoch, sequence)

    def _send(
        self, partition: TopicPartition, topic_id: str, batch: bytearray
    ) -> "asyncio.Future[dict[TopicPartition, ProduceResult]]":
        node_id, _ = self._side.leader(partition)
        if node_id < 0:
            raise ClientError(ErrorCode.LEADER_NOT_AVAILABLE, "no leader is known", topic=partition.topic)
        request = ProduceRequest(
            -1,
            _TIMEOUT_MS,
            [(partition, batch)],
            transactional_id=self._id,
            topic_ids={partition.topic: topic_id},
        )
        return self._side.transport.produce(node_id, request)

    def _base_offset(self, results: dict[TopicPartition, ProduceResult], partition: TopicPartition, number: int) -> int:
        result = results[partition]
        if result.error is not None:
            raise BatchRefused(self._side.explained(result.error.at(*partition), "Write", self._id), number)
        return result.base_offset


class BatchRefused(ClientError):
    """The target refused a batch of those that were to be written."""

    def __init__(self, cause: ClientError, number: int) -> None:
        super().__init__(cause.code, cause.message, topic=cause.topic, partition=cause.partition)
        self.number = number


def _seen(answer: "asyncio.Future[dict[TopicPartition, ProduceResult]]") -> None:
    if not answer.cancelled():
        answer.exception()

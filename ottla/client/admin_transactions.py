"""The part of the admin client that concerns transactions: what is open, who holds it, and how to end it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence

from ottla.client.coordination import (
    CoordinatorType,
    HangingTransaction,
    ProducerState,
    TransactionDescription,
    TransactionListing,
)
from ottla.client.coordinators import Coordinators
from ottla.client.errors import ClientError, ErrorCode, PartialFailure
from ottla.client.transport import Transport
from ottla.client.types import TopicDescription, TopicPartition

TRANSACTION = CoordinatorType.TRANSACTION
DEFAULT_MAX_AGE_MS = 15 * 60_000  # Kafka's transaction.max.timeout.ms: no transaction may be open for longer


class AdminTransactions(ABC):
    """What `Admin` inherits."""

    _coordinators: Coordinators

    @abstractmethod
    def _usable(self) -> Transport: ...

    @abstractmethod
    async def describe_topics(self, names: Iterable[str] | None = None) -> list[TopicDescription]: ...

    @abstractmethod
    async def _of_every_node(
        self, call: Callable[[int, Transport], Awaitable[list[TransactionListing]]]
    ) -> list[TransactionListing]: ...

    async def list_transactions(
        self, *, states: Sequence[str] = (), producer_ids: Sequence[int] = (), longer_than_ms: int = 0
    ) -> list[TransactionListing]:
        """Every transactional id that the cluster knows. States in Kafka's words: `Ongoing`, `CompleteCommit`, …"""
        listed = await self._of_every_node(
            lambda node_id, transport: transport.transactions.list_transactions(
                node_id, states=states, producer_ids=producer_ids, longer_than_ms=longer_than_ms
            )
        )
        return sorted(listed, key=lambda one: one.transactional_id)

    async def describe_transaction(self, transactional_id: str) -> TransactionDescription:
        """State, producer and partitions; TRANSACTIONAL_ID_NOT_FOUND when there is none."""
        calls = self._usable().transactions
        try:
            return await self._coordinators.ask(
                TRANSACTION, transactional_id, lambda node_id: calls.describe_transaction(node_id, transactional_id)
            )
        except ClientError as error:
            if error.code is not ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
                raise
            raise ClientError(error.code, f"there is no transactional id {transactional_id}") from error

    async def describe_producers(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, list[ProducerState]]:
        """Who has written to these partitions, and where a transaction of theirs is open."""
        wanted = list(partitions)
        leaders = await self._leaders({one.topic for one in wanted})
        by_node: dict[int, list[TopicPartition]] = {}
        errors: dict[TopicPartition, ClientError] = {}
        results: dict[TopicPartition, list[ProducerState]] = {}
        for one in wanted:
            if leaders.get(one, -1) >= 0:
                by_node.setdefault(leaders[one], []).append(one)
            else:
                count = sum(other.topic == one.topic for other in leaders)
                code, message = (
                    (ErrorCode.LEADER_NOT_AVAILABLE, "the partition has no leader now")
                    if one in leaders
                    else (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"the topic has partitions 0 to {count - 1}")
                )
                errors[one] = ClientError(code, message, topic=one.topic, partition=one.partition)
        calls = self._usable().transactions
        answers = await asyncio.gather(*(calls.describe_producers(node_id, its) for node_id, its in by_node.items()))
        for answer in answers:
            errors |= {one: found for one, found in answer.items() if isinstance(found, ClientError)}
            results |= {one: found for one, found in answer.items() if not isinstance(found, ClientError)}
        if errors:
            raise PartialFailure(errors, results)
        return results

    async def abort_transaction(self, transactional_id: str) -> None:
        """Abort what is open under a transactional id, and fence its producer, which gets ProducerFenced."""
        timeout_ms = (await self.describe_transaction(transactional_id)).timeout_ms
        calls = self._usable().transactions
        await self._coordinators.ask(
            TRANSACTION,
            transactional_id,
            lambda node_id: calls.init_producer_id(node_id, transactional_id, timeout_ms, None),
        )

    async def abort_partition(self, partition: TopicPartition, start_offset: int) -> None:
        """Abort the transaction that begins at this offset, in this partition alone.

        For one that its coordinator does not know any more; raises ClientError when none begins there.
        """
        [open_] = (await self.describe_producers([partition])).values()
        state = next((one for one in open_ if one.transaction_start_offset == start_offset >= 0), None)
        if state is None:
            raise ClientError(
                ErrorCode.INVALID_TXN_STATE,
                f"no open transaction begins at offset {start_offset}",
                topic=partition.topic,
                partition=partition.partition,
            )
        leaders = await self._leaders({partition.topic})
        await self._usable().transactions.abort_partition(leaders[partition], partition, state)

    async def find_hanging_transactions(
        self, topics: Iterable[str] | None = None, *, max_age_ms: int = DEFAULT_MAX_AGE_MS, now_ms: int
    ) -> list[HangingTransaction]:
        """Transactions that are open in a partition though no coordinator will end them there (KIP-664).

        Looked at are those whose producer has been silent for `max_age_ms`: younger ones may be under way.
        """
        described = await self.describe_topics(None if topics is None else list(topics))
        partitions = [TopicPartition(topic.name, it.partition) for topic in described for it in topic.partitions]
        suspects = [
            (partition, state)
            for partition, states in (await self.describe_producers(partitions)).items()
            for state in states
            if state.transaction_start_offset >= 0 and state.last_timestamp_ms <= now_ms - max_age_ms
        ]
        if not suspects:
            return []
        known = await self.transactions_of([state.producer_id for _, state in suspects])
        hanging: list[HangingTransaction] = []
        for partition, state in suspects:
            found = known.get(state.producer_id)
            if is_hanging(partition, state, found):
                name = None if found is None else found.transactional_id
                hanging.append(HangingTransaction(partition=partition, producer=state, transactional_id=name))
        return hanging

    async def transactions_of(self, producer_ids: Sequence[int]) -> dict[int, TransactionDescription]:
        """The transactional ids under which these producers write, by producer id."""
        found: dict[int, TransactionDescription] = {}
        for one in await self.list_transactions(producer_ids=sorted(set(producer_ids))):
            try:
                found[one.producer_id] = await self.describe_transaction(one.transactional_id)
            except ClientError as error:
                if error.code is not ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:  # it expired meanwhile
                    raise
        return found

    async def _leaders(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        described = await self.describe_topics(topics)
        return {
            TopicPartition(topic.name, it.partition): it.leader_id for topic in described for it in topic.partitions
        }


def is_hanging(partition: TopicPartition, state: ProducerState, known: TransactionDescription | None) -> bool:
    """Whether no coordinator will end the transaction that is open in the partition."""
    return (
        known is None
        or known.producer_id != state.producer_id
        or partition not in known.partitions
        or known.producer_epoch < state.producer_epoch
    )

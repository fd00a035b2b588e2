"""Transactions over gRPC: the service Transactions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from ottla.client.coordination import (
    GroupMetadata,
    GroupOffsets,
    Outcomes,
    ProducerState,
    TransactionalProducer,
    TransactionDescription,
    TransactionListing,
)
from ottla.client.errors import ClientError
from ottla.client.grpc_convert import error_of, partition_message, partition_of
from ottla.client.grpc_coordination import membership_message, offset_messages, outcomes_of
from ottla.client.types import TopicPartition
from ottla.v1 import produce_pb2, transactions_pb2, transactions_pb2_grpc

if TYPE_CHECKING:
    from ottla.client.grpc_transport import Connection, GrpcTransport
    from ottla.v1.transactions_pb2_grpc import TransactionsAsyncStub


class GrpcTransactions:
    """Implements `coordination.TransactionCalls` on the transport's connections."""

    def __init__(self, transport: "GrpcTransport") -> None:
        self._transport = transport

    async def init_producer_id(
        self, node_id: int, transactional_id: str, timeout_ms: int, before: TransactionalProducer | None
    ) -> TransactionalProducer:
        message = produce_pb2.InitProducerIdRequest(
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            producer_id=None if before is None else before.producer_id,
            producer_epoch=None if before is None else before.producer_epoch,
        )
        node = self._transport.node(node_id)
        call = _transactions(node).InitProducerId(message, **self._transport.options())
        answer = await self._transport.ask(node, call)
        return TransactionalProducer(
            transactional_id=transactional_id, producer_id=answer.producer_id, producer_epoch=answer.producer_epoch
        )

    async def commit_offsets(
        self, node_id: int, producer: TransactionalProducer, group: GroupMetadata, offsets: GroupOffsets
    ) -> Outcomes:
        message = transactions_pb2.TransactionalOffsetsRequest(
            producer=_producer(producer),
            group_id=group.group_id,
            member=membership_message(group),
            offsets=offset_messages(offsets),
        )
        node = self._transport.node(node_id)
        call = _transactions(node).CommitOffsets(message, **self._transport.options())
        return outcomes_of((await self._transport.ask(node, call)).partitions)

    async def end_transaction(
        self, node_id: int, producer: TransactionalProducer, *, commit: bool
    ) -> TransactionalProducer:
        message = transactions_pb2.EndTransactionRequest(producer=_producer(producer), commit=commit)
        node = self._transport.node(node_id)
        call = _transactions(node).EndTransaction(message, **self._transport.options())
        answer = await self._transport.ask(node, call)
        return TransactionalProducer(
            transactional_id=producer.transactional_id,
            producer_id=answer.producer_id,
            producer_epoch=answer.producer_epoch,
        )

    async def list_transactions(
        self, node_id: int, *, states: Sequence[str], producer_ids: Sequence[int], longer_than_ms: int
    ) -> list[TransactionListing]:
        message = transactions_pb2.ListTransactionsRequest(
            states=states, producer_ids=producer_ids, longer_than_ms=longer_than_ms
        )
        node = self._transport.node(node_id)
        call = _transactions(node).ListTransactions(message, **self._transport.options())
        return [
            TransactionListing(transactional_id=one.transactional_id, producer_id=one.producer_id, state=one.state)
            for one in (await self._transport.ask(node, call)).transactions
        ]

    async def describe_transaction(self, node_id: int, transactional_id: str) -> TransactionDescription:
        message = transactions_pb2.DescribeTransactionsRequest(transactional_ids=[transactional_id])
        node = self._transport.node(node_id)
        call = _transactions(node).DescribeTransactions(message, **self._transport.options())
        [one] = (await self._transport.ask(node, call)).transactions
        error = error_of(one)
        if error is not None:
            raise error
        return TransactionDescription(
            transactional_id=one.transactional_id,
            state=one.state,
            producer_id=one.producer_id,
            producer_epoch=one.producer_epoch,
            timeout_ms=one.timeout_ms,
            start_time_ms=one.start_time_ms,
            partitions=tuple(partition_of(partition) for partition in one.partitions),
            coordinator_id=node_id,
        )

    async def describe_producers(
        self, node_id: int, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, list[ProducerState] | ClientError]:
        message = transactions_pb2.DescribeProducersRequest(partitions=[partition_message(one) for one in partitions])
        node = self._transport.node(node_id)
        call = _transactions(node).DescribeProducers(message, **self._transport.options())
        answer = await self._transport.ask(node, call)
        return {
            partition_of(one.partition): error_of(one)
            or [
                ProducerState(
                    producer_id=state.producer_id,
                    producer_epoch=state.producer_epoch,
                    last_sequence=state.last_sequence,
                    last_timestamp_ms=state.last_timestamp_ms,
                    coordinator_epoch=state.coordinator_epoch,
                    transaction_start_offset=state.transaction_start_offset,
                )
                for state in one.producers
            ]
            for one in answer.partitions
        }

    async def abort_partition(self, node_id: int, partition: TopicPartition, state: ProducerState) -> None:
        message = transactions_pb2.AbortPartitionRequest(
            partition=partition_message(partition),
            producer_id=state.producer_id,
            producer_epoch=state.producer_epoch,
            coordinator_epoch=state.coordinator_epoch,
        )
        node = self._transport.node(node_id)
        call = _transactions(node).AbortPartition(message, **self._transport.options())
        await self._transport.ask(node, call)


def _transactions(node: "Connection") -> "TransactionsAsyncStub":
    return cast("TransactionsAsyncStub", transactions_pb2_grpc.TransactionsStub(node.channel))


def _producer(producer: TransactionalProducer) -> transactions_pb2.TransactionalProducer:
    return transactions_pb2.TransactionalProducer(
        transactional_id=producer.transactional_id,
        producer_id=producer.producer_id,
        producer_epoch=producer.producer_epoch,
    )

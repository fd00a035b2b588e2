"""Transactions over the Kafka protocol, as KIP-890 has them: partitions are added by what is written to them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ottla.client.coordination import (
    GroupMetadata,
    GroupOffsets,
    Outcomes,
    ProducerState,
    TransactionalProducer,
    TransactionDescription,
    TransactionListing,
)
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.kafka.connection import Connection
from ottla.client.kafka.convert import by_topic, error_of, outcomes, raise_error
from ottla.client.types import TopicPartition
from ottla.protocol.messages import (
    describe_producers_request,
    describe_producers_response,
    describe_transactions_request,
    describe_transactions_response,
    end_txn_request,
    end_txn_response,
    init_producer_id_request,
    init_producer_id_response,
    list_transactions_request,
    list_transactions_response,
    txn_offset_commit_request,
    txn_offset_commit_response,
    write_txn_markers_request,
    write_txn_markers_response,
)

if TYPE_CHECKING:
    from ottla.client.kafka.transport import KafkaTransport

_FEATURE: Final = "transaction.version"
_FIRST_THAT_BUMPS: Final = 2  # of the feature: each end gives the producer another epoch


class KafkaTransactions:
    """Implements `coordination.TransactionCalls` on the transport's connections."""

    def __init__(self, transport: "KafkaTransport") -> None:
        self._transport = transport

    async def init_producer_id(
        self, node_id: int, transactional_id: str, timeout_ms: int, before: TransactionalProducer | None
    ) -> TransactionalProducer:
        """Raises ClientError (UNSUPPORTED_VERSION) where transactions do not bump epochs yet."""
        request = init_producer_id_request.InitProducerIdRequest(
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            producer_id=-1 if before is None else before.producer_id,
            producer_epoch=-1 if before is None else before.producer_epoch,
        )
        transport = self._transport
        link = transport.ask(node_id)
        await _require_version_two(link)
        answer = await link.send(
            request, init_producer_id_response.InitProducerIdResponse, transport.timeout_s, newest=5
        )
        raise_error(answer.error_code)
        return TransactionalProducer(
            transactional_id=transactional_id, producer_id=answer.producer_id, producer_epoch=answer.producer_epoch
        )

    async def commit_offsets(
        self, node_id: int, producer: TransactionalProducer, group: GroupMetadata, offsets: GroupOffsets
    ) -> Outcomes:
        request = txn_offset_commit_request.TxnOffsetCommitRequest(
            transactional_id=producer.transactional_id,
            group_id=group.group_id,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            generation_id=group.member_epoch,
            member_id=group.member_id,
            group_instance_id=group.instance_id,
            topics=[
                txn_offset_commit_request.TxnOffsetCommitRequestTopic(
                    name=topic,
                    partitions=[
                        txn_offset_commit_request.TxnOffsetCommitRequestPartition(
                            partition_index=index,
                            committed_offset=one.offset,
                            committed_leader_epoch=one.leader_epoch,
                            committed_metadata=one.metadata,
                        )
                        for index, one in partitions
                    ],
                )
                for topic, partitions in by_topic(offsets.items()).items()
            ],
        )
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, txn_offset_commit_response.TxnOffsetCommitResponse, transport.timeout_s
        )
        return outcomes((topic.name, topic.partitions) for topic in answer.topics)

    async def end_transaction(
        self, node_id: int, producer: TransactionalProducer, *, commit: bool
    ) -> TransactionalProducer:
        request = end_txn_request.EndTxnRequest(
            transactional_id=producer.transactional_id,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            committed=commit,
        )
        transport = self._transport
        answer = await transport.ask(node_id).send(request, end_txn_response.EndTxnResponse, transport.timeout_s)
        raise_error(answer.error_code)
        return TransactionalProducer(
            transactional_id=producer.transactional_id,
            producer_id=answer.producer_id,
            producer_epoch=answer.producer_epoch,
        )

    async def list_transactions(
        self, node_id: int, *, states: Sequence[str], producer_ids: Sequence[int], longer_than_ms: int
    ) -> list[TransactionListing]:
        request = list_transactions_request.ListTransactionsRequest(
            state_filters=list(states), producer_id_filters=list(producer_ids), duration_filter=longer_than_ms
        )
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, list_transactions_response.ListTransactionsResponse, transport.timeout_s
        )
        raise_error(answer.error_code)
        return [
            TransactionListing(
                transactional_id=one.transactional_id, producer_id=one.producer_id, state=one.transaction_state
            )
            for one in answer.transaction_states
        ]

    async def describe_transaction(self, node_id: int, transactional_id: str) -> TransactionDescription:
        request = describe_transactions_request.DescribeTransactionsRequest(transactional_ids=[transactional_id])
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, describe_transactions_response.DescribeTransactionsResponse, transport.timeout_s
        )
        [one] = answer.transaction_states
        raise_error(one.error_code)
        return TransactionDescription(
            transactional_id=one.transactional_id,
            state=one.transaction_state,
            producer_id=one.producer_id,
            producer_epoch=one.producer_epoch,
            timeout_ms=one.transaction_timeout_ms,
            start_time_ms=one.transaction_start_time_ms,
            partitions=tuple(TopicPartition(topic.topic, index) for topic in one.topics for index in topic.partitions),
            coordinator_id=node_id,
        )

    async def describe_producers(
        self, node_id: int, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, list[ProducerState] | ClientError]:
        request = describe_producers_request.DescribeProducersRequest(
            topics=[
                describe_producers_request.TopicRequest(name=topic, partition_indexes=[index for index, _ in indexes])
                for topic, indexes in by_topic((one, None) for one in partitions).items()
            ]
        )
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, describe_producers_response.DescribeProducersResponse, transport.timeout_s
        )
        found: dict[TopicPartition, list[ProducerState] | ClientError] = {}
        for topic in answer.topics:
            for one in topic.partitions:
                error = error_of(one.error_code, one.error_message, topic.name, one.partition_index)
                found[TopicPartition(topic.name, one.partition_index)] = error or [
                    ProducerState(
                        producer_id=state.producer_id,
                        producer_epoch=state.producer_epoch,
                        last_sequence=state.last_sequence,
                        last_timestamp_ms=state.last_timestamp,
                        coordinator_epoch=state.coordinator_epoch,
                        transaction_start_offset=state.current_txn_start_offset,
                    )
                    for state in one.active_producers
                ]
        return found

    async def abort_partition(self, node_id: int, partition: TopicPartition, state: ProducerState) -> None:
        request = write_txn_markers_request.WriteTxnMarkersRequest(
            markers=[
                write_txn_markers_request.WritableTxnMarker(
                    producer_id=state.producer_id,
                    producer_epoch=state.producer_epoch,
                    transaction_result=False,
                    topics=[
                        write_txn_markers_request.WritableTxnMarkerTopic(
                            name=partition.topic, partition_indexes=[partition.partition]
                        )
                    ],
                    coordinator_epoch=state.coordinator_epoch,
                )
            ]
        )
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, write_txn_markers_response.WriteTxnMarkersResponse, transport.timeout_s, newest=1
        )
        for marker in answer.markers:
            for topic in marker.topics:
                for one in topic.partitions:
                    raise_error(one.error_code)


async def _require_version_two(link: Connection) -> None:
    await link.ready()
    level = link.features.get(_FEATURE, 0)
    if level < _FIRST_THAT_BUMPS:
        message = (
            f"{link.address} has {_FEATURE} {level}; exactly-once writing needs {_FIRST_THAT_BUMPS}: Apache Kafka 4.0 "
            f"or later, with `kafka-features.sh upgrade --feature {_FEATURE}={_FIRST_THAT_BUMPS}`"
        )
        raise ClientError(ErrorCode.UNSUPPORTED_VERSION, message)

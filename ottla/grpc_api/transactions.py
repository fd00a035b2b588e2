"""The Transactions service."""

from ottla.broker.broker import Broker
from ottla.core.errors import ErrorCode
from ottla.grpc_api.calls import ask
from ottla.grpc_api.coordination import GROUP, TRANSACTION, by_topic, outcome, raise_refusal
from ottla.grpc_api.errors import Context, detail, telling_errors
from ottla.protocol.apis import ApiKey
from ottla.v1 import groups_pb2, produce_pb2, replicas_pb2
from ottla.v1 import transactions_pb2 as pb
from ottla.v1.transactions_pb2_grpc import TransactionsServicer

DEFAULT_TIMEOUT_MS = 60_000  # Kafka's transaction.timeout.ms


class Transactions(TransactionsServicer):
    """Handlers of the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @telling_errors
    async def InitProducerId(
        self, request: produce_pb2.InitProducerIdRequest, context: Context
    ) -> produce_pb2.InitProducerIdResponse:
        """InitProducerId; without a transactional id for an idempotent producer."""
        from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest

        transactional_id = request.transactional_id if request.HasField("transactional_id") else None
        message = InitProducerIdRequest(
            transactional_id=transactional_id,
            transaction_timeout_ms=request.transaction_timeout_ms or DEFAULT_TIMEOUT_MS,
            producer_id=request.producer_id if request.HasField("producer_id") else -1,
            producer_epoch=request.producer_epoch if request.HasField("producer_epoch") else -1,
        )
        answer = await ask(self._broker, ApiKey.INIT_PRODUCER_ID, message, context)
        await self._check(answer.error_code, transactional_id or "", context)
        return produce_pb2.InitProducerIdResponse(producer_id=answer.producer_id, producer_epoch=answer.producer_epoch)

    @telling_errors
    async def AddPartitions(self, request: pb.AddPartitionsRequest, context: Context) -> pb.AddPartitionsResponse:
        """AddPartitionsToTxn."""
        from ottla.protocol.messages import add_partitions_to_txn_request as messages

        producer = request.producer
        transaction = messages.AddPartitionsToTxnTransaction(
            transactional_id=producer.transactional_id,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            topics=[
                messages.AddPartitionsToTxnTopic(name=name, partitions=indexes)
                for name, indexes in by_topic(request.partitions).items()
            ],
        )
        message = messages.AddPartitionsToTxnRequest(transactions=[transaction])
        answer = await ask(self._broker, ApiKey.ADD_PARTITIONS_TO_TXN, message, context)
        await self._check(answer.error_code, producer.transactional_id, context)
        found = [
            (topic.name, part.partition_index, part.partition_error_code)
            for one in answer.results_by_transaction
            for topic in one.topic_results
            for part in topic.results_by_partition
        ]
        if any(code == ErrorCode.NOT_COORDINATOR for _, _, code in found):
            await self._check(ErrorCode.NOT_COORDINATOR, producer.transactional_id, context)
        return pb.AddPartitionsResponse(partitions=[outcome(*one) for one in found])

    @telling_errors
    async def AddOffsets(self, request: pb.AddOffsetsRequest, context: Context) -> pb.AddOffsetsResponse:
        """AddOffsetsToTxn."""
        from ottla.protocol.messages.add_offsets_to_txn_request import AddOffsetsToTxnRequest

        producer = request.producer
        message = AddOffsetsToTxnRequest(
            transactional_id=producer.transactional_id,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            group_id=request.group_id,
        )
        answer = await ask(self._broker, ApiKey.ADD_OFFSETS_TO_TXN, message, context)
        await self._check(answer.error_code, producer.transactional_id, context)
        return pb.AddOffsetsResponse()

    @telling_errors
    async def CommitOffsets(
        self, request: pb.TransactionalOffsetsRequest, context: Context
    ) -> groups_pb2.CommitOffsetsResponse:
        """TxnOffsetCommit."""
        from ottla.protocol.messages import txn_offset_commit_request as messages

        topics: dict[str, list[messages.TxnOffsetCommitRequestPartition]] = {}
        for one in request.offsets:
            topics.setdefault(one.partition.topic, []).append(
                messages.TxnOffsetCommitRequestPartition(
                    partition_index=one.partition.partition,
                    committed_offset=one.offset,
                    committed_leader_epoch=one.leader_epoch if one.HasField("leader_epoch") else -1,
                    committed_metadata=one.metadata,
                )
            )
        producer, member = request.producer, request.member if request.HasField("member") else None
        message = messages.TxnOffsetCommitRequest(
            transactional_id=producer.transactional_id,
            group_id=request.group_id,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            generation_id=-1 if member is None else member.member_epoch,
            member_id="" if member is None else member.member_id,
            group_instance_id=member.instance_id if member is not None and member.HasField("instance_id") else None,
            topics=[messages.TxnOffsetCommitRequestTopic(name=name, partitions=its) for name, its in topics.items()],
        )
        answer = await ask(self._broker, ApiKey.TXN_OFFSET_COMMIT, message, context)
        found = [
            (topic.name, part.partition_index, part.error_code) for topic in answer.topics for part in topic.partitions
        ]
        if any(code == ErrorCode.NOT_COORDINATOR for _, _, code in found):
            await raise_refusal(self._broker, ErrorCode.NOT_COORDINATOR, GROUP, request.group_id, context)
        return groups_pb2.CommitOffsetsResponse(partitions=[outcome(*one) for one in found])

    @telling_errors
    async def EndTransaction(self, request: pb.EndTransactionRequest, context: Context) -> pb.EndTransactionResponse:
        """EndTxn."""
        from ottla.protocol.messages.end_txn_request import EndTxnRequest

        producer = request.producer
        message = EndTxnRequest(
            transactional_id=producer.transactional_id,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            committed=request.commit,
        )
        answer = await ask(self._broker, ApiKey.END_TXN, message, context)
        await self._check(answer.error_code, producer.transactional_id, context)
        return pb.EndTransactionResponse(producer_id=answer.producer_id, producer_epoch=answer.producer_epoch)

    @telling_errors
    async def ListTransactions(
        self, request: pb.ListTransactionsRequest, context: Context
    ) -> pb.ListTransactionsResponse:
        """ListTransactions."""
        from ottla.protocol.messages.list_transactions_request import ListTransactionsRequest

        message = ListTransactionsRequest(
            state_filters=list(request.states),
            producer_id_filters=list(request.producer_ids),
            duration_filter=request.longer_than_ms or -1,
        )
        answer = await ask(self._broker, ApiKey.LIST_TRANSACTIONS, message, context)
        await self._check(answer.error_code, "", context)
        return pb.ListTransactionsResponse(
            transactions=[
                pb.TransactionListing(
                    transactional_id=one.transactional_id, producer_id=one.producer_id, state=one.transaction_state
                )
                for one in answer.transaction_states
            ]
        )

    @telling_errors
    async def DescribeTransactions(
        self, request: pb.DescribeTransactionsRequest, context: Context
    ) -> pb.DescribeTransactionsResponse:
        """DescribeTransactions."""
        from ottla.protocol.messages.describe_transactions_request import DescribeTransactionsRequest

        message = DescribeTransactionsRequest(transactional_ids=list(request.transactional_ids))
        answer = await ask(self._broker, ApiKey.DESCRIBE_TRANSACTIONS, message, context)
        for one in answer.transaction_states:
            if one.error_code == ErrorCode.NOT_COORDINATOR:
                await self._check(one.error_code, one.transactional_id, context)
        return pb.DescribeTransactionsResponse(
            transactions=[
                pb.TransactionDescription(
                    transactional_id=one.transactional_id,
                    error=detail(one.error_code, None),
                    state=one.transaction_state,
                    producer_id=one.producer_id,
                    producer_epoch=one.producer_epoch,
                    timeout_ms=one.transaction_timeout_ms,
                    start_time_ms=one.transaction_start_time_ms,
                    partitions=[
                        replicas_pb2.TopicPartition(topic=topic.topic, partition=index)
                        for topic in one.topics
                        for index in topic.partitions
                    ],
                )
                for one in answer.transaction_states
            ]
        )

    @telling_errors
    async def DescribeProducers(
        self, request: pb.DescribeProducersRequest, context: Context
    ) -> pb.DescribeProducersResponse:
        """DescribeProducers."""
        from ottla.protocol.messages import describe_producers_request as messages

        topics = [
            messages.TopicRequest(name=name, partition_indexes=indexes)
            for name, indexes in by_topic(request.partitions).items()
        ]
        message = messages.DescribeProducersRequest(topics=topics)
        answer = await ask(self._broker, ApiKey.DESCRIBE_PRODUCERS, message, context)
        return pb.DescribeProducersResponse(
            partitions=[
                pb.PartitionProducers(
                    partition=replicas_pb2.TopicPartition(topic=topic.name, partition=part.partition_index),
                    error=detail(part.error_code, part.error_message, topic.name, part.partition_index),
                    producers=[
                        pb.ActiveProducer(
                            producer_id=one.producer_id,
                            producer_epoch=one.producer_epoch,
                            last_sequence=one.last_sequence,
                            last_timestamp_ms=one.last_timestamp,
                            coordinator_epoch=one.coordinator_epoch,
                            transaction_start_offset=one.current_txn_start_offset,
                        )
                        for one in part.active_producers
                    ],
                )
                for topic in answer.topics
                for part in topic.partitions
            ]
        )

    @telling_errors
    async def AbortPartition(self, request: pb.AbortPartitionRequest, context: Context) -> pb.AbortPartitionResponse:
        """WriteTxnMarkers, of one partition."""
        from ottla.protocol.messages import write_txn_markers_request as messages

        partition = request.partition
        marker = messages.WritableTxnMarker(
            producer_id=request.producer_id,
            producer_epoch=request.producer_epoch,
            transaction_result=False,
            coordinator_epoch=request.coordinator_epoch,
            topics=[messages.WritableTxnMarkerTopic(name=partition.topic, partition_indexes=[partition.partition])],
        )
        message = messages.WriteTxnMarkersRequest(markers=[marker])
        answer = await ask(self._broker, ApiKey.WRITE_TXN_MARKERS, message, context)
        for one in answer.markers:
            for topic in one.topics:
                for part in topic.partitions:
                    await self._check(part.error_code, "", context)
        return pb.AbortPartitionResponse()

    async def _check(self, code: int, transactional_id: str, context: Context) -> None:
        await raise_refusal(self._broker, code, TRANSACTION, transactional_id, context)

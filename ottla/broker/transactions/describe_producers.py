"""DescribeProducers: what partitions know of who writes to them, and which transactions are open there (KIP-664)."""

from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.core.errors import ApiError
from ottla.partitions.producer_state import Producer
from ottla.protocol.messages.describe_producers_request import DescribeProducersRequest
from ottla.protocol.messages.describe_producers_response import (
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)

NO_TRANSACTION: Final = -1
NO_EPOCH: Final = -1


async def describe_producers(
    broker: Broker, request: DescribeProducersRequest, context: RequestContext
) -> DescribeProducersResponse:
    """Of partitions that are here, led or not: who looks for transactions that hang asks each broker for its own."""
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name, partitions=[_partition(broker, topic.name, one) for one in topic.partition_indexes]
            )
            for topic in request.topics
        ]
    )


def _partition(broker: Broker, topic: str, index: int) -> PartitionResponse:
    try:
        partition = broker.replicas.readable(topic, index, NO_EPOCH)
    except ApiError as error:
        return PartitionResponse(partition_index=index, error_code=error.code, error_message=error.message or None)
    return PartitionResponse(partition_index=index, active_producers=[_state(one) for one in partition.producers])


def _state(producer: Producer) -> ProducerState:
    first = producer.transaction_first_offset
    return ProducerState(
        producer_id=producer.producer_id,
        producer_epoch=producer.epoch,
        last_sequence=producer.last_sequence,
        last_timestamp=producer.last_timestamp,
        coordinator_epoch=producer.coordinator_epoch,
        current_txn_start_offset=NO_TRANSACTION if first is None else first,
    )

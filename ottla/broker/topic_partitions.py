"""DescribeTopicPartitions: metadata of topics page by page (KIP-966)."""

from bisect import bisect_left

from ottla.broker.authorized_operations import TOPIC_OPERATIONS
from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.controller.image import NO_LEADER, PartitionImage, TopicImage
from ottla.controller.topic_names import why_invalid
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId
from ottla.protocol.messages.describe_topic_partitions_request import DescribeTopicPartitionsRequest
from ottla.protocol.messages.describe_topic_partitions_response import (
    Cursor,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)


async def describe_topic_partitions(
    broker: Broker, request: DescribeTopicPartitionsRequest, context: RequestContext
) -> DescribeTopicPartitionsResponse:
    """Topics by name; `next_cursor` says where to go on when the limit was reached.

    Raises ApiError(INVALID_REQUEST) for a cursor before a topic's first partition.
    """
    room = max(1, min(request.response_partition_limit, broker.configs.integer("max.request.partition.size.limit")))
    names = sorted({topic.name for topic in request.topics} or broker.image.topics)
    first_topic, first_index = "", 0
    if request.cursor is not None:
        first_topic, first_index = request.cursor.topic_name, request.cursor.partition_index
        if first_index < 0:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"The cursor's partition index is negative: {first_index}.")
    response = DescribeTopicPartitionsResponse(topics=[])
    for name in names[bisect_left(names, first_topic) :]:
        topic = broker.image.topics.get(name)
        if topic is None:
            response.topics.append(_missing(name))
            continue
        if room == 0:
            response.next_cursor = Cursor(topic_name=name, partition_index=0)
            break
        start = first_index if name == first_topic else 0
        shown = topic.partitions[start : start + room]
        response.topics.append(_topic(broker, topic, shown))
        room -= len(shown)
        if start + len(shown) < len(topic.partitions):
            response.next_cursor = Cursor(topic_name=name, partition_index=start + len(shown))
            break
    return response


def _missing(name: str) -> DescribeTopicPartitionsResponseTopic:
    code = ErrorCode.INVALID_TOPIC_EXCEPTION if why_invalid(name) else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return DescribeTopicPartitionsResponseTopic(error_code=code, name=name, partitions=[])


def _topic(
    broker: Broker, topic: TopicImage, partitions: tuple[PartitionImage, ...]
) -> DescribeTopicPartitionsResponseTopic:
    live = {one.id for one in broker.image.brokers.values() if not one.fenced}
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.internal,
        partitions=[_partition(partition, live) for partition in partitions],
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _partition(partition: PartitionImage, live: set[NodeId]) -> DescribeTopicPartitionsResponsePartition:
    led = partition.leader in live
    return DescribeTopicPartitionsResponsePartition(
        error_code=ErrorCode.NONE if led else ErrorCode.LEADER_NOT_AVAILABLE,
        partition_index=partition.index,
        leader_id=partition.leader if led else NO_LEADER,
        leader_epoch=partition.leader_epoch,
        replica_nodes=list(partition.replicas),
        isr_nodes=list(partition.isr),
        eligible_leader_replicas=list(partition.elr),
        last_known_elr=list(partition.last_known_elr),
        offline_replicas=[replica for replica in partition.replicas if replica not in live],
    )

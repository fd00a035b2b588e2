"""The Topics service."""

from typing import TYPE_CHECKING

from ottla.broker.broker import Broker
from ottla.broker.metadata_answer import MetadataAnswer
from ottla.controller.image import NO_LEADER, TopicImage
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.grpc_api.calls import ask
from ottla.grpc_api.errors import Context, detail, telling_errors
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.metadata_response import MetadataResponseTopic
from ottla.v1 import topics_pb2
from ottla.v1.topics_pb2_grpc import TopicsServicer

if TYPE_CHECKING:
    from ottla.protocol.messages.create_topics_request import CreatableTopic

DEFAULT_TIMEOUT_MS = 30_000
_CLUSTER_DEFAULT = -1


class Topics(TopicsServicer):
    """Handlers of the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @telling_errors
    async def CreateTopics(
        self, request: topics_pb2.CreateTopicsRequest, context: Context
    ) -> topics_pb2.CreateTopicsResponse:
        """CreateTopics."""
        from ottla.protocol.messages import create_topics_request as messages

        answer = await ask(
            self._broker,
            ApiKey.CREATE_TOPICS,
            messages.CreateTopicsRequest(
                topics=[_creatable(topic) for topic in request.topics],
                timeout_ms=request.timeout_ms or DEFAULT_TIMEOUT_MS,
                validate_only=request.validate_only,
            ),
            context,
        )
        return topics_pb2.CreateTopicsResponse(
            topics=[
                topics_pb2.CreateTopicResult(
                    name=result.name,
                    error=detail(result.error_code, result.error_message, result.name),
                    topic_id=result.topic_id,
                    num_partitions=result.num_partitions,
                    replication_factor=result.replication_factor,
                )
                for result in answer.topics
            ]
        )

    @telling_errors
    async def DeleteTopics(
        self, request: topics_pb2.DeleteTopicsRequest, context: Context
    ) -> topics_pb2.DeleteTopicsResponse:
        """DeleteTopics, by name or by id."""
        from ottla.protocol.messages import delete_topics_request as messages

        states = [messages.DeleteTopicState(name=name) for name in request.names]
        states += [messages.DeleteTopicState(topic_id=_uuid(topic_id)) for topic_id in request.topic_ids]
        answer = await ask(
            self._broker,
            ApiKey.DELETE_TOPICS,
            messages.DeleteTopicsRequest(topics=states, timeout_ms=request.timeout_ms or DEFAULT_TIMEOUT_MS),
            context,
        )
        return topics_pb2.DeleteTopicsResponse(
            topics=[
                topics_pb2.DeleteTopicResult(
                    name=result.name or "",
                    topic_id=result.topic_id,
                    error=detail(result.error_code, result.error_message, result.name),
                )
                for result in answer.responses
            ]
        )

    @telling_errors
    async def ListTopics(
        self, request: topics_pb2.ListTopicsRequest, context: Context
    ) -> topics_pb2.ListTopicsResponse:
        """From the metadata image."""
        return topics_pb2.ListTopicsResponse(
            topics=[
                topics_pb2.TopicListing(
                    name=topic.name,
                    topic_id=topic.id,
                    internal=topic.internal,
                    num_partitions=len(topic.partitions),
                )
                for topic in self._broker.image.topics.values()
                if request.include_internal or not topic.internal
            ]
        )

    @telling_errors
    async def DescribeTopics(
        self, request: topics_pb2.DescribeTopicsRequest, context: Context
    ) -> topics_pb2.DescribeTopicsResponse:
        """Metadata."""
        from ottla.protocol.messages import metadata_request as messages

        wanted = [messages.MetadataRequestTopic(name=name) for name in request.names] if request.names else None
        answer: MetadataAnswer = await ask(
            self._broker,
            ApiKey.METADATA,
            messages.MetadataRequest(topics=wanted, allow_auto_topic_creation=request.allow_auto_create),
            context,
        )
        return topics_pb2.DescribeTopicsResponse(topics=[_description(answer, topic) for topic in answer.topics])

    @telling_errors
    async def CreatePartitions(
        self, request: topics_pb2.CreatePartitionsRequest, context: Context
    ) -> topics_pb2.CreatePartitionsResponse:
        """CreatePartitions."""
        from ottla.protocol.messages import create_partitions_request as messages

        answer = await ask(
            self._broker,
            ApiKey.CREATE_PARTITIONS,
            messages.CreatePartitionsRequest(
                topics=[
                    messages.CreatePartitionsTopic(
                        name=topic.topic,
                        count=topic.total_count,
                        assignments=[
                            messages.CreatePartitionsAssignment(broker_ids=list(replicas.broker_ids))
                            for replicas in topic.assignments
                        ]
                        or None,
                    )
                    for topic in request.topics
                ],
                timeout_ms=request.timeout_ms or DEFAULT_TIMEOUT_MS,
                validate_only=request.validate_only,
            ),
            context,
        )
        return topics_pb2.CreatePartitionsResponse(
            topics=[
                topics_pb2.CreatePartitionsResult(
                    topic=result.name, error=detail(result.error_code, result.error_message, result.name)
                )
                for result in answer.results
            ]
        )

    @telling_errors
    async def DeleteRecords(
        self, request: topics_pb2.DeleteRecordsRequest, context: Context
    ) -> topics_pb2.DeleteRecordsResponse:
        """DeleteRecords."""
        from ottla.protocol.messages import delete_records_request as messages

        by_topic: dict[str, list[messages.DeleteRecordsPartition]] = {}
        for partition in request.partitions:
            by_topic.setdefault(partition.topic, []).append(
                messages.DeleteRecordsPartition(partition_index=partition.partition, offset=partition.before_offset)
            )
        answer = await ask(
            self._broker,
            ApiKey.DELETE_RECORDS,
            messages.DeleteRecordsRequest(
                topics=[messages.DeleteRecordsTopic(name=name, partitions=its) for name, its in by_topic.items()],
                timeout_ms=request.timeout_ms or DEFAULT_TIMEOUT_MS,
            ),
            context,
        )
        return topics_pb2.DeleteRecordsResponse(
            partitions=[
                topics_pb2.DeleteRecordsPartitionResult(
                    topic=topic.name,
                    partition=result.partition_index,
                    error=detail(result.error_code, None, topic.name, result.partition_index),
                    low_watermark=result.low_watermark,
                )
                for topic in answer.topics
                for result in topic.partitions
            ]
        )


def _creatable(topic: topics_pb2.NewTopic) -> "CreatableTopic":
    from ottla.protocol.messages import create_topics_request as messages

    assigned = [
        messages.CreatableReplicaAssignment(partition_index=index, broker_ids=list(replicas.broker_ids))
        for index, replicas in enumerate(topic.replica_assignments)
    ]
    return messages.CreatableTopic(
        name=topic.name,
        num_partitions=topic.num_partitions or _CLUSTER_DEFAULT,
        replication_factor=topic.replication_factor or _CLUSTER_DEFAULT,
        assignments=assigned,
        configs=[messages.CreatableTopicConfig(name=name, value=value) for name, value in topic.configs.items()],
    )


def _description(answer: MetadataAnswer, topic: TopicImage | MetadataResponseTopic) -> topics_pb2.TopicDescription:
    if not isinstance(topic, TopicImage):
        return topics_pb2.TopicDescription(
            name=topic.name or "", topic_id=topic.topic_id, error=detail(topic.error_code, None, topic.name)
        )
    live = answer.live_brokers
    return topics_pb2.TopicDescription(
        name=topic.name,
        topic_id=topic.id,
        internal=topic.internal,
        partitions=[
            topics_pb2.PartitionDescription(
                partition=partition.index,
                error=None
                if partition.leader in live
                else detail(ErrorCode.LEADER_NOT_AVAILABLE, None, topic.name, partition.index),
                leader_id=partition.leader if partition.leader in live else NO_LEADER,
                leader_epoch=partition.leader_epoch,
                replica_ids=partition.replicas,
                in_sync_replica_ids=partition.isr,
                offline_replica_ids=[replica for replica in partition.replicas if replica not in live],
                eligible_leader_replica_ids=partition.elr,
            )
            for partition in topic.partitions
        ],
    )


def _uuid(data: bytes) -> Uuid:
    if len(data) != 16:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"a topic id has 16 bytes, not {len(data)}")
    return Uuid(data)

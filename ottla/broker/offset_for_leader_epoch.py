"""OffsetForLeaderEpoch: where an epoch ended, by which a consumer notices that its log was truncated (KIP-320)."""

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.core.errors import ApiError
from ottla.protocol.messages.offset_for_leader_epoch_request import OffsetForLeaderEpochRequest
from ottla.protocol.messages.offset_for_leader_epoch_response import (
    EpochEndOffset,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)


async def offset_for_leader_epoch(
    broker: Broker, request: OffsetForLeaderEpochRequest, context: RequestContext
) -> OffsetForLeaderEpochResponse:
    """For each partition the largest epoch up to the one asked for, and the offset after its last record."""
    response = OffsetForLeaderEpochResponse()
    for topic in request.topics:
        answers = []
        for wanted in topic.partitions:
            answer = EpochEndOffset(partition=wanted.partition)
            try:
                partition = broker.replicas.fenced_leader(topic.topic, wanted.partition, wanted.current_leader_epoch)
                answer.leader_epoch, answer.end_offset = partition.end_offset_for_epoch(wanted.leader_epoch)
            except ApiError as error:
                answer.error_code = error.code
            answers.append(answer)
        response.topics.append(OffsetForLeaderTopicResult(topic=topic.topic, partitions=answers))
    return response

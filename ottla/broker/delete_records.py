"""DeleteRecords: moves the start of partitions' logs forward."""

import asyncio

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.partitions.validation import refuse_clients
from ottla.protocol.messages.delete_records_request import DeleteRecordsRequest
from ottla.protocol.messages.delete_records_response import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

INVALID_LOW_WATERMARK = -1


async def delete_records(
    broker: Broker, request: DeleteRecordsRequest, context: RequestContext
) -> DeleteRecordsResponse:
    """Answered when the new starts are durable, or the time that the client gave is up."""
    response = DeleteRecordsResponse(topics=[])
    waiting: list[tuple[asyncio.Future[int], DeleteRecordsPartitionResult]] = []
    for topic in request.topics:
        results = []
        for one in topic.partitions:
            future = _delete(broker, topic.name, one.partition_index, one.offset)
            results.append(DeleteRecordsPartitionResult(partition_index=one.partition_index))
            waiting.append((future, results[-1]))
        response.topics.append(DeleteRecordsTopicResult(name=topic.name, partitions=results))
    if waiting:
        await asyncio.wait([future for future, _ in waiting], timeout=max(0, request.timeout_ms) / 1000)
    for future, result in waiting:
        result.low_watermark, result.error_code = _outcome(future)
    return response


def _delete(broker: Broker, topic: str, index: int, offset: int) -> asyncio.Future[int]:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def done(outcome: int | ApiError) -> None:
        if future.done():
            return
        if isinstance(outcome, ApiError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    try:
        _check(broker, topic)
        partition = broker.replicas.leader(topic, index)
        refuse_clients(partition.config)
        partition.delete_records(offset, done)
    except ApiError as error:
        done(error)
    return future


def _check(broker: Broker, name: str) -> None:
    topic = broker.image.topics.get(name)
    if topic is None:
        return
    if topic.internal:
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, "Records of internal topics are their coordinators' affair.")
    policy = broker.configs.topic_candidates(name, "cleanup.policy")[0].value or ""
    if "compact" in policy and "delete" not in policy:
        raise ApiError(ErrorCode.POLICY_VIOLATION, f"{name} is compacted and keeps the last record of every key.")


def _outcome(future: asyncio.Future[int]) -> tuple[int, ErrorCode]:
    if not future.done():
        future.cancel()
        return INVALID_LOW_WATERMARK, ErrorCode.REQUEST_TIMED_OUT
    error = future.exception()
    if error is None:
        return future.result(), ErrorCode.NONE
    if isinstance(error, ApiError):
        return INVALID_LOW_WATERMARK, error.code
    raise error

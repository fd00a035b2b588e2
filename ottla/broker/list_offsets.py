"""ListOffsets: offsets by timestamp, and those that Kafka names by negative timestamps.

A new leader does not know at once how far the high watermark was that its predecessor showed. Until its own has passed
the start of its epoch it says that it does not know what is latest, rather than let the end go back (KIP-207).
"""

import asyncio
from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.results import NO_OFFSET, Isolation, TimestampOffset
from ottla.protocol.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest
from ottla.protocol.messages.list_offsets_response import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3  # KIP-734
EARLIEST_LOCAL: Final = -4  # KIP-405
LATEST_TIERED: Final = -5  # KIP-1005
EARLIEST_PENDING_UPLOAD: Final = -6  # KIP-1023

_FIRST_VERSION_OF: Final = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}

_OFFSET_NOT_AVAILABLE_SINCE: Final = 5

_Found = asyncio.Future[TimestampOffset]


async def list_offsets(broker: Broker, request: ListOffsetsRequest, context: RequestContext) -> ListOffsetsResponse:
    """Look-ups that read files run side by side; the others are answered from memory."""
    isolation = Isolation.READ_COMMITTED if request.isolation_level == 1 else Isolation.READ_UNCOMMITTED
    seen: set[tuple[str, int]] = set()
    response = ListOffsetsResponse()
    waiting: list[tuple[ListOffsetsPartitionResponse, _Found]] = []
    for topic in request.topics:
        answers = []
        for wanted in topic.partitions:
            answer = ListOffsetsPartitionResponse(partition_index=wanted.partition_index)
            answers.append(answer)
            try:
                _refuse_twice(topic.name, wanted.partition_index, seen)
                found = _look_up(broker, topic.name, wanted, isolation, context.api_version)
            except ApiError as error:
                answer.error_code = error.code
                continue
            if isinstance(found, TimestampOffset):
                _fill(answer, found)
            else:
                waiting.append((answer, found))
        response.topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=answers))
    for answer, future in waiting:
        try:
            _fill(answer, await future)
        except ApiError as error:
            answer.error_code = error.code
    return response


def _refuse_twice(topic: str, index: int, seen: set[tuple[str, int]]) -> None:
    if (topic, index) in seen:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"partition {topic}-{index} stands twice in the request")
    seen.add((topic, index))


def _look_up(
    broker: Broker, topic: str, wanted: ListOffsetsPartition, isolation: Isolation, version: int
) -> TimestampOffset | _Found:
    partition = broker.replicas.fenced_leader(topic, wanted.partition_index, wanted.current_leader_epoch)
    timestamp = wanted.timestamp
    if timestamp < 0 and version < _FIRST_VERSION_OF.get(timestamp, version + 1):
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"timestamp {timestamp} has no meaning in version {version}")
    if timestamp == LATEST:
        if not partition.latest_is_known:
            raise _latest_unknown(version)
        return partition.latest_offset(isolation)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return partition.earliest_offset()
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return NO_OFFSET  # nothing is tiered
    future: _Found = asyncio.get_running_loop().create_future()

    def done(found: TimestampOffset | ApiError) -> None:
        if future.done():
            return
        if isinstance(found, ApiError):
            future.set_exception(found)
        elif found.offset < 0 and not partition.latest_is_known:  # perhaps it is in what is not committed yet
            future.set_exception(_latest_unknown(version))
        else:
            future.set_result(found)

    if timestamp == MAX_TIMESTAMP:
        partition.max_timestamp_offset(isolation=isolation, done=done)
    else:
        partition.offset_for_timestamp(timestamp, isolation=isolation, done=done)
    return future


def _latest_unknown(version: int) -> ApiError:
    knows = version >= _OFFSET_NOT_AVAILABLE_SINCE
    return ApiError(ErrorCode.OFFSET_NOT_AVAILABLE if knows else ErrorCode.LEADER_NOT_AVAILABLE)


def _fill(answer: ListOffsetsPartitionResponse, found: TimestampOffset) -> None:
    answer.timestamp, answer.offset, answer.leader_epoch = found.timestamp, found.offset, found.leader_epoch

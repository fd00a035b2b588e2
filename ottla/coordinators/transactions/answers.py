"""Responses of the producers' calls, good and bad."""

from collections.abc import Mapping
from typing import Final

from ottla.coordinators.transactions.ports import TopicPartition
from ottla.coordinators.transactions.transaction import Producer
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.add_partitions_to_txn_request import AddPartitionsToTxnTopic
from ottla.protocol.messages.add_partitions_to_txn_response import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnTopicResult,
)
from ottla.protocol.messages.end_txn_response import EndTxnResponse
from ottla.protocol.messages.init_producer_id_response import InitProducerIdResponse

FENCED_SINCE: Final = 2  # AddPartitionsToTxn, AddOffsetsToTxn, EndTxn: they know PRODUCER_FENCED (KIP-588)
INIT_FENCED_SINCE: Final = 4  # InitProducerId
ABORTABLE_SINCE: Final = 5  # AddPartitionsToTxn knows TRANSACTION_ABORTABLE (KIP-890)
NEXT_PRODUCER_SINCE: Final = 5  # EndTxn tells as whom the producer goes on (KIP-890)


def code(result: object, api_version: int, fenced_since: int = FENCED_SINCE) -> ErrorCode:
    """The error of a result, in the words of this version; NONE when it is no error."""
    if not isinstance(result, ApiError):
        return ErrorCode.NONE
    if result.code is ErrorCode.PRODUCER_FENCED and api_version < fenced_since:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return result.code


def init_refused(error: ErrorCode, api_version: int) -> InitProducerIdResponse:
    return InitProducerIdResponse(
        error_code=code(ApiError(error), api_version, INIT_FENCED_SINCE), producer_id=-1, producer_epoch=-1
    )


def initialized(result: Producer | int | ApiError, api_version: int) -> InitProducerIdResponse:
    """`result` is a number when the producer is new, and has no transactional id."""
    if isinstance(result, ApiError):
        return init_refused(result.code, api_version)
    producer = result if isinstance(result, Producer) else Producer(result, 0)
    return InitProducerIdResponse(producer_id=producer.id, producer_epoch=producer.epoch)


def ended(result: Producer | ApiError, api_version: int) -> EndTxnResponse:
    if isinstance(result, ApiError):
        return EndTxnResponse(error_code=code(result, api_version))
    if api_version < NEXT_PRODUCER_SINCE:
        return EndTxnResponse()
    return EndTxnResponse(producer_id=result.id, producer_epoch=result.epoch)


def partitions(topics: list[AddPartitionsToTxnTopic]) -> frozenset[TopicPartition]:
    """What a request names."""
    return frozenset((topic.name, index) for topic in topics for index in topic.partitions)


def partition_results(
    topics: list[AddPartitionsToTxnTopic], codes: Mapping[TopicPartition, ErrorCode] | ErrorCode
) -> list[AddPartitionsToTxnTopicResult]:
    """One code for all partitions, or those that are not NONE."""
    return [
        AddPartitionsToTxnTopicResult(
            name=topic.name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(
                    partition_index=index,
                    partition_error_code=codes
                    if isinstance(codes, ErrorCode)
                    else codes.get((topic.name, index), ErrorCode.NONE),
                )
                for index in topic.partitions
            ],
        )
        for topic in topics
    ]


def not_in_transaction(api_version: int) -> ErrorCode:
    """Of a partition that is not part of its producer's transaction."""
    return ErrorCode.TRANSACTION_ABORTABLE if api_version >= ABORTABLE_SINCE else ErrorCode.INVALID_TXN_STATE

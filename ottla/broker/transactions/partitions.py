"""AddPartitionsToTxn: partitions that do not exist can be in no transaction, and are not put to the coordinator.

A client is told of each such partition, and that the others of its request were not attempted, as by Kafka. What is
only to be verified needs no look: it is in the transaction, or it is not.

A million of them are a few megabytes of a request, and would hold the loop for seconds: no client may name so many.
"""

from itertools import islice
from typing import Final

from ottla.controller.image import MetadataImage
from ottla.core.error_codes import ErrorCode
from ottla.protocol.messages.add_partitions_to_txn_request import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from ottla.protocol.messages.add_partitions_to_txn_response import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult,
)

BROKERS_SINCE: Final = 4

MAX_NAMED: Final = 10_000
"""Partitions and topics that one request of a client may name, once or repeatedly: about 50 ms of work."""


def named(request: AddPartitionsToTxnRequest) -> int:
    """How many partitions and topics a request names."""
    topics = [*request.v3_and_below_topics, *(topic for one in request.transactions for topic in one.topics)]
    return len(topics) + sum(len(topic.partitions) for topic in topics)


def too_many(request: AddPartitionsToTxnRequest, version: int) -> AddPartitionsToTxnResponse:
    """INVALID_REQUEST. Older versions have no place for it but partitions: those that might have been named get it."""
    if version >= BROKERS_SINCE:
        return AddPartitionsToTxnResponse(error_code=ErrorCode.INVALID_REQUEST)
    response, left = AddPartitionsToTxnResponse(), MAX_NAMED
    for topic in islice(request.v3_and_below_topics, MAX_NAMED):
        indexes = topic.partitions[:left]
        left -= len(indexes)
        results = [
            AddPartitionsToTxnPartitionResult(partition_index=index, partition_error_code=ErrorCode.INVALID_REQUEST)
            for index in indexes
        ]
        response.results_by_topic_v3_and_below.append(
            AddPartitionsToTxnTopicResult(name=topic.name, results_by_partition=results)
        )
        if not left:
            break
    return response


class Unknown:
    """One request's answers that need no coordinator; `left` is what does."""

    __slots__ = ("_by_topic", "_by_transaction", "is_all", "left")

    def __init__(self, image: MetadataImage, request: AddPartitionsToTxnRequest, version: int) -> None:
        self._by_transaction: list[AddPartitionsToTxnResult] = []
        self._by_topic: list[AddPartitionsToTxnTopicResult] = []
        self.left = request
        if version < BROKERS_SINCE:
            self._by_topic = _refusals(image, request.v3_and_below_topics)
            self.is_all = bool(self._by_topic)
            return
        transactions = []
        for transaction in request.transactions:
            refusals = [] if transaction.verify_only else _refusals(image, transaction.topics)
            if refusals:
                self._by_transaction.append(
                    AddPartitionsToTxnResult(transactional_id=transaction.transactional_id, topic_results=refusals)
                )
            else:
                transactions.append(transaction)
        if self._by_transaction:
            self.left = AddPartitionsToTxnRequest(transactions=transactions)
        self.is_all = bool(self._by_transaction) and not transactions

    def added_to(self, response: AddPartitionsToTxnResponse) -> AddPartitionsToTxnResponse:
        """The coordinator's answer and these."""
        response.results_by_transaction.extend(self._by_transaction)
        response.results_by_topic_v3_and_below.extend(self._by_topic)
        return response


def _refusals(image: MetadataImage, topics: list[AddPartitionsToTxnTopic]) -> list[AddPartitionsToTxnTopicResult]:
    """An error for every partition when one of them is unknown; else nothing."""
    counts = {topic.name: _partition_count(image, topic.name) for topic in topics}
    for topic in topics:
        if topic.partitions and not 0 <= min(topic.partitions) <= max(topic.partitions) < counts[topic.name]:
            break
    else:
        return []
    return [
        AddPartitionsToTxnTopicResult(
            name=topic.name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(
                    partition_index=index,
                    partition_error_code=ErrorCode.OPERATION_NOT_ATTEMPTED
                    if 0 <= index < counts[topic.name]
                    else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                )
                for index in topic.partitions
            ],
        )
        for topic in topics
    ]


def _partition_count(image: MetadataImage, name: str) -> int:
    topic = image.topics.get(name)
    return 0 if topic is None else len(topic.partitions)

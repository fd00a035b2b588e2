"""TxnOffsetCommit of one group: offsets that become visible with a producer's transaction (KIP-98, KIP-447).

Before the first pending offset of a transaction is written, its coordinator is asked whether the transaction is under
way here (KIP-890; `partitions.verification` has the rules).
"""

from collections.abc import Callable
from typing import Protocol

from ottla.coordinators.groups import records
from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.errors import commit_error
from ottla.coordinators.groups.offset_codec import NO_EXPIRY, encode_value
from ottla.coordinators.groups.state import GroupState
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.runtime import Effects, ProducerIdentity
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import ZERO_UUID
from ottla.protocol.messages.txn_offset_commit_request import TxnOffsetCommitRequest
from ottla.protocol.messages.txn_offset_commit_response import (
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

ABORTABLE_SINCE = 4
"""Clients that know TRANSACTION_ABORTABLE, and abort where others could only give up."""
IMPLICIT_ADD_SINCE = 5
"""Clients of transaction version 2 do not announce the group to the transaction: the coordinator adds it now."""
NO_GENERATION = -1


class Verifier(Protocol):
    """Asks the coordinator of a transactional id, wherever it is, about a partition."""

    def ask(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        topic: str,
        index: int,
        verify_only: bool,
        done: Callable[[ErrorCode], None],
    ) -> None:
        """`done` gets NONE when the transaction is under way there; without `verify_only` it is from now on."""


def check_committer(group: ClassicGroup | None, request: TxnOffsetCommitRequest) -> None:
    """Raises ApiError when the offsets come from a member of an old generation, or one that is fenced.

    Producers that do not say for whom they commit (before version 3) are believed. Other than in OffsetCommit, a group
    at work does not refuse them, and a rebalance does not hold commits up: the transaction has begun before.
    """
    generation_id = request.generation_id
    if group is None:
        if generation_id > NO_GENERATION:
            raise ApiError(ErrorCode.ILLEGAL_GENERATION)
        return
    anonymous = not request.member_id and request.group_instance_id is None
    if generation_id <= NO_GENERATION and (group.is_in(GroupState.EMPTY) or anonymous):
        return
    group.validate_member(request.member_id, request.group_instance_id)
    if generation_id != group.generation_id:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)


def commit(
    request: TxnOffsetCommitRequest, topics: Topics, config: GroupConfig, effects: Effects
) -> TxnOffsetCommitResponse:
    """Write what can be committed as part of the transaction; the response says it for each partition."""
    effects.transaction = ProducerIdentity(request.producer_id, request.producer_epoch)
    response = TxnOffsetCommitResponse()
    for topic in request.topics:
        partition_count = topics.partition_count(topic.name)
        topic_id = topics.topic_id(topic.name) or ZERO_UUID
        answer = TxnOffsetCommitResponseTopic(name=topic.name)
        response.topics.append(answer)
        for partition in topic.partitions:
            index, metadata = partition.partition_index, partition.committed_metadata or ""
            code = ErrorCode.NONE
            if not 0 <= index < partition_count:
                code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif len(metadata) > config.offset_metadata_max_bytes:
                code = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                stored = encode_value(
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    metadata,
                    effects.now_ms,
                    NO_EXPIRY,
                    topic_id,
                )
                effects.append(records.offset_commit(request.group_id, topic.name, index, stored))
            answer.partitions.append(TxnOffsetCommitResponsePartition(partition_index=index, error_code=code))
    return response


def refused(request: TxnOffsetCommitRequest, code: ErrorCode) -> TxnOffsetCommitResponse:
    """The same error for every partition."""
    return TxnOffsetCommitResponse(
        topics=[
            TxnOffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    TxnOffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def transaction_error(code: ErrorCode, api_version: int) -> ErrorCode:
    """What the runtime or the transaction's coordinator said, so that clients of TxnOffsetCommit do the right thing."""
    if code in (ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.NETWORK_EXCEPTION):
        # To be repeated, and at the same node: it is the other coordinator that is not ready.
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    if code is ErrorCode.INVALID_TXN_STATE and api_version >= ABORTABLE_SINCE:
        return ErrorCode.TRANSACTION_ABORTABLE
    return commit_error(code)


def marker_error(code: ErrorCode) -> ErrorCode:
    """In terms of WriteTxnMarkers, whose sender knows leaders of partitions and no coordinators of groups."""
    if code in (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS):
        return ErrorCode.NOT_LEADER_OR_FOLLOWER
    return code

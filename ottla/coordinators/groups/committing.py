"""OffsetCommit, OffsetFetch and OffsetDelete of one group."""

from ottla.coordinators.groups import records
from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.member import Member
from ottla.coordinators.groups.offset_codec import NO_EXPIRY, decode_value, encode_value
from ottla.coordinators.groups.offsets import OffsetStore
from ottla.coordinators.groups.pending_offsets import PendingOffsets
from ottla.coordinators.groups.state import GroupState
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.runtime import Effects
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import ZERO_UUID, Uuid
from ottla.protocol.messages.offset_commit_request import OffsetCommitRequest, OffsetCommitRequestTopic
from ottla.protocol.messages.offset_commit_response import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.protocol.messages.offset_commit_value import OffsetCommitValue
from ottla.protocol.messages.offset_delete_request import OffsetDeleteRequest
from ottla.protocol.messages.offset_delete_response import (
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from ottla.protocol.messages.offset_fetch_request import OffsetFetchRequest, OffsetFetchRequestGroup
from ottla.protocol.messages.offset_fetch_response import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

TOPIC_IDS_SINCE = 10  # OffsetCommit and OffsetFetch
GROUP_ID_NOT_FOUND_SINCE = 9  # OffsetCommit; before, a generation of a group that is gone is illegal
NO_GENERATION = -1


def committing_member(group: ClassicGroup | None, request: OffsetCommitRequest, api_version: int) -> Member | None:
    """The member that commits; None for an administrator or a consumer that assigns its own partitions.

    Raises ApiError when the caller may not commit now.
    """
    generation_id = request.generation_id_or_member_epoch
    if group is None:
        if generation_id > NO_GENERATION:
            known = api_version >= GROUP_ID_NOT_FOUND_SINCE
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND if known else ErrorCode.ILLEGAL_GENERATION)
        return None
    if generation_id <= NO_GENERATION and group.is_in(GroupState.EMPTY):
        return None
    if generation_id <= NO_GENERATION and not request.member_id and request.group_instance_id is None:
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)  # the members of a group decide, not somebody else
    member = group.validate_member(request.member_id, request.group_instance_id)
    if generation_id != group.generation_id:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)
    if group.is_in(GroupState.COMPLETING_REBALANCE):
        raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)
    return member


def commit(
    request: OffsetCommitRequest, api_version: int, topics: Topics, config: GroupConfig, effects: Effects
) -> OffsetCommitResponse:
    """Write what can be committed; the response says it for each partition."""
    expire_timestamp = NO_EXPIRY if request.retention_time_ms < 0 else effects.now_ms + request.retention_time_ms
    response = OffsetCommitResponse()
    for topic in request.topics:
        name, topic_id, unknown = _resolve(topic, api_version, topics)
        partition_count = topics.partition_count(name) if name is not None else 0
        answer = OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id)
        response.topics.append(answer)
        for partition in topic.partitions:
            index, metadata = partition.partition_index, partition.committed_metadata or ""
            code = ErrorCode.NONE
            if not 0 <= index < partition_count:
                code = unknown if name is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif len(metadata) > config.offset_metadata_max_bytes:
                code = ErrorCode.OFFSET_METADATA_TOO_LARGE
            elif name is not None:
                stored = encode_value(
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    metadata,
                    effects.now_ms,
                    expire_timestamp,
                    topic_id,
                )
                effects.append(records.offset_commit(request.group_id, name, index, stored))
            answer.partitions.append(OffsetCommitResponsePartition(partition_index=index, error_code=code))
    return response


def _resolve(topic: OffsetCommitRequestTopic, api_version: int, topics: Topics) -> tuple[str | None, Uuid, ErrorCode]:
    """Name and id of a topic, and the error of its partitions when there is none."""
    if api_version >= TOPIC_IDS_SINCE:
        topic_id = Uuid(topic.topic_id)
        return topics.topic_name(topic_id), topic_id, ErrorCode.UNKNOWN_TOPIC_ID
    return topic.name, topics.topic_id(topic.name) or ZERO_UUID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def commit_refused(request: OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse:
    """The same error for every partition."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def fetch(
    request: OffsetFetchRequestGroup, api_version: int, store: OffsetStore, unstable: PendingOffsets, topics: Topics
) -> OffsetFetchResponseGroup:
    """The committed offsets that were asked for, or all of them; -1 where there is none.

    Of a partition that has an offset among the `unstable` ones, UNSTABLE_OFFSET_COMMIT stands in its place.
    """
    if request.topics is None:
        return _fetch_all(request.group_id, api_version, store, unstable, topics)
    response = OffsetFetchResponseGroup(group_id=request.group_id)
    for topic in request.topics:
        # The offset of a deleted topic is not one of a new topic of the same name, however the client names it.
        by_id = api_version >= TOPIC_IDS_SINCE
        topic_id = Uuid(topic.topic_id) if by_id else topics.topic_id(topic.name)
        name = topics.topic_name(Uuid(topic.topic_id)) if by_id else topic.name
        answer = OffsetFetchResponseTopics(name=topic.name, topic_id=topic.topic_id)
        response.topics.append(answer)
        for index in topic.partition_indexes:
            if name is None:
                answer.partitions.append(_no_offset(index, ErrorCode.UNKNOWN_TOPIC_ID))
            elif unstable.has_at(request.group_id, name, index):
                answer.partitions.append(_no_offset(index, ErrorCode.UNSTABLE_OFFSET_COMMIT))
            else:
                answer.partitions.append(_offset(index, store.get(request.group_id, name, index, topic_id)))
    return response


def _fetch_all(
    group_id: str, api_version: int, store: OffsetStore, unstable: PendingOffsets, topics: Topics
) -> OffsetFetchResponseGroup:
    response = OffsetFetchResponseGroup(group_id=group_id)
    for name, partitions in store.topics(group_id).items():
        topic_id = topics.topic_id(name)
        if topic_id is None and api_version >= TOPIC_IDS_SINCE:
            continue  # deleted: it cannot be named to this client any more
        answer = OffsetFetchResponseTopics(name=name, topic_id=topic_id or ZERO_UUID)
        answer.partitions = [
            _no_offset(index, ErrorCode.UNSTABLE_OFFSET_COMMIT)
            if unstable.has_at(group_id, name, index)
            else _offset(index, value)
            for index, value in ((index, decode_value(stored)) for index, stored in partitions.items())
            if topic_id is None or value.topic_id in (ZERO_UUID, topic_id)
        ]
        if answer.partitions:
            response.topics.append(answer)
    return response


def _offset(index: int, value: OffsetCommitValue | None) -> OffsetFetchResponsePartitions:
    if value is None:
        return _no_offset(index, ErrorCode.NONE)
    return OffsetFetchResponsePartitions(
        partition_index=index,
        committed_offset=value.offset,
        committed_leader_epoch=value.leader_epoch,
        metadata=value.metadata,
    )


def _no_offset(index: int, code: ErrorCode) -> OffsetFetchResponsePartitions:
    return OffsetFetchResponsePartitions(
        partition_index=index, committed_offset=-1, committed_leader_epoch=-1, metadata="", error_code=code
    )


def subscribed_topics(group: ClassicGroup) -> frozenset[str]:
    """What its members read. Raises ApiError when that cannot be known."""
    if group.is_in(GroupState.EMPTY):
        return frozenset()
    if group.subscribed_topics is None:
        raise ApiError(ErrorCode.NON_EMPTY_GROUP)
    return group.subscribed_topics


def delete_offsets(
    subscribed: frozenset[str],
    request: OffsetDeleteRequest,
    store: OffsetStore,
    pending: PendingOffsets,
    topics: Topics,
    effects: Effects,
) -> OffsetDeleteResponse:
    """Offsets of topics that no member reads."""
    response = OffsetDeleteResponse()
    for topic in request.topics:
        answer = OffsetDeleteResponseTopic(name=topic.name)
        response.topics.append(answer)
        for partition in topic.partitions:
            index, code = partition.partition_index, ErrorCode.NONE
            place = (request.group_id, topic.name, index)
            stored = store.has_at(*place) or pending.has_at(*place)
            if not stored and not 0 <= index < topics.partition_count(topic.name):
                code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif topic.name in subscribed:
                code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
            elif stored:
                effects.append(records.offset_tombstone(request.group_id, topic.name, index))
            answer.partitions.append(OffsetDeleteResponsePartition(partition_index=index, error_code=code))
    return response


def single_group(request: OffsetFetchRequest, group: OffsetFetchResponseGroup) -> OffsetFetchResponse:
    """The form before version 8. What is wrong with the group stands at each partition, too.

    From version 2 on Kafka says it once, without partitions. aiokafka looks at partitions alone (its newest version is
    3), takes those that are missing for some without a committed offset, and begins to read where its policy says.
    """
    response = OffsetFetchResponse(error_code=group.error_code)
    if group.error_code:
        response.topics = [
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=index, committed_offset=-1, metadata="", error_code=group.error_code
                    )
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics or []
        ]
        return response
    response.topics = [
        OffsetFetchResponseTopic(
            name=topic.name,
            partitions=[
                OffsetFetchResponsePartition(
                    partition_index=partition.partition_index,
                    committed_offset=partition.committed_offset,
                    committed_leader_epoch=partition.committed_leader_epoch,
                    metadata=partition.metadata,
                    error_code=partition.error_code,
                )
                for partition in topic.partitions
            ],
        )
        for topic in group.topics
    ]
    return response

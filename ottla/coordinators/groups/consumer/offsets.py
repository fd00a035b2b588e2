"""Who may commit and fetch offsets of a consumer group, and which of them expire."""

from collections.abc import Iterable
from typing import Final

from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.consumer.heartbeat import unknown_member
from ottla.coordinators.groups.consumer.member import ConsumerMember
from ottla.coordinators.groups.offsets import OffsetStore
from ottla.coordinators.groups.pending_offsets import PendingOffsets
from ottla.coordinators.groups.topics import Topics
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.protocol.messages.offset_commit_request import OffsetCommitRequest
from ottla.protocol.messages.offset_fetch_request import OffsetFetchRequestGroup
from ottla.protocol.messages.txn_offset_commit_request import TxnOffsetCommitRequest

TOPIC_IDS_SINCE: Final = 10  # OffsetCommit
MEMBER_EPOCHS_SINCE: Final = 9  # OffsetCommit and OffsetFetch
NO_MEMBER_EPOCH: Final = -1


def check_commit(
    group: ConsumerGroup, request: OffsetCommitRequest, api_version: int, topics: Topics
) -> ConsumerMember | None:
    """The member that commits; None when it is somebody else, who may while there are no members.

    A member may be behind its group: what it commits counts if it has had the partition since (KIP-1251). Raises
    ApiError UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, or ILLEGAL_GENERATION to a member with the classic protocol.
    """
    epoch = request.generation_id_or_member_epoch
    if epoch <= NO_MEMBER_EPOCH and not group.members:
        return None
    member = group.members.get(request.member_id)
    if member is None:
        raise unknown_member(group.group_id, request.member_id)
    if member.classic is None and api_version < MEMBER_EPOCHS_SINCE:
        raise ApiError(
            ErrorCode.UNSUPPORTED_VERSION,
            "Members that use the consumer group protocol must commit with OffsetCommit version 9 or later.",
        )
    if epoch != member.epoch:
        by_id = api_version >= TOPIC_IDS_SINCE
        places = (
            (Uuid(topic.topic_id) if by_id else topics.topic_id(topic.name), partition.partition_index)
            for topic in request.topics
            for partition in topic.partitions
        )
        _check_other_epoch(member, epoch, places)
    return member


def check_transactional_commit(group: ConsumerGroup, request: TxnOffsetCommitRequest, topics: Topics) -> None:
    """As `check_commit`, in terms of TxnOffsetCommit: ILLEGAL_GENERATION. Who does not say who it is, is believed."""
    epoch = request.generation_id
    anonymous = not request.member_id and request.group_instance_id is None
    if epoch <= NO_MEMBER_EPOCH and (not group.members or anonymous):
        return
    member = group.members.get(request.member_id)
    if member is None:
        raise unknown_member(group.group_id, request.member_id)
    if epoch != member.epoch:
        places = (
            (topics.topic_id(topic.name), partition.partition_index)
            for topic in request.topics
            for partition in topic.partitions
        )
        try:
            _check_other_epoch(member, epoch, places)
        except ApiError as error:
            raise ApiError(ErrorCode.ILLEGAL_GENERATION, error.message) from None


def check_fetch(group: ConsumerGroup, request: OffsetFetchRequestGroup, api_version: int) -> None:
    """Raises ApiError UNKNOWN_MEMBER_ID or STALE_MEMBER_EPOCH to a member that is not what it says."""
    if api_version < MEMBER_EPOCHS_SINCE or (request.member_id is None and request.member_epoch <= NO_MEMBER_EPOCH):
        return
    member = group.members.get(request.member_id or "")
    if member is None:
        raise unknown_member(group.group_id, request.member_id or "")
    if request.member_epoch != member.epoch:
        raise _stale(member, f"its member epoch is {member.epoch}, not {request.member_epoch}")


def expired_entries(
    group: ConsumerGroup, store: OffsetStore, pending: PendingOffsets, *, now_ms: int, retention_ms: int
) -> list[tuple[str, int]]:
    """Which of a group's offsets have outlived their retention since their commit.

    Not of topics that members read, and not while an open transaction is about to replace them.
    """
    subscribed = group.subscribed_topics()
    return [
        (topic, partition)
        for topic, partition, value in store.entries(group.group_id)
        if topic not in subscribed
        and now_ms >= (value.expire_timestamp if value.expire_timestamp >= 0 else value.commit_timestamp + retention_ms)
        and not pending.has_at(group.group_id, topic, partition)
    ]


def _check_other_epoch(member: ConsumerMember, epoch: int, places: Iterable[tuple[Uuid | None, int]]) -> None:
    if epoch > member.epoch:
        raise _stale(member, f"its member epoch is {member.epoch}, not {epoch}")
    for topic_id, partition in places:
        since = None if topic_id is None else member.assignment_epoch(topic_id, partition)
        if since is None or since > epoch:
            raise _stale(member, f"it did not have partition {partition} of a topic in epoch {epoch}")


def _stale(member: ConsumerMember, why: str) -> ApiError:
    code = ErrorCode.STALE_MEMBER_EPOCH if member.classic is None else ErrorCode.ILLEGAL_GENERATION
    return ApiError(code, f"Member {member.member_id}: {why}.")

"""What a ConsumerGroupHeartbeat must say, whatever its group is like."""

from typing import Final

from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer.member import JOINING_EPOCH, LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest

MEMBER_ID_REQUIRED_SINCE: Final = 1  # KIP-1082: the client makes it
NAME_BYTES_MAX: Final = 32_767  # what the readers of records take


def check_heartbeat(request: ConsumerGroupHeartbeatRequest, api_version: int, config: GroupConfig) -> None:
    """Raises ApiError INVALID_REQUEST or UNSUPPORTED_ASSIGNOR."""
    _not_empty(request.group_id, "GroupId")
    _not_empty(request.instance_id, "InstanceId")
    _not_empty(request.rack_id, "RackId")
    if api_version >= MEMBER_ID_REQUIRED_SINCE or request.member_epoch != JOINING_EPOCH:
        _not_empty(request.member_id, "MemberId")
    if request.member_epoch == JOINING_EPOCH:
        if request.rebalance_timeout_ms < 0:
            raise _invalid("RebalanceTimeoutMs must be provided in the first request.")
        if request.topic_partitions is None or request.topic_partitions:
            raise _invalid("TopicPartitions must be empty when (re-)joining.")
        if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
            raise _invalid("SubscribedTopicNames or SubscribedTopicRegex must be set when (re-)joining.")
    elif request.member_epoch == LEAVING_FOR_A_WHILE_EPOCH:
        if request.instance_id is None:
            raise _invalid("InstanceId must be set: only a static member can leave for a while.")
    elif request.member_epoch < LEAVING_EPOCH:
        raise _invalid(f"MemberEpoch {request.member_epoch} is invalid.")
    if request.server_assignor is not None and request.server_assignor not in config.consumer_assignors:
        raise ApiError(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {request.server_assignor} is not supported. "
            f"Supported assignors: {', '.join(config.consumer_assignors)}.",
        )
    names = (request.member_id, request.instance_id, request.rack_id, request.subscribed_topic_regex)
    if any(len(name.encode()) > NAME_BYTES_MAX for name in (*names, *(request.subscribed_topic_names or ())) if name):
        raise _invalid(f"A name is longer than {NAME_BYTES_MAX} bytes.")


def _not_empty(value: str | None, name: str) -> None:
    if value is not None and not value.strip():
        raise _invalid(f"{name} can't be empty.")


def _invalid(message: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, message)

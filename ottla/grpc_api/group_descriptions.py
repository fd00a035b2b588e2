"""One description for groups of both protocols: of KIP-848, and of the classic one, whose members carry bytes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.broker.broker import Broker
from ottla.core.errors import DecodeError, ErrorCode
from ottla.grpc_api.calls import ask
from ottla.grpc_api.coordination import GROUP, raise_refusal
from ottla.grpc_api.errors import Context, detail
from ottla.protocol.apis import ApiKey
from ottla.v1 import groups_pb2 as pb
from ottla.v1 import replicas_pb2

if TYPE_CHECKING:
    from ottla.protocol.messages import consumer_group_describe_response as consumer_groups
    from ottla.protocol.messages import describe_groups_response as classic_groups
    from ottla.protocol.messages.consumer_protocol_assignment import ConsumerProtocolAssignment
    from ottla.protocol.messages.consumer_protocol_subscription import ConsumerProtocolSubscription

CONSUMER = "consumer"  # the protocol type whose members' bytes are known


async def describe_groups(broker: Broker, group_ids: Iterable[str], context: Context) -> list[pb.GroupDescription]:
    """Those of KIP-848 first; what is none of them is asked for as a classic one. In the order of `group_ids`."""
    from ottla.protocol.messages.consumer_group_describe_request import ConsumerGroupDescribeRequest
    from ottla.protocol.messages.describe_groups_request import DescribeGroupsRequest

    wanted = list(dict.fromkeys(group_ids))
    found: dict[str, pb.GroupDescription] = {}
    message = ConsumerGroupDescribeRequest(group_ids=wanted)
    answer = await ask(broker, ApiKey.CONSUMER_GROUP_DESCRIBE, message, context)
    for one in answer.groups:
        if one.error_code != ErrorCode.GROUP_ID_NOT_FOUND:
            found[one.group_id] = _consumer_group(one)
    classic = [group_id for group_id in wanted if group_id not in found]
    if classic:
        answer = await ask(broker, ApiKey.DESCRIBE_GROUPS, DescribeGroupsRequest(groups=classic), context)
        found |= {one.group_id: _classic_group(one) for one in answer.groups}
    for group_id in wanted:
        if found[group_id].error.code == ErrorCode.NOT_COORDINATOR:
            await raise_refusal(broker, ErrorCode.NOT_COORDINATOR, GROUP, group_id, context)
    return [found[group_id] for group_id in wanted]


def _consumer_group(group: "consumer_groups.DescribedGroup") -> pb.GroupDescription:
    return pb.GroupDescription(
        group_id=group.group_id,
        error=detail(group.error_code, group.error_message),
        type="consumer",
        state=group.group_state,
        protocol_type=CONSUMER,
        assignor=group.assignor_name,
        group_epoch=group.group_epoch,
        assignment_epoch=group.assignment_epoch,
        members=[
            pb.GroupMember(
                member_id=one.member_id,
                instance_id=one.instance_id,
                rack_id=one.rack_id,
                client_id=one.client_id,
                client_host=one.client_host,
                member_epoch=one.member_epoch,
                topics=one.subscribed_topic_names,
                topic_regex=one.subscribed_topic_regex or None,
                assignment=_partitions(one.assignment),
                target=_partitions(one.target_assignment),
            )
            for one in group.members
        ],
    )


def _partitions(assignment: "consumer_groups.Assignment") -> list[replicas_pb2.TopicPartition]:
    return [
        replicas_pb2.TopicPartition(topic=topic.topic_name, partition=index)
        for topic in assignment.topic_partitions
        for index in topic.partitions
    ]


def _classic_group(group: "classic_groups.DescribedGroup") -> pb.GroupDescription:
    return pb.GroupDescription(
        group_id=group.group_id,
        error=detail(group.error_code, group.error_message),
        type="classic",
        state=group.group_state,
        protocol_type=group.protocol_type,
        assignor=group.protocol_data,
        group_epoch=-1,
        assignment_epoch=-1,
        members=[_classic_member(one, group.protocol_type) for one in group.members],
    )


def _classic_member(member: "classic_groups.DescribedGroupMember", protocol_type: str) -> pb.GroupMember:
    subscription = assignment = None
    if protocol_type == CONSUMER:
        subscription, assignment = _subscription(member.member_metadata), _assignment(member.member_assignment)
    partitions = [
        replicas_pb2.TopicPartition(topic=topic.topic, partition=index)
        for topic in (assignment.assigned_partitions if assignment is not None else ())
        for index in topic.partitions
    ]
    return pb.GroupMember(
        member_id=member.member_id,
        instance_id=member.group_instance_id,
        rack_id=None if subscription is None else subscription.rack_id,
        client_id=member.client_id,
        client_host=member.client_host,
        member_epoch=-1,
        topics=() if subscription is None else subscription.topics,
        assignment=partitions,
        target=partitions,
    )


def _subscription(data: bytes) -> "ConsumerProtocolSubscription | None":
    """None for what is not in the consumers' form: it is the members' own business."""
    from ottla.protocol.messages.consumer_protocol_subscription import ConsumerProtocolSubscription as Message

    version = _version(data)
    if version < 0:
        return None
    try:
        return Message.decode(data, min(version, Message.MAX_VERSION), 2)[0]
    except DecodeError:
        return None


def _assignment(data: bytes) -> "ConsumerProtocolAssignment | None":
    from ottla.protocol.messages.consumer_protocol_assignment import ConsumerProtocolAssignment as Message

    version = _version(data)
    if version < 0:
        return None
    try:
        return Message.decode(data, min(version, Message.MAX_VERSION), 2)[0]
    except DecodeError:
        return None


def _version(data: bytes) -> int:
    """The version that stands before the message; -1 when there is none."""
    return int.from_bytes(data[:2], "big", signed=True) if len(data) >= 2 else -1

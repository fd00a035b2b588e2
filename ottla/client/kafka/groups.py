"""Groups over the Kafka protocol: KIP-848's heartbeat, committed offsets, and what administrators ask."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ottla.client.coordination import (
    CoordinatorType,
    GroupDescription,
    GroupListing,
    GroupMember,
    GroupMetadata,
    GroupOffsets,
    HeartbeatAnswer,
    HeartbeatRequest,
    OffsetAndMetadata,
    Outcomes,
    TopicIdAndName,
)
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.kafka.convert import by_topic, error_of, outcomes, raise_error
from ottla.client.types import TopicPartition
from ottla.core.errors import DecodeError
from ottla.core.types import Uuid
from ottla.protocol.messages import (
    consumer_group_describe_request,
    consumer_group_describe_response,
    consumer_group_heartbeat_request,
    consumer_group_heartbeat_response,
    delete_groups_request,
    delete_groups_response,
    describe_groups_request,
    describe_groups_response,
    find_coordinator_request,
    find_coordinator_response,
    list_groups_request,
    list_groups_response,
    offset_commit_request,
    offset_commit_response,
    offset_delete_request,
    offset_delete_response,
    offset_fetch_request,
    offset_fetch_response,
)
from ottla.protocol.messages.consumer_protocol_assignment import ConsumerProtocolAssignment

if TYPE_CHECKING:
    from ottla.client.kafka.transport import KafkaTransport

_COMMIT_BY_NAME: Final = 9  # the last versions that name topics
_FETCH_BY_NAME: Final = 9
_FIRST_WITH_GROUPS: Final = 8  # of OffsetFetch
_FIRST_WITH_KEYS: Final = 4  # of FindCoordinator
_CONSUMER: Final = "consumer"


class KafkaGroups:
    """Implements `coordination.GroupCalls` on the transport's connections."""

    def __init__(self, transport: "KafkaTransport") -> None:
        self._transport = transport

    async def find_coordinator(self, kind: CoordinatorType, key: str) -> int:
        request = find_coordinator_request.FindCoordinatorRequest(key=key, key_type=int(kind), coordinator_keys=[key])
        transport = self._transport
        answer = await transport.links.ask_any(
            lambda link: link.send(request, find_coordinator_response.FindCoordinatorResponse, transport.timeout_s)
        )
        raise_error(answer.error_code, answer.error_message)
        found = answer.coordinators[0] if answer.coordinators else answer
        raise_error(found.error_code, found.error_message)
        transport.links.learn(found.node_id, found.host, found.port)
        return found.node_id

    async def heartbeat(self, node_id: int, request: HeartbeatRequest) -> HeartbeatAnswer:
        message = consumer_group_heartbeat_request.ConsumerGroupHeartbeatRequest(
            group_id=request.group_id,
            member_id=request.member_id,
            member_epoch=request.member_epoch,
            instance_id=request.instance_id,
            rack_id=request.rack_id,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            subscribed_topic_names=None if request.topics is None else list(request.topics),
            server_assignor=request.server_assignor,
            topic_partitions=None
            if request.owned is None
            else [
                consumer_group_heartbeat_request.TopicPartitions(topic_id=Uuid(one), partitions=list(indexes))
                for one, indexes in request.owned.items()
            ],
        )
        kind = consumer_group_heartbeat_response.ConsumerGroupHeartbeatResponse
        transport = self._transport
        answer = await transport.ask(node_id).send(message, kind, transport.timeout_s)
        raise_error(answer.error_code, answer.error_message)
        assignment = None
        if answer.assignment is not None:
            topics = answer.assignment.topic_partitions
            names = await transport.topic_names([one.topic_id for one in topics])
            assignment = {
                TopicIdAndName(one.topic_id, names.get(one.topic_id, "")): tuple(one.partitions) for one in topics
            }
        return HeartbeatAnswer(
            member_id=answer.member_id or request.member_id,
            member_epoch=answer.member_epoch,
            heartbeat_interval_ms=answer.heartbeat_interval_ms,
            assignment=assignment,
        )

    async def commit_offsets(self, node_id: int, group: GroupMetadata, offsets: GroupOffsets) -> Outcomes:
        request = offset_commit_request.OffsetCommitRequest(
            group_id=group.group_id,
            generation_id_or_member_epoch=group.member_epoch,
            member_id=group.member_id,
            group_instance_id=group.instance_id,
            topics=[
                offset_commit_request.OffsetCommitRequestTopic(
                    name=topic,
                    partitions=[
                        offset_commit_request.OffsetCommitRequestPartition(
                            partition_index=index,
                            committed_offset=one.offset,
                            committed_leader_epoch=one.leader_epoch,
                            committed_metadata=one.metadata,
                        )
                        for index, one in partitions
                    ],
                )
                for topic, partitions in by_topic(offsets.items()).items()
            ],
        )
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, offset_commit_response.OffsetCommitResponse, transport.timeout_s, newest=_COMMIT_BY_NAME
        )
        return outcomes((topic.name, topic.partitions) for topic in answer.topics)

    async def fetch_offsets(
        self,
        node_id: int,
        group: GroupMetadata,
        partitions: Sequence[TopicPartition] | None,
        *,
        require_stable: bool,
    ) -> dict[TopicPartition, OffsetAndMetadata | ClientError | None]:
        if partitions is not None and not partitions:
            return {}
        topics = None
        if partitions is not None:
            topics = [
                offset_fetch_request.OffsetFetchRequestTopics(
                    name=topic, partition_indexes=[index for index, _ in indexes]
                )
                for topic, indexes in by_topic((one, None) for one in partitions).items()
            ]
        request = offset_fetch_request.OffsetFetchRequest(
            groups=[
                offset_fetch_request.OffsetFetchRequestGroup(
                    group_id=group.group_id,
                    member_id=group.member_id or None,
                    member_epoch=group.member_epoch,
                    topics=topics,
                )
            ],
            require_stable=require_stable,
        )
        transport = self._transport
        link = transport.ask(node_id)
        await link.ready()
        if link.newest(request.API_KEY) < _FIRST_WITH_GROUPS:
            message = f"{link.address}: offsets of groups need a broker of Kafka 3.0 or later"
            raise ClientError(ErrorCode.UNSUPPORTED_VERSION, message)
        answer = await link.send(
            request, offset_fetch_response.OffsetFetchResponse, transport.timeout_s, newest=_FETCH_BY_NAME
        )
        found: dict[TopicPartition, OffsetAndMetadata | ClientError | None] = {}
        for told in answer.groups:
            raise_error(told.error_code)
            for topic in told.topics:
                for one in topic.partitions:
                    offset = None
                    if one.committed_offset >= 0:
                        offset = OffsetAndMetadata(one.committed_offset, one.metadata or "", one.committed_leader_epoch)
                    error = error_of(one.error_code, None, topic.name, one.partition_index)
                    found[TopicPartition(topic.name, one.partition_index)] = error or offset
        return found

    async def delete_offsets(self, node_id: int, group_id: str, partitions: Sequence[TopicPartition]) -> Outcomes:
        request = offset_delete_request.OffsetDeleteRequest(
            group_id=group_id,
            topics=[
                offset_delete_request.OffsetDeleteRequestTopic(
                    name=topic,
                    partitions=[
                        offset_delete_request.OffsetDeleteRequestPartition(partition_index=index)
                        for index, _ in indexes
                    ],
                )
                for topic, indexes in by_topic((one, None) for one in partitions).items()
            ],
        )
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, offset_delete_response.OffsetDeleteResponse, transport.timeout_s
        )
        raise_error(answer.error_code)
        return outcomes((topic.name, topic.partitions) for topic in answer.topics)

    async def list_groups(self, node_id: int, *, states: Sequence[str], types: Sequence[str]) -> list[GroupListing]:
        request = list_groups_request.ListGroupsRequest(states_filter=list(states), types_filter=list(types))
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, list_groups_response.ListGroupsResponse, transport.timeout_s
        )
        raise_error(answer.error_code)
        return [
            GroupListing(
                group_id=one.group_id,
                type=one.group_type.lower(),
                state=one.group_state,
                protocol_type=one.protocol_type,
            )
            for one in answer.groups
        ]

    async def describe_group(self, node_id: int, group_id: str) -> GroupDescription:
        """Asked as one of KIP-848's, and where that is refused as a classic one."""
        transport = self._transport
        link = transport.ask(node_id)
        request = consumer_group_describe_request.ConsumerGroupDescribeRequest(group_ids=[group_id])
        try:
            answer = await link.send(
                request, consumer_group_describe_response.ConsumerGroupDescribeResponse, transport.timeout_s
            )
        except ClientError as error:
            if error.code is not ErrorCode.UNSUPPORTED_VERSION:
                raise
            return await self._describe_classic(node_id, group_id)
        [one] = answer.groups
        if one.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
            return await self._describe_classic(node_id, group_id)
        raise_error(one.error_code, one.error_message)
        return GroupDescription(
            group_id=one.group_id,
            type=_CONSUMER,
            state=one.group_state,
            protocol_type=_CONSUMER,
            assignor=one.assignor_name,
            group_epoch=one.group_epoch,
            assignment_epoch=one.assignment_epoch,
            members=tuple(_member_of(member) for member in one.members),
            coordinator_id=node_id,
        )

    async def _describe_classic(self, node_id: int, group_id: str) -> GroupDescription:
        request = describe_groups_request.DescribeGroupsRequest(groups=[group_id])
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, describe_groups_response.DescribeGroupsResponse, transport.timeout_s
        )
        [one] = answer.groups
        raise_error(one.error_code, one.error_message)
        if one.group_state == "Dead":  # before version 6 the answer for a group that is not there
            raise ClientError(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no group {group_id}")
        return GroupDescription(
            group_id=one.group_id,
            type="classic",
            state=one.group_state,
            protocol_type=one.protocol_type,
            assignor=one.protocol_data,
            group_epoch=-1,
            assignment_epoch=-1,
            members=tuple(_classic_member_of(member) for member in one.members),
            coordinator_id=node_id,
        )

    async def delete_group(self, node_id: int, group_id: str) -> None:
        request = delete_groups_request.DeleteGroupsRequest(groups_names=[group_id])
        transport = self._transport
        answer = await transport.ask(node_id).send(
            request, delete_groups_response.DeleteGroupsResponse, transport.timeout_s
        )
        [one] = answer.results
        raise_error(one.error_code)


def _partitions_of(assignment: consumer_group_describe_response.Assignment) -> tuple[TopicPartition, ...]:
    return tuple(
        TopicPartition(one.topic_name, index) for one in assignment.topic_partitions for index in one.partitions
    )


def _member_of(one: consumer_group_describe_response.Member) -> GroupMember:
    return GroupMember(
        member_id=one.member_id,
        instance_id=one.instance_id,
        rack_id=one.rack_id,
        client_id=one.client_id,
        client_host=one.client_host,
        member_epoch=one.member_epoch,
        topics=tuple(one.subscribed_topic_names),
        topic_regex=one.subscribed_topic_regex or None,
        assignment=_partitions_of(one.assignment),
        target=_partitions_of(one.target_assignment),
    )


def _classic_member_of(one: describe_groups_response.DescribedGroupMember) -> GroupMember:
    assignment = _classic_assignment(one.member_assignment)
    return GroupMember(
        member_id=one.member_id,
        instance_id=one.group_instance_id,
        rack_id=None,
        client_id=one.client_id,
        client_host=one.client_host,
        member_epoch=-1,
        topics=tuple(dict.fromkeys(partition.topic for partition in assignment)),
        topic_regex=None,
        assignment=assignment,
        target=assignment,
    )


def _classic_assignment(data: bytes) -> tuple[TopicPartition, ...]:
    """Of a consumer's kind; other protocols keep in it what they like."""
    if len(data) < 2:
        return ()
    version = int.from_bytes(data[:2], "big", signed=True)
    try:
        assignment, _ = ConsumerProtocolAssignment.decode(
            data, max(0, min(version, ConsumerProtocolAssignment.MAX_VERSION)), 2
        )
    except DecodeError:
        return ()
    return tuple(TopicPartition(one.topic, index) for one in assignment.assigned_partitions for index in one.partitions)

"""Groups over gRPC: the service Groups, and the search for coordinators."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

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
from ottla.client.errors import ClientError
from ottla.client.grpc_convert import error_of, partition_message, partition_of
from ottla.client.types import TopicPartition
from ottla.v1 import cluster_pb2, groups_pb2, groups_pb2_grpc, replicas_pb2

if TYPE_CHECKING:
    from ottla.client.grpc_transport import Connection, GrpcTransport
    from ottla.v1.groups_pb2_grpc import GroupsAsyncStub


class GrpcGroups:
    """Implements `coordination.GroupCalls` on the transport's connections."""

    def __init__(self, transport: "GrpcTransport") -> None:
        self._transport = transport

    async def find_coordinator(self, kind: CoordinatorType, key: str) -> int:
        request = cluster_pb2.FindCoordinatorsRequest(type=cluster_pb2.CoordinatorType.ValueType(kind), keys=[key])
        transport = self._transport
        answer = await transport.ask_any(lambda node: node.cluster.FindCoordinators(request, **transport.options()))
        [found] = answer.coordinators
        error = error_of(found)
        if error is not None:
            raise error
        transport.learn(found.node_id, found.host, found.port)
        return found.node_id

    async def heartbeat(self, node_id: int, request: HeartbeatRequest) -> HeartbeatAnswer:
        message = groups_pb2.GroupHeartbeatRequest(
            group_id=request.group_id,
            member_id=request.member_id,
            member_epoch=request.member_epoch,
            instance_id=request.instance_id,
            rack_id=request.rack_id,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            subscription=None if request.topics is None else groups_pb2.Subscription(topics=request.topics),
            server_assignor=request.server_assignor,
            owned=None if request.owned is None else _owned(request.owned),
        )
        node = self._transport.node(node_id)
        answer = await self._transport.ask(node, _groups(node).Heartbeat(message, **self._transport.options()))
        assignment = None
        if answer.HasField("assignment"):
            assignment = {
                TopicIdAndName(one.topic_id, one.topic): tuple(one.partitions) for one in answer.assignment.topics
            }
        return HeartbeatAnswer(
            member_id=answer.member_id,
            member_epoch=answer.member_epoch,
            heartbeat_interval_ms=answer.heartbeat_interval_ms,
            assignment=assignment,
        )

    async def commit_offsets(self, node_id: int, group: GroupMetadata, offsets: GroupOffsets) -> Outcomes:
        message = groups_pb2.CommitOffsetsRequest(
            group_id=group.group_id, member=membership_message(group), offsets=offset_messages(offsets)
        )
        node = self._transport.node(node_id)
        answer = await self._transport.ask(node, _groups(node).CommitOffsets(message, **self._transport.options()))
        return outcomes_of(answer.partitions)

    async def fetch_offsets(
        self,
        node_id: int,
        group: GroupMetadata,
        partitions: Sequence[TopicPartition] | None,
        *,
        require_stable: bool,
    ) -> dict[TopicPartition, OffsetAndMetadata | ClientError | None]:
        if partitions is not None and not partitions:
            return {}  # to the service, none mean all
        message = groups_pb2.FetchOffsetsRequest(
            group_id=group.group_id,
            member=membership_message(group),
            partitions=[partition_message(one) for one in partitions or ()],
            require_stable=require_stable,
        )
        node = self._transport.node(node_id)
        answer = await self._transport.ask(node, _groups(node).FetchOffsets(message, **self._transport.options()))
        found: dict[TopicPartition, OffsetAndMetadata | ClientError | None] = {}
        for one in answer.offsets:
            committed = None if one.offset < 0 else OffsetAndMetadata(one.offset, one.metadata, one.leader_epoch)
            found[partition_of(one.partition)] = error_of(one) or committed
        return found

    async def delete_offsets(self, node_id: int, group_id: str, partitions: Sequence[TopicPartition]) -> Outcomes:
        message = groups_pb2.DeleteOffsetsRequest(
            group_id=group_id, partitions=[partition_message(one) for one in partitions]
        )
        node = self._transport.node(node_id)
        answer = await self._transport.ask(node, _groups(node).DeleteOffsets(message, **self._transport.options()))
        return outcomes_of(answer.partitions)

    async def list_groups(self, node_id: int, *, states: Sequence[str], types: Sequence[str]) -> list[GroupListing]:
        message = groups_pb2.ListGroupsRequest(states=states, types=types)
        node = self._transport.node(node_id)
        answer = await self._transport.ask(node, _groups(node).ListGroups(message, **self._transport.options()))
        return [
            GroupListing(group_id=one.group_id, type=one.type, state=one.state, protocol_type=one.protocol_type)
            for one in answer.groups
        ]

    async def describe_group(self, node_id: int, group_id: str) -> GroupDescription:
        message = groups_pb2.DescribeGroupsRequest(group_ids=[group_id])
        node = self._transport.node(node_id)
        answer = await self._transport.ask(node, _groups(node).DescribeGroups(message, **self._transport.options()))
        [one] = answer.groups
        error = error_of(one)
        if error is not None:
            raise error
        return GroupDescription(
            group_id=one.group_id,
            type=one.type,
            state=one.state,
            protocol_type=one.protocol_type,
            assignor=one.assignor,
            group_epoch=one.group_epoch,
            assignment_epoch=one.assignment_epoch,
            members=tuple(_member_of(member) for member in one.members),
            coordinator_id=node_id,
        )

    async def delete_group(self, node_id: int, group_id: str) -> None:
        message = groups_pb2.DeleteGroupsRequest(group_ids=[group_id])
        node = self._transport.node(node_id)
        answer = await self._transport.ask(node, _groups(node).DeleteGroups(message, **self._transport.options()))
        [one] = answer.groups
        error = error_of(one)
        if error is not None:
            raise error


def _groups(node: "Connection") -> "GroupsAsyncStub":
    return cast("GroupsAsyncStub", groups_pb2_grpc.GroupsStub(node.channel))


def _owned(owned: Mapping[bytes, Sequence[int]]) -> groups_pb2.OwnedPartitions:
    return groups_pb2.OwnedPartitions(
        topics=[groups_pb2.TopicIdPartitions(topic_id=one, partitions=indexes) for one, indexes in owned.items()]
    )


def membership_message(group: GroupMetadata) -> groups_pb2.GroupMembership | None:
    """Under which membership offsets are committed; None: nobody's."""
    if group.member_epoch < 0:
        return None
    return groups_pb2.GroupMembership(
        member_id=group.member_id, member_epoch=group.member_epoch, instance_id=group.instance_id
    )


def offset_messages(offsets: GroupOffsets) -> list[groups_pb2.OffsetToCommit]:
    """What is to be committed."""
    return [
        groups_pb2.OffsetToCommit(
            partition=partition_message(partition),
            offset=one.offset,
            leader_epoch=one.leader_epoch if one.leader_epoch >= 0 else None,
            metadata=one.metadata,
        )
        for partition, one in offsets.items()
    ]


def outcomes_of(outcomes: Iterable[replicas_pb2.PartitionOutcome]) -> Outcomes:
    """What became of each partition."""
    return {partition_of(one.partition): error_of(one) for one in outcomes}


def _member_of(one: groups_pb2.GroupMember) -> GroupMember:
    return GroupMember(
        member_id=one.member_id,
        instance_id=one.instance_id if one.HasField("instance_id") else None,
        rack_id=one.rack_id if one.HasField("rack_id") else None,
        client_id=one.client_id,
        client_host=one.client_host,
        member_epoch=one.member_epoch,
        topics=tuple(one.topics),
        topic_regex=one.topic_regex if one.HasField("topic_regex") else None,
        assignment=tuple(partition_of(partition) for partition in one.assignment),
        target=tuple(partition_of(partition) for partition in one.target),
    )

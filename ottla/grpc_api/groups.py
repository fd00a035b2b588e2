"""The Groups service."""

from typing import TYPE_CHECKING

from ottla.broker.broker import Broker
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.grpc_api.calls import ask
from ottla.grpc_api.coordination import GROUP, by_topic, outcome, raise_refusal
from ottla.grpc_api.errors import Context, detail, telling_errors
from ottla.grpc_api.group_descriptions import describe_groups
from ottla.protocol.apis import ApiKey
from ottla.v1 import groups_pb2 as pb
from ottla.v1 import replicas_pb2
from ottla.v1.groups_pb2_grpc import GroupsServicer

if TYPE_CHECKING:
    from ottla.protocol.messages.consumer_group_heartbeat_request import TopicPartitions
    from ottla.protocol.messages.consumer_group_heartbeat_response import Assignment

NAMES_UNTIL = 9  # the last versions of OffsetCommit and OffsetFetch that name topics; later ones have ids


class Groups(GroupsServicer):
    """Handlers of the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @telling_errors
    async def Heartbeat(self, request: pb.GroupHeartbeatRequest, context: Context) -> pb.GroupHeartbeatResponse:
        """ConsumerGroupHeartbeat."""
        from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest

        subscription = request.subscription if request.HasField("subscription") else None
        message = ConsumerGroupHeartbeatRequest(
            group_id=request.group_id,
            member_id=request.member_id,
            member_epoch=request.member_epoch,
            instance_id=request.instance_id if request.HasField("instance_id") else None,
            rack_id=request.rack_id if request.HasField("rack_id") else None,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            subscribed_topic_names=None if subscription is None else list(subscription.topics),
            subscribed_topic_regex=None if subscription is None else subscription.topic_regex or None,
            server_assignor=request.server_assignor if request.HasField("server_assignor") else None,
            topic_partitions=_owned(request.owned) if request.HasField("owned") else None,
        )
        answer = await ask(self._broker, ApiKey.CONSUMER_GROUP_HEARTBEAT, message, context)
        await self._check(answer.error_code, request.group_id, context, answer.error_message)
        return pb.GroupHeartbeatResponse(
            member_id=answer.member_id or request.member_id,
            member_epoch=answer.member_epoch,
            heartbeat_interval_ms=answer.heartbeat_interval_ms,
            assignment=None if answer.assignment is None else self._assignment(answer.assignment),
        )

    @telling_errors
    async def CommitOffsets(self, request: pb.CommitOffsetsRequest, context: Context) -> pb.CommitOffsetsResponse:
        """OffsetCommit."""
        from ottla.protocol.messages import offset_commit_request as messages

        topics: dict[str, list[messages.OffsetCommitRequestPartition]] = {}
        for one in request.offsets:
            topics.setdefault(one.partition.topic, []).append(
                messages.OffsetCommitRequestPartition(
                    partition_index=one.partition.partition,
                    committed_offset=one.offset,
                    committed_leader_epoch=one.leader_epoch if one.HasField("leader_epoch") else -1,
                    committed_metadata=one.metadata,
                )
            )
        member = request.member if request.HasField("member") else None
        message = messages.OffsetCommitRequest(
            group_id=request.group_id,
            generation_id_or_member_epoch=-1 if member is None else member.member_epoch,
            member_id="" if member is None else member.member_id,
            group_instance_id=member.instance_id if member is not None and member.HasField("instance_id") else None,
            topics=[messages.OffsetCommitRequestTopic(name=name, partitions=its) for name, its in topics.items()],
        )
        answer = await ask(self._broker, ApiKey.OFFSET_COMMIT, message, context, NAMES_UNTIL)
        found = [(topic.name, part) for topic in answer.topics for part in topic.partitions]
        if found and all(part.error_code == ErrorCode.NOT_COORDINATOR for _, part in found):
            await self._check(ErrorCode.NOT_COORDINATOR, request.group_id, context)
        return pb.CommitOffsetsResponse(
            partitions=[outcome(name, part.partition_index, part.error_code) for name, part in found]
        )

    @telling_errors
    async def FetchOffsets(self, request: pb.FetchOffsetsRequest, context: Context) -> pb.FetchOffsetsResponse:
        """OffsetFetch, of one group."""
        from ottla.protocol.messages import offset_fetch_request as messages

        member = request.member if request.HasField("member") else None
        topics = [
            messages.OffsetFetchRequestTopics(name=name, partition_indexes=indexes)
            for name, indexes in by_topic(request.partitions).items()
        ]
        group = messages.OffsetFetchRequestGroup(
            group_id=request.group_id,
            member_id=None if member is None else member.member_id,
            member_epoch=-1 if member is None else member.member_epoch,
            topics=topics or None,
        )
        message = messages.OffsetFetchRequest(groups=[group], require_stable=request.require_stable)
        answer = await ask(self._broker, ApiKey.OFFSET_FETCH, message, context, NAMES_UNTIL)
        [of_group] = answer.groups
        await self._check(of_group.error_code, request.group_id, context)
        return pb.FetchOffsetsResponse(
            offsets=[
                pb.CommittedOffset(
                    partition=replicas_pb2.TopicPartition(topic=topic.name, partition=part.partition_index),
                    error=detail(part.error_code, None, topic.name, part.partition_index),
                    offset=part.committed_offset,
                    leader_epoch=part.committed_leader_epoch,
                    metadata=part.metadata or "",
                )
                for topic in of_group.topics
                for part in topic.partitions
            ]
        )

    @telling_errors
    async def DeleteOffsets(self, request: pb.DeleteOffsetsRequest, context: Context) -> pb.DeleteOffsetsResponse:
        """OffsetDelete."""
        from ottla.protocol.messages import offset_delete_request as messages

        topics = [
            messages.OffsetDeleteRequestTopic(
                name=name, partitions=[messages.OffsetDeleteRequestPartition(partition_index=one) for one in indexes]
            )
            for name, indexes in by_topic(request.partitions).items()
        ]
        message = messages.OffsetDeleteRequest(group_id=request.group_id, topics=topics)
        answer = await ask(self._broker, ApiKey.OFFSET_DELETE, message, context)
        await self._check(answer.error_code, request.group_id, context)
        return pb.DeleteOffsetsResponse(
            partitions=[
                outcome(topic.name, part.partition_index, part.error_code)
                for topic in answer.topics
                for part in topic.partitions
            ]
        )

    @telling_errors
    async def ListGroups(self, request: pb.ListGroupsRequest, context: Context) -> pb.ListGroupsResponse:
        """ListGroups."""
        from ottla.protocol.messages.list_groups_request import ListGroupsRequest

        message = ListGroupsRequest(states_filter=list(request.states), types_filter=list(request.types))
        answer = await ask(self._broker, ApiKey.LIST_GROUPS, message, context)
        if answer.error_code:
            raise ApiError(ErrorCode(answer.error_code))
        return pb.ListGroupsResponse(
            groups=[
                pb.GroupListing(
                    group_id=one.group_id,
                    type=one.group_type.lower(),
                    state=one.group_state,
                    protocol_type=one.protocol_type,
                )
                for one in answer.groups
            ]
        )

    @telling_errors
    async def DescribeGroups(self, request: pb.DescribeGroupsRequest, context: Context) -> pb.DescribeGroupsResponse:
        """ConsumerGroupDescribe, and DescribeGroups for groups of the classic protocol."""
        return pb.DescribeGroupsResponse(groups=await describe_groups(self._broker, request.group_ids, context))

    @telling_errors
    async def DeleteGroups(self, request: pb.DeleteGroupsRequest, context: Context) -> pb.DeleteGroupsResponse:
        """DeleteGroups."""
        from ottla.protocol.messages.delete_groups_request import DeleteGroupsRequest

        message = DeleteGroupsRequest(groups_names=list(request.group_ids))
        answer = await ask(self._broker, ApiKey.DELETE_GROUPS, message, context)
        return pb.DeleteGroupsResponse(
            groups=[
                pb.DeleteGroupResult(group_id=one.group_id, error=detail(one.error_code, None))
                for one in answer.results
            ]
        )

    async def _check(self, code: int, group_id: str, context: Context, message: str | None = None) -> None:
        await raise_refusal(self._broker, code, GROUP, group_id, context, message)

    def _assignment(self, assignment: "Assignment") -> pb.OwnedPartitions:
        names = self._broker.image.topics_by_id
        return pb.OwnedPartitions(
            topics=[
                pb.TopicIdPartitions(
                    topic_id=one.topic_id,
                    topic=names[one.topic_id].name if one.topic_id in names else "",
                    partitions=one.partitions,
                )
                for one in assignment.topic_partitions
            ]
        )


def _owned(owned: pb.OwnedPartitions) -> "list[TopicPartitions]":
    from ottla.protocol.messages.consumer_group_heartbeat_request import TopicPartitions

    for one in owned.topics:
        if len(one.topic_id) != 16:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"a topic id has 16 bytes, not {len(one.topic_id)}")
    return [TopicPartitions(topic_id=Uuid(one.topic_id), partitions=list(one.partitions)) for one in owned.topics]

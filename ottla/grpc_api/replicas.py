"""The Replicas service: where replicas are, who leads, how far followers are."""

from typing import TYPE_CHECKING

from ottla.broker.broker import Broker
from ottla.core.errors import ApiError, ErrorCode
from ottla.grpc_api.calls import ask
from ottla.grpc_api.errors import Context, detail, telling_errors
from ottla.protocol.apis import ApiKey
from ottla.v1 import replicas_pb2 as pb
from ottla.v1.replicas_pb2_grpc import ReplicasServicer

if TYPE_CHECKING:
    from ottla.partitions.replication.leading import Leading


class Replicas(ReplicasServicer):
    """Handlers of the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @telling_errors
    async def AlterReassignments(
        self, request: pb.AlterReassignmentsRequest, context: Context
    ) -> pb.AlterReassignmentsResponse:
        """AlterPartitionReassignments."""
        from ottla.protocol.messages import alter_partition_reassignments_request as messages

        topics: dict[str, list[messages.ReassignablePartition]] = {}
        for one in request.partitions:
            topics.setdefault(one.partition.topic, []).append(
                messages.ReassignablePartition(
                    partition_index=one.partition.partition, replicas=list(one.replica_ids) or None
                )
            )
        answer = await ask(
            self._broker,
            ApiKey.ALTER_PARTITION_REASSIGNMENTS,
            messages.AlterPartitionReassignmentsRequest(
                allow_replication_factor_change=not request.keep_replication_factor,
                topics=[messages.ReassignableTopic(name=name, partitions=its) for name, its in topics.items()],
            ),
            context,
        )
        _raise(answer.error_code, answer.error_message)
        return pb.AlterReassignmentsResponse(
            partitions=[
                _outcome(topic.name, one.partition_index, one.error_code, one.error_message)
                for topic in answer.responses
                for one in topic.partitions
            ]
        )

    @telling_errors
    async def ListReassignments(
        self, request: pb.ListReassignmentsRequest, context: Context
    ) -> pb.ListReassignmentsResponse:
        """ListPartitionReassignments, of all."""
        from ottla.protocol.messages import list_partition_reassignments_request as messages

        answer = await ask(
            self._broker,
            ApiKey.LIST_PARTITION_REASSIGNMENTS,
            messages.ListPartitionReassignmentsRequest(topics=None),
            context,
        )
        _raise(answer.error_code, answer.error_message)
        return pb.ListReassignmentsResponse(
            partitions=[
                pb.Reassignment(
                    partition=pb.TopicPartition(topic=topic.name, partition=one.partition_index),
                    replica_ids=one.replicas,
                    adding_replica_ids=one.adding_replicas,
                    removing_replica_ids=one.removing_replicas,
                )
                for topic in answer.topics
                for one in topic.partitions
            ]
        )

    @telling_errors
    async def ElectLeaders(self, request: pb.ElectLeadersRequest, context: Context) -> pb.ElectLeadersResponse:
        """ElectLeaders."""
        from ottla.protocol.messages import elect_leaders_request as messages

        topics: dict[str, list[int]] = {}
        for one in request.partitions:
            topics.setdefault(one.topic, []).append(one.partition)
        wanted = [messages.TopicPartitions(topic=name, partitions=indexes) for name, indexes in topics.items()]
        answer = await ask(
            self._broker,
            ApiKey.ELECT_LEADERS,
            messages.ElectLeadersRequest(election_type=int(request.type), topic_partitions=wanted or None),
            context,
        )
        _raise(answer.error_code, None)
        return pb.ElectLeadersResponse(
            partitions=[
                _outcome(topic.topic, one.partition_id, one.error_code, one.error_message)
                for topic in answer.replica_election_results
                for one in topic.partition_result
            ]
        )

    @telling_errors
    async def DescribeReplicas(
        self, request: pb.DescribeReplicasRequest, context: Context
    ) -> pb.DescribeReplicasResponse:
        """From the leaderships of this node. Partitions with one replica have no followers, and are left out."""
        topics = set(request.topics)
        return pb.DescribeReplicasResponse(
            partitions=[
                _progress(leading)
                for leading in self._broker.replication.leaderships()
                if not topics or leading.partition.topic in topics
            ]
        )


def _progress(leading: "Leading") -> pb.PartitionReplicas:
    partition, state = leading.partition, leading.state
    return pb.PartitionReplicas(
        partition=pb.TopicPartition(topic=partition.topic, partition=partition.index),
        leader_epoch=state.leader_epoch,
        high_watermark=state.high_watermark,
        log_end_offset=state.log_end_offset,
        followers=[
            pb.FollowerReplica(node_id=node, log_end_offset=follower.log_end_offset, lag=state.lag(node))
            for node, follower in state.followers.items()
        ],
    )


def _outcome(topic: str, index: int, code: int, message: str | None) -> pb.PartitionOutcome:
    return pb.PartitionOutcome(
        partition=pb.TopicPartition(topic=topic, partition=index), error=detail(code, message, topic, index)
    )


def _raise(code: int, message: str | None) -> None:
    if code:
        raise ApiError(ErrorCode(code), message or "")

"""What operators ask of a cluster, over gRPC: the services Membership and Replicas."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from ottla.client.errors import ClientError
from ottla.client.grpc_convert import error_of, partition_message, partition_of, topic_id
from ottla.client.operations import QuorumDescription, QuorumMember, Reassignment, ReplicaProgress
from ottla.client.types import TopicPartition
from ottla.v1 import membership_pb2, membership_pb2_grpc, replicas_pb2, replicas_pb2_grpc

if TYPE_CHECKING:
    from ottla.client.grpc_transport import Connection, GrpcTransport
    from ottla.v1.membership_pb2_grpc import MembershipAsyncStub
    from ottla.v1.replicas_pb2_grpc import ReplicasAsyncStub


class GrpcOperations:
    """Implements `operations.Operations` on the transport's connections."""

    def __init__(self, transport: "GrpcTransport") -> None:
        self._transport = transport

    async def describe_quorum(self) -> QuorumDescription:
        request = membership_pb2.DescribeQuorumRequest()
        transport = self._transport
        answer = await transport.ask_any(lambda node: _membership(node).DescribeQuorum(request, **transport.options()))
        return QuorumDescription(
            leader_id=answer.leader_id,
            term=answer.term,
            commit_index=answer.commit_index,
            voters=_members(answer.voters),
            observers=_members(answer.observers),
        )

    async def add_voter(self, node_id: int, *, timeout_ms: int) -> None:
        request = membership_pb2.AddVoterRequest(node_id=node_id, timeout_ms=timeout_ms)
        options = self._transport.options(timeout_ms)
        await self._transport.ask_any(lambda node: _membership(node).AddVoter(request, **options))

    async def remove_voter(self, node_id: int) -> None:
        request = membership_pb2.RemoveVoterRequest(node_id=node_id)
        options = self._transport.options()
        await self._transport.ask_any(lambda node: _membership(node).RemoveVoter(request, **options))

    async def transfer_leadership(self, leader_id: int, node_id: int) -> None:
        request = membership_pb2.TransferLeadershipRequest(node_id=node_id)
        transport = self._transport
        leader = transport.node(leader_id)
        await transport.ask(leader, _membership(leader).TransferLeadership(request, **transport.options()))

    async def unregister_node(self, node_id: int) -> None:
        request = membership_pb2.UnregisterNodeRequest(node_id=node_id)
        options = self._transport.options()
        await self._transport.ask_any(lambda node: _membership(node).UnregisterNode(request, **options))

    async def replace_node(self, leader_id: int, node_id: int, *, accept_loss: bool) -> list[TopicPartition]:
        request = membership_pb2.ReplaceNodeRequest(node_id=node_id, accept_loss=accept_loss)
        transport = self._transport
        leader = transport.node(leader_id)
        answer = await transport.ask(leader, _membership(leader).ReplaceNode(request, **transport.options()))
        return [TopicPartition(one.topic, one.partition) for one in answer.lost]

    async def alter_reassignments(
        self, replicas: Mapping[TopicPartition, Sequence[int] | None], *, keep_replication_factor: bool
    ) -> dict[TopicPartition, ClientError | None]:
        request = replicas_pb2.AlterReassignmentsRequest(
            keep_replication_factor=keep_replication_factor,
            partitions=[
                replicas_pb2.NewReplicas(partition=partition_message(partition), replica_ids=nodes or ())
                for partition, nodes in replicas.items()
            ],
        )
        options = self._transport.options()
        answer = await self._transport.ask_any(lambda node: _replicas(node).AlterReassignments(request, **options))
        return _outcomes(answer.partitions)

    async def list_reassignments(self) -> dict[TopicPartition, Reassignment]:
        request = replicas_pb2.ListReassignmentsRequest()
        options = self._transport.options()
        answer = await self._transport.ask_any(lambda node: _replicas(node).ListReassignments(request, **options))
        return {
            partition_of(one.partition): Reassignment(
                replica_ids=tuple(one.replica_ids),
                adding_replica_ids=tuple(one.adding_replica_ids),
                removing_replica_ids=tuple(one.removing_replica_ids),
            )
            for one in answer.partitions
        }

    async def elect_leaders(
        self, partitions: Sequence[TopicPartition] | None, *, unclean: bool
    ) -> dict[TopicPartition, ClientError | None]:
        if partitions is not None and not partitions:
            return {}  # to the service, none mean all
        kind = replicas_pb2.ELECTION_TYPE_UNCLEAN if unclean else replicas_pb2.ELECTION_TYPE_PREFERRED
        request = replicas_pb2.ElectLeadersRequest(
            type=kind, partitions=[partition_message(one) for one in partitions or ()]
        )
        options = self._transport.options()
        answer = await self._transport.ask_any(lambda node: _replicas(node).ElectLeaders(request, **options))
        return _outcomes(answer.partitions)

    async def describe_replicas(self, node_id: int, topics: Sequence[str]) -> dict[TopicPartition, ReplicaProgress]:
        request = replicas_pb2.DescribeReplicasRequest(topics=topics)
        transport = self._transport
        node = transport.node(node_id)
        answer = await transport.ask(node, _replicas(node).DescribeReplicas(request, **transport.options()))
        return {
            partition_of(one.partition): ReplicaProgress(
                high_watermark=one.high_watermark,
                log_end_offset=one.log_end_offset,
                lags={follower.node_id: follower.lag for follower in one.followers},
            )
            for one in answer.partitions
        }


def _membership(node: "Connection") -> "MembershipAsyncStub":
    return cast("MembershipAsyncStub", membership_pb2_grpc.MembershipStub(node.channel))


def _replicas(node: "Connection") -> "ReplicasAsyncStub":
    return cast("ReplicasAsyncStub", replicas_pb2_grpc.ReplicasStub(node.channel))


def _members(members: Iterable[membership_pb2.QuorumMember]) -> tuple[QuorumMember, ...]:
    return tuple(
        QuorumMember(
            node_id=one.node_id,
            directory_id=topic_id(one.directory_id),
            log_end_index=one.log_end_index,
            endpoint=one.endpoint,
        )
        for one in members
    )


def _outcomes(outcomes: Iterable[replicas_pb2.PartitionOutcome]) -> dict[TopicPartition, ClientError | None]:
    return {partition_of(one.partition): error_of(one) for one in outcomes}

"""The Membership service: the quorum, and nodes that come and go."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.broker.broker import Broker
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.grpc_api.calls import ask
from ottla.grpc_api.errors import Context, telling_errors
from ottla.protocol.apis import ApiKey
from ottla.v1 import membership_pb2 as pb
from ottla.v1.membership_pb2_grpc import MembershipServicer

if TYPE_CHECKING:
    from ottla.protocol.messages.describe_quorum_response import Listener, ReplicaState

MAX_ADD_MS = 15_000


class Membership(MembershipServicer):
    """Handlers of the broker; what Kafka has no request for is done on the leader's node alone."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @telling_errors
    async def DescribeQuorum(self, request: pb.DescribeQuorumRequest, context: Context) -> pb.DescribeQuorumResponse:
        """DescribeQuorum."""
        from ottla.broker.describe_quorum import METADATA_TOPIC
        from ottla.protocol.messages import describe_quorum_request as messages

        topic = messages.TopicData(topic_name=METADATA_TOPIC, partitions=[messages.PartitionData(partition_index=0)])
        answer = await ask(
            self._broker, ApiKey.DESCRIBE_QUORUM, messages.DescribeQuorumRequest(topics=[topic]), context
        )
        _raise(answer.error_code, answer.error_message)
        endpoints = {node.node_id: node.listeners[0] for node in answer.nodes if node.listeners}
        partition = answer.topics[0].partitions[0]

        return pb.DescribeQuorumResponse(
            leader_id=partition.leader_id,
            term=partition.leader_epoch,
            commit_index=partition.high_watermark,
            voters=[_member(state, endpoints) for state in partition.current_voters],
            observers=[_member(state, endpoints) for state in partition.observers],
        )

    @telling_errors
    async def AddVoter(self, request: pb.AddVoterRequest, context: Context) -> pb.AddVoterResponse:
        """AddRaftVoter, of a broker that is registered: so it is known where it is."""
        from ottla.protocol.messages import add_raft_voter_request as messages

        node = self._broker.image.brokers.get(NodeId(request.node_id))
        if node is None or node.internal is None:
            raise ApiError(
                ErrorCode.BROKER_ID_NOT_REGISTERED,
                f"Node {request.node_id} is not registered: format it for this cluster and start it first.",
            )
        answer = await ask(
            self._broker,
            ApiKey.ADD_RAFT_VOTER,
            messages.AddRaftVoterRequest(
                cluster_id=None,
                timeout_ms=min(request.timeout_ms or MAX_ADD_MS, MAX_ADD_MS),
                voter_id=node.id,
                voter_directory_id=node.directory_id,
                listeners=[messages.Listener(name="INTERNAL", host=node.internal.host, port=node.internal.port)],
            ),
            context,
        )
        _raise(answer.error_code, answer.error_message)
        return pb.AddVoterResponse()

    @telling_errors
    async def RemoveVoter(self, request: pb.RemoveVoterRequest, context: Context) -> pb.RemoveVoterResponse:
        """RemoveRaftVoter, of whatever directory the node votes with."""
        from ottla.protocol.messages import remove_raft_voter_request as messages

        known = await self.DescribeQuorum(pb.DescribeQuorumRequest(), context)
        member = next((one for one in (*known.voters, *known.observers) if one.node_id == request.node_id), None)
        if member is None:
            raise ApiError(ErrorCode.VOTER_NOT_FOUND, f"Node {request.node_id} is not a voter.")
        answer = await ask(
            self._broker,
            ApiKey.REMOVE_RAFT_VOTER,
            messages.RemoveRaftVoterRequest(
                cluster_id=None, voter_id=member.node_id, voter_directory_id=Uuid(member.directory_id)
            ),
            context,
        )
        _raise(answer.error_code, answer.error_message)
        return pb.RemoveVoterResponse()

    @telling_errors
    async def TransferLeadership(
        self, request: pb.TransferLeadershipRequest, context: Context
    ) -> pb.TransferLeadershipResponse:
        """Answered when the other node leads."""
        from ottla.broker.quorum_voters import refused
        from ottla.core.errors import OttlaError

        try:
            await self._broker.controller.local.quorum.transfer_leadership(NodeId(request.node_id))
        except OttlaError as error:
            raise refused(error) from error
        return pb.TransferLeadershipResponse()

    @telling_errors
    async def UnregisterNode(self, request: pb.UnregisterNodeRequest, context: Context) -> pb.UnregisterNodeResponse:
        """UnregisterBroker."""
        from ottla.protocol.messages.unregister_broker_request import UnregisterBrokerRequest

        answer = await ask(
            self._broker, ApiKey.UNREGISTER_BROKER, UnregisterBrokerRequest(broker_id=request.node_id), context
        )
        _raise(answer.error_code, answer.error_message)
        return pb.UnregisterNodeResponse()

    @telling_errors
    async def ReplaceNode(self, request: pb.ReplaceNodeRequest, context: Context) -> pb.ReplaceNodeResponse:
        """The node may register with an empty directory once."""
        lost = await self._broker.controller.local.replace_broker(
            NodeId(request.node_id), accept_loss=request.accept_loss
        )
        return pb.ReplaceNodeResponse(lost=[pb.LostPartition(topic=name, partition=index) for name, index in lost])


def _member(state: "ReplicaState", endpoints: Mapping[int, "Listener"]) -> pb.QuorumMember:
    at = endpoints.get(state.replica_id)
    return pb.QuorumMember(
        node_id=state.replica_id,
        directory_id=state.replica_directory_id,
        log_end_index=state.log_end_offset,
        endpoint="" if at is None else f"[{at.host}]:{at.port}" if ":" in at.host else f"{at.host}:{at.port}",
    )


def _raise(code: int, message: str | None) -> None:
    if code:
        raise ApiError(ErrorCode(code), message or "")

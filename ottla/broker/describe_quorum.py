"""DescribeQuorum (KIP-595, KIP-836, KIP-853): who votes on the cluster's metadata, and how far each one is.

Offsets are indexes of the metadata log. Besides the voters there are observers: nodes that are being added, and
brokers that merely follow, whose offset is what they last told the controller.
"""

from collections.abc import Iterable
from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.protocol.messages.describe_quorum_request import DescribeQuorumRequest
from ottla.protocol.messages.describe_quorum_response import (
    DescribeQuorumResponse,
    Listener,
    Node,
    PartitionData,
    ReplicaState,
    TopicData,
)
from ottla.raft.quorum import Member, Quorum

METADATA_TOPIC: Final = "__cluster_metadata"
LISTENER: Final = "INTERNAL"
_NEVER: Final = -1


async def describe_quorum(
    broker: Broker, request: DescribeQuorumRequest, context: RequestContext
) -> DescribeQuorumResponse:
    """From the leader, which alone knows how far the others are."""
    try:
        quorum = broker.controller.local.quorum
    except ApiError as error:
        return DescribeQuorumResponse(error_code=error.code, error_message=error.message or None)
    topics = [
        TopicData(
            topic_name=topic.topic_name,
            partitions=[_partition(broker, quorum, topic.topic_name, one.partition_index) for one in topic.partitions],
        )
        for topic in request.topics
    ]
    nodes = [
        Node(node_id=member.node, listeners=[Listener(name=LISTENER, host=host.strip("[]"), port=int(port))])
        for member, endpoint in quorum.membership.endpoints.items()
        for host, _, port in [endpoint.rpartition(":")]
    ]
    return DescribeQuorumResponse(error_message=None, topics=topics, nodes=nodes)


def _partition(broker: Broker, quorum: Quorum, topic: str, index: int) -> PartitionData:
    if topic != METADATA_TOPIC or index != 0:
        return PartitionData(
            partition_index=index, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, error_message=None, leader_id=-1
        )
    membership = quorum.membership
    return PartitionData(
        partition_index=index,
        error_message=None,
        leader_id=broker.settings.node_id,
        leader_epoch=quorum.term,
        high_watermark=quorum.commit_index,
        current_voters=_states(broker, quorum, membership.voters),
        observers=_states(broker, quorum, membership.learners)
        + _followers(broker, {m.node for m in membership.members}),
    )


def _states(broker: Broker, quorum: Quorum, members: Iterable[Member]) -> list[ReplicaState]:
    matched, end = quorum.matched(), quorum.last_index
    now_ms = broker.clock.time_ms()
    states = []
    for member in sorted(members):
        index = end if member.node == broker.settings.node_id else matched.get(member, 0)
        at_ms = now_ms if index >= quorum.commit_index else _NEVER
        states.append(
            ReplicaState(
                replica_id=member.node,
                replica_directory_id=member.directory,
                log_end_offset=index,
                last_fetch_timestamp=at_ms,
                last_caught_up_timestamp=at_ms,
            )
        )
    return states


def _followers(broker: Broker, members: set[NodeId]) -> list[ReplicaState]:
    return [
        ReplicaState(
            replica_id=one.id,
            replica_directory_id=one.directory_id,
            log_end_offset=broker.control.guard.metadata_offset(one.id),
        )
        for one in broker.image.brokers.values()
        if one.id not in members and not one.fenced
    ]

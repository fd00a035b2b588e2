"""AlterPartitionReassignments and ListPartitionReassignments (KIP-455, KIP-860): replicas that move to others."""

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.controller.requests import OngoingReassignment, Reassignment
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import alter_partition_reassignments_response as altered
from ottla.protocol.messages import list_partition_reassignments_response as listed
from ottla.protocol.messages.alter_partition_reassignments_request import AlterPartitionReassignmentsRequest
from ottla.protocol.messages.list_partition_reassignments_request import ListPartitionReassignmentsRequest


async def alter_partition_reassignments(
    broker: Broker, request: AlterPartitionReassignmentsRequest, context: RequestContext
) -> altered.AlterPartitionReassignmentsResponse:
    """Answered when the moves have begun, or are cancelled; ListPartitionReassignments tells how far they are."""
    wanted = [
        Reassignment(topic=topic.name, partition=one.partition_index, replicas=one.replicas)
        for topic in request.topics
        for one in topic.partitions
    ]
    allow = request.allow_replication_factor_change
    try:
        outcomes = await broker.controller.local.alter_partition_reassignments(
            wanted, allow_replication_factor_change=allow
        )
    except ApiError as error:
        return altered.AlterPartitionReassignmentsResponse(
            allow_replication_factor_change=allow, error_code=error.code, error_message=error.message or None
        )
    topics: dict[str, list[altered.ReassignablePartitionResponse]] = {topic.name: [] for topic in request.topics}
    for one in outcomes:
        topics[one.topic].append(
            altered.ReassignablePartitionResponse(
                partition_index=one.partition,
                error_code=one.error.code if one.error else ErrorCode.NONE,
                error_message=(one.error.message or None) if one.error else None,
            )
        )
    return altered.AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=allow,
        error_message=None,
        responses=[
            altered.ReassignableTopicResponse(name=name, partitions=partitions) for name, partitions in topics.items()
        ],
    )


async def list_partition_reassignments(
    broker: Broker, request: ListPartitionReassignmentsRequest, context: RequestContext
) -> listed.ListPartitionReassignmentsResponse:
    """What is under way, of the partitions that are named or of all."""
    wanted = None
    if request.topics is not None:
        wanted = [(topic.name, index) for topic in request.topics for index in topic.partition_indexes]
    try:
        found = await broker.controller.local.list_partition_reassignments(wanted)
    except ApiError as error:
        return listed.ListPartitionReassignmentsResponse(
            error_code=error.code, error_message=error.message or None, topics=[]
        )
    topics: dict[str, list[OngoingReassignment]] = {}
    for one in found:
        topics.setdefault(one.topic, []).append(one)
    return listed.ListPartitionReassignmentsResponse(
        error_message=None,
        topics=[
            listed.OngoingTopicReassignment(name=name, partitions=[_ongoing(one) for one in ongoing])
            for name, ongoing in topics.items()
        ],
    )


def _ongoing(one: OngoingReassignment) -> listed.OngoingPartitionReassignment:
    return listed.OngoingPartitionReassignment(
        partition_index=one.partition,
        replicas=list(one.replicas),
        adding_replicas=list(one.adding),
        removing_replicas=list(one.removing),
    )

"""ElectLeaders (KIP-460): the preferred leader, or, when records may be lost, any replica that is there."""

from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.controller.requests import ElectionType
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.elect_leaders_request import ElectLeadersRequest
from ottla.protocol.messages.elect_leaders_response import (
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

_TYPES_SINCE: Final = 1  # before, only preferred leaders could be asked for


async def elect_leaders(broker: Broker, request: ElectLeadersRequest, context: RequestContext) -> ElectLeadersResponse:
    """Of all partitions only those are named that an election changed, or could not."""
    try:
        election = ElectionType(request.election_type if context.api_version >= _TYPES_SINCE else 0)
    except ValueError:
        return ElectLeadersResponse(error_code=ErrorCode.INVALID_REQUEST)
    wanted = None
    if request.topic_partitions is not None:
        wanted = [(topic.topic, index) for topic in request.topic_partitions for index in topic.partitions]
    try:
        outcomes = await broker.controller.local.elect_leaders(election, wanted)
    except ApiError as error:
        return ElectLeadersResponse(error_code=error.code)
    topics: dict[str, list[PartitionResult]] = {}
    for one in outcomes:
        topics.setdefault(one.topic, []).append(
            PartitionResult(
                partition_id=one.partition,
                error_code=one.error.code if one.error else ErrorCode.NONE,
                error_message=(one.error.message or None) if one.error else None,
            )
        )
    return ElectLeadersResponse(
        replica_election_results=[
            ReplicaElectionResult(topic=name, partition_result=results) for name, results in topics.items()
        ]
    )

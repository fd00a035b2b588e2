"""DescribeCluster: the brokers, as they are reached through the client's listener; UnregisterBroker."""

from enum import IntEnum

from ottla.broker.authorized_operations import CLUSTER_OPERATIONS, NOT_ASKED_FOR
from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId, format_uuid
from ottla.protocol.messages.describe_cluster_request import DescribeClusterRequest
from ottla.protocol.messages.describe_cluster_response import DescribeClusterBroker, DescribeClusterResponse
from ottla.protocol.messages.unregister_broker_request import UnregisterBrokerRequest
from ottla.protocol.messages.unregister_broker_response import UnregisterBrokerResponse


class EndpointType(IntEnum):
    """Kafka's numbers of what a client wants to be told about."""

    BROKERS = 1
    CONTROLLERS = 2


async def describe_cluster(
    broker: Broker, request: DescribeClusterRequest, context: RequestContext
) -> DescribeClusterResponse:
    """Fenced brokers are left out unless they are asked for."""
    if request.endpoint_type == EndpointType.CONTROLLERS:
        return _refuse(request, ErrorCode.MISMATCHED_ENDPOINT_TYPE, "This is a broker's endpoint, not a controller's.")
    if request.endpoint_type != EndpointType.BROKERS:
        return _refuse(request, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, "Unknown endpoint type.")
    return DescribeClusterResponse(
        endpoint_type=request.endpoint_type,
        cluster_id=format_uuid(broker.settings.cluster_id),
        controller_id=broker.shown_controller,
        brokers=[
            DescribeClusterBroker(
                broker_id=one.id, host=endpoint.host, port=endpoint.port, rack=one.rack, is_fenced=one.fenced
            )
            for one in broker.image.brokers.values()
            if (endpoint := one.listeners.get(context.listener)) is not None
            and (request.include_fenced_brokers or not one.fenced)
        ],
        cluster_authorized_operations=(
            CLUSTER_OPERATIONS if request.include_cluster_authorized_operations else NOT_ASKED_FOR
        ),
    )


async def unregister_broker(
    broker: Broker, request: UnregisterBrokerRequest, context: RequestContext
) -> UnregisterBrokerResponse:
    """A broker that does not come back. One that lives registers again at once."""
    try:
        await broker.controller.local.unregister_broker(NodeId(request.broker_id))
    except ApiError as error:
        return UnregisterBrokerResponse(error_code=error.code, error_message=error.message or None)
    return UnregisterBrokerResponse(error_message=None)


def _refuse(request: DescribeClusterRequest, code: ErrorCode, message: str) -> DescribeClusterResponse:
    return DescribeClusterResponse(
        error_code=code, error_message=message, endpoint_type=request.endpoint_type, brokers=[]
    )

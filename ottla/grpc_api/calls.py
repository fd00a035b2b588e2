"""How the services put a request to the broker."""

from typing import Any

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.grpc_api.errors import Context
from ottla.protocol.apis import VERSIONS, ApiKey

# Clients of this door are told the nodes' gRPC endpoints by Cluster.DescribeCluster, never those of a listener.
LISTENER = "GRPC"
CLIENT_ID_KEY = "ottla-client-id"


def client_id_of(context: Context) -> str | None:
    """What the caller calls itself, in the call's metadata."""
    for key, value in context.invocation_metadata() or ():
        if key == CLIENT_ID_KEY and isinstance(value, str):
            return value
    return None


async def ask(broker: Broker, api_key: ApiKey, request: Any, context: Context) -> Any:
    """The broker's answer to a request of the common vocabulary, in its newest version; raises ApiError."""
    host, _, port = context.peer().rpartition(":")
    request_context = RequestContext(
        listener=LISTENER,
        api_version=VERSIONS[api_key][1],
        client_id=client_id_of(context),
        peer_host=host.partition(":")[2].strip("[]") or host,
        peer_port=int(port) if port.isdigit() else 0,
    )
    return await broker.handle(api_key, request, request_context)

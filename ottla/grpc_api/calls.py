"""How the services put a request to the broker."""

from typing import Any
from urllib.parse import unquote

from ottla.broker.broker import Broker
from ottla.broker.context import GRPC_LISTENER, RequestContext
from ottla.broker.handlers import BETWEEN_NODES, HANDLERS
from ottla.core.errors import ApiError, EncodeError, ErrorCode
from ottla.grpc_api.errors import Context
from ottla.protocol.apis import VERSIONS, ApiKey
from ottla.protocol.message import Message

CLIENT_ID_KEY = "ottla-client-id"


def client_id_of(context: Context) -> str | None:
    """What the caller calls itself, in the call's metadata."""
    for key, value in context.invocation_metadata() or ():
        if key == CLIENT_ID_KEY and isinstance(value, str):
            return value
    return None


def address_of(peer: str) -> tuple[str, int]:
    """Host and port of a peer as gRPC names it, a URI: `ipv4:127.0.0.1:5`, `ipv6:%5B::1%5D:5`, `unix:path`."""
    host, _, port = unquote(peer).rpartition(":")
    return host.partition(":")[2].strip("[]") or host, int(port) if port.isdigit() else 0


async def ask(
    broker: Broker, api_key: ApiKey, request: Message, context: Context, api_version: int | None = None
) -> Any:
    """The broker's answer to a request of the common vocabulary, by default in its newest version; raises ApiError.

    gRPC's numbers and strings may be larger than that vocabulary's. What does not fit is refused here, in place of the
    Kafka door's decoder: behind it requests travel on between nodes, and become records.
    """
    if api_key not in HANDLERS and api_key not in BETWEEN_NODES:
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"this node does not serve {api_key.name}")
    version = VERSIONS[api_key][1] if api_version is None else api_version
    try:
        request.encode(version)
    except EncodeError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, str(error)) from None
    peer_host, peer_port = address_of(context.peer())
    request_context = RequestContext(
        listener=GRPC_LISTENER,
        api_version=version,
        client_id=client_id_of(context),
        peer_host=peer_host,
        peer_port=peer_port,
    )
    return await broker.handle(api_key, request, request_context)

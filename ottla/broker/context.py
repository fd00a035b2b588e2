"""Who asks, and how: what a handler may need to know of a request beside its message."""

from dataclasses import dataclass
from typing import Final

from ottla.core.types import NodeId

GRPC_LISTENER: Final = "GRPC"
"""The listener of requests that came in by gRPC: their callers are told the nodes' gRPC endpoints."""


@dataclass(slots=True, kw_only=True)
class RequestContext:
    """One request's surroundings. A door makes one for each connection and sets the version of each request."""

    listener: str  # the listener's name: clients are told the endpoints of the listener that they came in on
    api_version: int
    client_id: str | None = None
    connection_id: int = 0
    peer_host: str = ""
    peer_port: int = 0
    client_software_name: str = ""
    client_software_version: str = ""
    node: NodeId | None = None  # which node of the cluster asks; None: a client
    content_since_ms: float | None = None  # its connection stood then, or Metadata was asked on it; None: unknown

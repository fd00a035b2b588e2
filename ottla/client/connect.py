"""Which transport a client uses when it is given none."""

from ottla.client.config import ConnectionConfig
from ottla.client.transport import Transport


def open_transport(config: ConnectionConfig) -> Transport:
    """GRPC. Imported late, so that importing the client costs no gRPC."""
    from ottla.client.grpc_transport import GrpcTransport

    return GrpcTransport(config)

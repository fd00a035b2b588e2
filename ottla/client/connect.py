"""Which transport a client uses when it is given none."""

import os

from ottla.client.config import ConnectionConfig
from ottla.client.transport import Transport


def open_transport(config: ConnectionConfig) -> Transport:
    """Imported late, so that importing the client costs neither gRPC nor the Kafka protocol."""
    if config.protocol == "kafka":
        from ottla.client.kafka.transport import KafkaTransport

        return KafkaTransport(config)
    # gRPC's own handlers of a fork crash the child now and then; without them ours say what to do (`ClientForked`).
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from ottla.client.grpc_transport import GrpcTransport

    return GrpcTransport(config)

"""The gRPC door as a whole: its server, its services, the limits on them."""

from dataclasses import dataclass

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ottla.broker.broker import Broker
from ottla.core.errors import ConfigError
from ottla.grpc_api.batch_methods import batch_methods
from ottla.grpc_api.cluster import Cluster
from ottla.grpc_api.configs import Configs
from ottla.grpc_api.fetch import Fetch
from ottla.grpc_api.groups import Groups
from ottla.grpc_api.membership import Membership
from ottla.grpc_api.mirrors import Mirrors
from ottla.grpc_api.open_streams import OpenStreams
from ottla.grpc_api.produce import Produce
from ottla.grpc_api.replicas import Replicas
from ottla.grpc_api.topics import Topics
from ottla.grpc_api.transactions import Transactions
from ottla.v1 import (
    cluster_pb2_grpc,
    configs_pb2_grpc,
    fetch_pb2_grpc,
    groups_pb2_grpc,
    membership_pb2_grpc,
    mirrors_pb2_grpc,
    produce_pb2_grpc,
    replicas_pb2_grpc,
    topics_pb2_grpc,
    transactions_pb2_grpc,
)

_log = structlog.get_logger(__name__)

SERVICES = tuple(
    f"ottla.v1.{name}"
    for name in (
        "Cluster",
        "Configs",
        "Fetch",
        "Groups",
        "Membership",
        "Mirrors",
        "Produce",
        "Replicas",
        "Topics",
        "Transactions",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the door allows."""

    max_message_bytes: int = 100 << 20  # a request; as socket.request.max.bytes of the Kafka door
    max_concurrent_streams: int = 1_000  # calls under way on one connection
    keepalive_ms: int = 60_000  # ask an idle peer whether it is there ...
    keepalive_timeout_ms: int = 20_000  # ... and hang up when it does not say so for this long
    min_ping_interval_ms: int = 10_000  # a peer that pings more often is hung up on
    max_metadata_bytes: int = 16 << 10  # a call's headers

    def options(self) -> list[tuple[str, int]]:
        """As gRPC's channel arguments."""
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", -1),  # a fetch's own limits bound it
            ("grpc.max_concurrent_streams", self.max_concurrent_streams),
            ("grpc.max_metadata_size", self.max_metadata_bytes),
            ("grpc.keepalive_time_ms", self.keepalive_ms),
            ("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", self.min_ping_interval_ms),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a share
        ]


class GrpcDoor:
    """Serves `ottla.v1`, health and reflection on the running loop."""

    def __init__(self, broker: Broker, limits: Limits | None = None) -> None:
        self._server = grpc.aio.server(options=(limits or Limits()).options())
        self._streams = OpenStreams()
        fetch, mirrors = Fetch(broker, self._streams), Mirrors(broker)
        # In place of generated ones: of generic handlers the first counts, of registered ones, in newer gRPC, the last.
        own = batch_methods(fetch.Fetch, mirrors.Append)
        for service, handlers in own.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        produce_pb2_grpc.add_ProduceServicer_to_server(Produce(broker, self._streams), self._server)
        fetch_pb2_grpc.add_FetchServicer_to_server(fetch, self._server)
        topics_pb2_grpc.add_TopicsServicer_to_server(Topics(broker), self._server)
        configs_pb2_grpc.add_ConfigsServicer_to_server(Configs(broker), self._server)
        cluster_pb2_grpc.add_ClusterServicer_to_server(Cluster(broker), self._server)
        membership_pb2_grpc.add_MembershipServicer_to_server(Membership(broker), self._server)
        replicas_pb2_grpc.add_ReplicasServicer_to_server(Replicas(broker), self._server)
        groups_pb2_grpc.add_GroupsServicer_to_server(Groups(broker), self._server)
        transactions_pb2_grpc.add_TransactionsServicer_to_server(Transactions(broker), self._server)
        mirrors_pb2_grpc.add_MirrorsServicer_to_server(mirrors, self._server)
        for service, handlers in own.items():
            self._server.add_registered_method_handlers(service, handlers)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def bind(self, host: str, port: int, credentials: grpc.ServerCredentials | None = None) -> int:
        """Bind before `start`; the port, also when 0 was asked for. Raises ConfigError when it is taken."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ConfigError(f"grpc_listener {address}: cannot listen there, choose another port ({error})") from None

    async def start(self) -> None:
        """Serve, and say so to health checks."""
        await self._server.start()
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_ms: int = 0) -> None:
        """Tell health checks, take no new call, end the streams, and after `grace_ms` the calls under way."""
        await self._health.enter_graceful_shutdown()
        self._streams.end()
        await self._server.stop(grace_ms / 1000)

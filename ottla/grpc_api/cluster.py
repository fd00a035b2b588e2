"""The Cluster service."""

from ottla.broker.broker import Broker
from ottla.core.types import format_uuid
from ottla.grpc_api.coordination import find_coordinators
from ottla.grpc_api.errors import Context, telling_errors
from ottla.v1 import cluster_pb2
from ottla.v1.cluster_pb2_grpc import ClusterServicer


class Cluster(ClusterServicer):
    """From the metadata image, and a handler of the broker; with the nodes' gRPC endpoints."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @telling_errors
    async def DescribeCluster(
        self, request: cluster_pb2.DescribeClusterRequest, context: Context
    ) -> cluster_pb2.DescribeClusterResponse:
        """The nodes that have a gRPC door."""
        broker = self._broker
        active = broker.controller.active_id
        return cluster_pb2.DescribeClusterResponse(
            cluster_id=format_uuid(broker.settings.cluster_id),
            controller_id=-1 if active is None else active,
            nodes=[
                cluster_pb2.ClusterNode(
                    node_id=node.id,
                    host=node.grpc.host,
                    port=node.grpc.port,
                    rack=node.rack,
                    fenced=node.fenced,
                    replication=f"{node.replication.host}:{node.replication.port}" if node.replication else "",
                    in_controlled_shutdown=node.in_controlled_shutdown,
                )
                for node in broker.image.brokers.values()
                if node.grpc is not None
            ],
        )

    @telling_errors
    async def FindCoordinators(
        self, request: cluster_pb2.FindCoordinatorsRequest, context: Context
    ) -> cluster_pb2.FindCoordinatorsResponse:
        """FindCoordinator, with the nodes' gRPC endpoints."""
        found = await find_coordinators(self._broker, int(request.type), request.keys, context)
        return cluster_pb2.FindCoordinatorsResponse(coordinators=found)

"""One node: everything below it, made, started and stopped in the right order.

Start: data directory, sockets, disk, metadata log and controller, partitions, broker, doors. Sockets are bound first,
so that a port in use costs no recovery, and listen last: a client is either refused or served. Only `/health` answers
from the beginning to the end. Stop is the reverse: what is led goes to others, the doors drain, logs and checkpoints
are written, the metadata log ends, the threads end, the lock goes.
"""

import asyncio
import importlib
import random
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ottla import __version__
from ottla.adapters.clock import LoopClock
from ottla.adapters.disk import ThreadedDisk
from ottla.adapters.network import AsyncioNetwork
from ottla.adapters.worker import WorkerProcess
from ottla.broker.broker import Broker
from ottla.broker.control.control import Control
from ottla.broker.settings import BrokerSettings
from ottla.controller.controller import Controller
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import Endpoint as ClientEndpoint
from ottla.core.compiled import is_compiled
from ottla.core.types import NodeId, format_uuid
from ottla.kafka.door import KafkaDoor, Limits
from ottla.node.config import NodeConfig
from ottla.node.data_directory import DataDirectory, random_uuid
from ottla.node.doors import Doors, advertise, close
from ottla.node.http import HttpDoor
from ottla.node.limits import boot_id
from ottla.node.listeners import Endpoint, bind, parse_endpoint
from ottla.node.peers import parse_peers
from ottla.node.quorum_part import QuorumPart, loopback_or
from ottla.partitions.manager import PartitionManager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client.metrics_core import Metric

    from ottla.node.standing import Standing
    from ottla.node.tls import Tls

logger = structlog.get_logger(__name__)

SHORTEST_CLEANER_BACKOFF_MS = 100
TOGETHER_GRACE_MS = 500


class Node:
    """Starts and stops once, on one loop."""

    def __init__(
        self, config: NodeConfig, *, fresh: bool = False, on_fatal: Callable[[Exception], None] = lambda error: None
    ) -> None:
        """`on_fatal`: the node cannot go on, and is to be stopped: others are to take its place."""
        self._config, self._fresh, self._on_fatal = config, fresh, on_fatal
        self._cleanups = AsyncExitStack()
        self._started_at = time.monotonic()
        self._status = "starting"
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._kafka: KafkaDoor | None = None
        self._grace_ms = config.shutdown_timeout_ms

    async def start(self) -> None:
        """Return when a write with acks=all would succeed. Raises ConfigError, StorageError or OSError."""
        config = self._config
        node_id = NodeId(config.node_id)
        others = parse_peers(config.peers).keys() - {node_id}
        self._data = DataDirectory.open(Path(config.data_dir), node_id, fresh=self._fresh, others=others)
        self._cleanups.callback(self._data.close)
        self._tls = self._load_tls()
        self._doors = Doors.bind(config)
        self._cleanups.callback(self._doors.close)
        self._start_http()
        await self._start_broker()
        await self._start_doors()
        self._keep_house()
        self._keep_compacting()
        self._status = "ok"
        self._prepare_for_groups()
        logger.info(
            "ready",
            version=__version__,
            compiled=is_compiled(),
            node=config.node_id,
            cluster=format_uuid(self._data.identity.cluster_id),
            seconds=round(time.monotonic() - self._started_at, 3),
            **self.addresses(),
        )

    async def stop(self, *, together: bool = False) -> None:
        """Stop whatever was started, in reverse order. `together`: all nodes stop, nobody is left to hand over to."""
        was_ready, self._status = self._status == "ok", "stopping"
        if was_ready:
            logger.info("stopping")
        if together:  # what waits for replicas that stop as well would wait in vain
            self._grace_ms = min(self._grace_ms, TOGETHER_GRACE_MS)
        elif was_ready:
            await self._broker.hand_over(self._config.shutdown_timeout_ms)
            await self._quorum.hand_over()
        for timer in self._timers.values():
            timer.cancel()
        await self._cleanups.aclose()
        self._status = "stopped"

    def _load_tls(self) -> "Tls | None":
        if not self._config.has_tls:
            return None
        from ottla.node.tls import Tls, TlsFiles

        tls = Tls(TlsFiles.of(self._config))
        tls.watch(asyncio.get_running_loop())
        self._cleanups.callback(tls.close)
        return tls

    def addresses(self) -> dict[str, str]:
        """Where clients reach this node, and where its data are."""
        return {
            "kafka": ",".join(endpoint.address for endpoint in self._doors.kafka_advertised.values()),
            "grpc": self._grpc_advertised.address,
            "http": self._doors.http.endpoint.address if self._doors.http else "",
            "dir": str(self._data.path),
        }

    def ports(self) -> dict[str, int]:
        """The ports that were bound, also where any free one was asked for."""
        doors = self._doors
        registered = self._broker.image.brokers[self._broker.settings.node_id]
        return {
            "kafka": doors.kafka[0].endpoint.port,
            "grpc": self._grpc_port,
            "http": doors.http.endpoint.port if doors.http else 0,
            "replication": registered.replication.port if registered.replication is not None else 0,
        }

    async def _start_broker(self) -> None:
        config, identity = self._config, self._data.identity
        loop = asyncio.get_running_loop()
        clock, source = LoopClock(loop), random.SystemRandom()
        disk = self._disk = ThreadedDisk(loop, str(self._data.path), threads=config.sync_threads)
        self._cleanups.callback(disk.close)
        worker = WorkerProcess(loop, str(self._data.path))
        self._cleanups.callback(worker.close)
        static_configs = config.static_configs()
        controller = Controller(identity.node_id, random=source, static_configs=static_configs)
        quorum = self._quorum = QuorumPart.open(config, self._data, controller, clock, source, disk, self._tls)
        self._cleanups.push_async_callback(quorum.stop)
        controller.on_failure = self._on_fatal  # a record of a newer version
        if quorum.founders != 1:  # alone, it can still serve what does not need its metadata log
            quorum.raft.on_failure = self._on_fatal
        await quorum.start(config.internal_endpoint())
        control = Control(
            controller,
            quorum.transport,
            clock,
            source,
            node_id=identity.node_id,
            cluster_id=identity.cluster_id,
            founders=quorum.founders,
            session_ms=EffectiveConfigs(controller.image, static_configs, identity.node_id).integer(
                "broker.session.timeout.ms"
            ),
        )
        quorum.share_log(control)
        assert quorum.endpoint is not None
        self._internal = ClientEndpoint(quorum.endpoint.host, quorum.endpoint.port)
        self._partitions = PartitionManager(disk, clock, worker=worker)
        self._partitions.open()
        self._cleanups.push_async_callback(self._close_partitions)
        self._broker = Broker(
            BrokerSettings(
                node_id=identity.node_id,
                cluster_id=identity.cluster_id,
                secret=self._data.secret,
                incarnation_id=random_uuid(),
                data_dir=str(self._data.path.absolute()),
                directory_id=identity.directory_id,
                boot_id=boot_id(),
                rack=config.rack or None,
                configs=static_configs,
            ),
            control=control,
            partitions=self._partitions,
            clock=clock,
            random=source,
            disk=disk,
            network=self._network(loop),
        )
        self._cleanups.callback(self._broker.stop)

    def _network(self, loop: asyncio.AbstractEventLoop) -> AsyncioNetwork:
        tls = self._tls
        if tls is None:
            return AsyncioNetwork(loop)
        return AsyncioNetwork(loop, server_ssl=tls.node_server_context, client_ssl=tls.node_client_context)

    def _keep_house(self) -> None:
        """Retention, and the expiry of producers."""
        configs = self._broker.configs  # they may be altered at any time

        def again() -> None:
            self._partitions.producer_expiration_ms = self._broker.configs.integer("producer.id.expiration.ms")
            self._partitions.housekeeping()
            self._keep_house()

        interval_ms = configs.integer("log.retention.check.interval.ms")
        self._timers["retention"] = asyncio.get_running_loop().call_later(interval_ms / 1000, again)

    def _keep_compacting(self) -> None:
        def again() -> None:
            rate = self._broker.configs.number("log.cleaner.io.max.bytes.per.second")
            self._partitions.compact(rate if rate < sys.float_info.max else 0.0)
            self._keep_compacting()

        interval_ms = max(self._broker.configs.integer("log.cleaner.backoff.ms"), SHORTEST_CLEANER_BACKOFF_MS)
        self._timers["compaction"] = asyncio.get_running_loop().call_later(interval_ms / 1000, again)

    def _prepare_for_groups(self) -> None:
        """Import what groups need before the first of them comes.

        It takes long: a thread does it, so that neither a start without groups nor the first group of a node holds up
        everybody else.
        """

        def imported(_: object, error: Exception | None) -> None:
            if error is not None:
                logger.error("the group coordinator cannot be loaded", error=str(error))

        self._disk.submit(lambda: importlib.import_module("ottla.broker.find_coordinator"), imported)

    async def _close_partitions(self) -> None:
        ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._partitions.close(ended.set_result)
        error = await ended
        if error is not None:
            logger.error("not everything could be written at the stop", error=str(error))

    async def _start_doors(self) -> None:
        config, doors = self._config, self._doors
        kafka = self._kafka = KafkaDoor(self._broker, self._limits())
        self._grpc_advertised = await self._start_grpc()
        await self._broker.start(
            {name: ClientEndpoint(one.host, one.port) for name, one in doors.kafka_advertised.items()},
            grpc=ClientEndpoint(self._grpc_advertised.host, self._grpc_advertised.port),
            replication=_bound_host(config.replication_endpoint()),
            internal=self._internal,
        )
        for bound in doors.kafka:
            context = self._tls.door_context if self._tls and bound.endpoint.is_tls_listener else None
            await kafka.listen(bound.endpoint.name, bound.sockets, context)
        self._cleanups.push_async_callback(lambda: kafka.stop(self._grace_ms))

    def _start_http(self) -> None:
        if self._doors.http is not None:
            context = self._tls.door_context if self._tls and not self._doors.http.endpoint.is_loopback else None
            http = HttpDoor(asyncio.get_running_loop(), self._doors.http.sockets, self, context)
            http.start()
            self._cleanups.callback(http.stop)

    async def _start_grpc(self) -> Endpoint:
        """Serve gRPC, which binds its sockets itself; what clients are told."""
        from ottla.grpc_api.door import GrpcDoor
        from ottla.grpc_api.door import Limits as GrpcLimits

        request_max_bytes = self._broker.configs.integer("socket.request.max.bytes")
        door = GrpcDoor(self._broker, GrpcLimits(max_message_bytes=request_max_bytes))
        endpoint = self._config.grpc_endpoint()
        probe = bind(endpoint)  # finds a port that is free on each address, and explains one that is not
        hosts = [one.getsockname()[0] for one in probe.sockets]
        close([probe])
        self._grpc_port = probe.endpoint.port
        for host in hosts:
            door.bind(host, probe.endpoint.port, self._tls.door_credentials() if self._tls else None)
        await door.start()
        self._cleanups.push_async_callback(lambda: door.stop(self._grace_ms))
        advertised = self._config.advertised_grpc
        return advertise(probe.endpoint, parse_endpoint(advertised, "advertised_grpc") if advertised else None)

    def _limits(self) -> Limits:
        configs = self._broker.configs
        return Limits(
            request_max_bytes=configs.integer("socket.request.max.bytes"),
            max_connections=configs.integer("max.connections"),
            max_idle_ms=configs.integer("connections.max.idle.ms"),
        )

    # -- what is observed

    def health(self) -> dict[str, object]:
        """The body of `/health`."""
        health: dict[str, object] = {"status": self._status, "node": self._config.node_id, "version": __version__}
        if (standing := self._standing()) is not None:
            health.update(fenced=standing.fenced, role=standing.role, controller=standing.controller)
        return health

    def metrics(self) -> "Sequence[Metric]":
        """The figures of this moment; none before there are any."""
        from ottla.node.figures import figures

        standing = self._standing()
        if self._kafka is None or standing is None:
            return []
        return figures(self._broker, self._partitions, self._kafka, standing)

    def standing(self) -> dict[str, object] | None:
        """How the node stands in its cluster (`standing.Standing`), for JSON; None before it takes part."""
        standing = self._standing()
        return {**asdict(standing), "lag_records": standing.lag_records} if standing is not None else None

    def _standing(self) -> "Standing | None":
        from ottla.node.standing import standing

        return standing(self._broker, self._quorum, self._kafka) if self._kafka is not None else None


def _bound_host(listener: Endpoint) -> ClientEndpoint:
    """Nodes name each other one address, so localhost is its first one."""
    return ClientEndpoint(loopback_or(listener.host), listener.port)

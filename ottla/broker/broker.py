"""One broker: what its node leads, the cluster's metadata, and the answers to requests that both doors share.

The broker decides nothing by itself: metadata comes from the controller's image, records are in the partitions, group
state in the coordinators. Handlers are functions beside it, one module for each kind of request.
"""

from collections.abc import Callable
from typing import Any

from ottla.broker.context import RequestContext
from ottla.broker.deadlines import Deadlines
from ottla.broker.fetch import Fetch
from ottla.broker.fetch_sessions import FetchSessions
from ottla.broker.handlers import handler
from ottla.broker.local_partitions import LocalPartitions
from ottla.broker.produce import Produce
from ottla.broker.replicas import Replicas
from ottla.broker.settings import BrokerSettings
from ottla.broker.strays import set_strays_aside
from ottla.controller.controller import Controller
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import Endpoint, MetadataDelta, MetadataImage
from ottla.controller.requests import BrokerRegistration
from ottla.core.ports import Clock, Disk, Random
from ottla.partitions.manager import PartitionManager
from ottla.protocol.apis import ApiKey


class Broker:
    """What handlers work on. All of it is used on the loop only."""

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        controller: Controller,
        partitions: PartitionManager,
        clock: Clock,
        random: Random,
        disk: Disk,
    ) -> None:
        self.settings = settings
        self.controller = controller
        self.partitions = partitions
        self.clock, self.random, self.disk = clock, random, disk
        self.image: MetadataImage = controller.image
        self._static_configs = {**settings.configs, "node.id": str(settings.node_id), "log.dirs": settings.data_dir}
        if settings.rack is not None:
            self._static_configs["broker.rack"] = settings.rack
        self.configs = EffectiveConfigs(self.image, self._static_configs, settings.node_id)
        self.replicas = Replicas(self.image, partitions)
        self.deadlines = Deadlines(clock)
        self.produce = Produce(self.replicas, self.deadlines)
        self.fetch = Fetch(self.replicas, FetchSessions(clock, random), self.deadlines, clock)
        self.extensions: dict[str, Any] = {}  # what a module of handlers keeps for one broker, e.g. its coordinators
        self._local = LocalPartitions(settings.node_id, partitions)
        self._subscribers: list[Callable[[MetadataImage, MetadataDelta], None]] = []

    async def start(self, listeners: dict[str, Endpoint], grpc: Endpoint | None = None) -> None:
        """Register with the controller under these endpoints, then open this node's partitions.

        In this order: registering raises the leader epoch of everything that this node led before it stopped.
        """
        advertised = ",".join(f"{name}://{one.host}:{one.port}" for name, one in listeners.items())
        self._static_configs["advertised.listeners"] = advertised
        self._static_configs.setdefault("listeners", advertised)
        await self.controller.register_broker(
            BrokerRegistration(
                broker_id=self.settings.node_id,
                incarnation_id=self.settings.incarnation_id,
                listeners=listeners,
                rack=self.settings.rack,
                grpc=grpc,
            )
        )
        self._take(self.controller.image)
        self._local.open(self.image, self.configs)
        set_strays_aside(self.disk.files, self.partitions)
        self.controller.subscribe(self._published)

    def subscribe(self, subscriber: Callable[[MetadataImage, MetadataDelta], None]) -> None:
        """Call `subscriber(image, delta)` after each change, when this node's partitions follow it already."""
        self._subscribers.append(subscriber)

    async def handle(self, api_key: ApiKey, request: Any, context: RequestContext) -> Any:
        """The answer to a request; KeyError when there is no handler for its type."""
        return await handler(api_key)(self, request, context)

    def _take(self, image: MetadataImage) -> None:
        self.image = image
        self.configs = EffectiveConfigs(image, self._static_configs, self.settings.node_id)
        self.replicas.image = image
        self.fetch.max_bytes = self.configs.integer("fetch.max.bytes")
        self.fetch.sessions.slots = self.configs.integer("max.incremental.fetch.session.cache.slots")

    def _published(self, image: MetadataImage, delta: MetadataDelta) -> None:
        self._take(image)
        self._local.follow(delta, self.configs)
        for subscriber in tuple(self._subscribers):
            subscriber(image, delta)

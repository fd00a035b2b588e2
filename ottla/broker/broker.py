"""One broker: what its node leads, the cluster's metadata, and the answers to requests that both doors share.

The broker decides nothing by itself: metadata comes from the controller's image, records are in the partitions, group
state in the coordinators. Handlers are functions beside it, one module for each kind of request.
"""

from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module
from typing import Any, Final

import structlog

from ottla.broker.context import RequestContext
from ottla.broker.control.control import Control
from ottla.broker.control.forwarding import FORWARDED
from ottla.broker.control.isr import IsrProposals
from ottla.broker.control.life import BrokerLife
from ottla.broker.deadlines import Deadlines
from ottla.broker.departures import Departures
from ottla.broker.fetch import Fetch
from ottla.broker.fetch_sessions import FetchSessions
from ottla.broker.handlers import handler, taker
from ottla.broker.local_partitions import LocalPartitions
from ottla.broker.produce import Produce
from ottla.broker.replica_selector import RACK_AWARE, RackAwareSelector
from ottla.broker.replicas import Replicas
from ottla.broker.settings import BrokerSettings
from ottla.broker.strays import set_strays_aside
from ottla.broker.transactions.verification import verification_of
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.features import SUPPORTED_FEATURES
from ottla.controller.image import Endpoint, MetadataDelta, MetadataImage
from ottla.controller.requests import BrokerRegistration
from ottla.core.config_fields import LONG_MAX
from ottla.core.ports import Clock, Disk, Network, Random, Timer
from ottla.core.types import NodeId, Uuid
from ottla.partitions.manager import PartitionManager
from ottla.partitions.partition import Partition
from ottla.partitions.replication.handshake import Identity
from ottla.partitions.replication.manager import ReplicaManager
from ottla.protocol.apis import ApiKey

logger: Final = structlog.get_logger(__name__)

DISK_STALLED_MS: Final = 500.0
"""A write that is under way for so long means a stalled disk: a sync takes 0.2 ms, and tens of them under full load."""
DISK_LOOK_MS: Final = 100.0
"""How late that may be noticed. A look before the oldest write could be stalled would find nothing."""

COORDINATORS: Final = {
    "__consumer_offsets": ("groups", "ottla.broker.groups", "group_coordinator"),
    "__transaction_state": ("transactions", "ottla.broker.transactions.handlers", "transaction_coordinator"),
}
"""By internal topic: where among a broker's extensions its coordinator is, and what makes it."""


class Broker:
    """What handlers work on. All of it is used on the loop only."""

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        control: Control,
        partitions: PartitionManager,
        clock: Clock,
        random: Random,
        disk: Disk,
        network: Network,
    ) -> None:
        self.settings = settings
        self.control = control
        self.controller = control.access
        self.partitions = partitions
        self.clock, self.random, self.disk = clock, random, disk
        self.image: MetadataImage = self.controller.image
        self._static_configs = {**settings.configs, "node.id": str(settings.node_id), "log.dirs": settings.data_dir}
        if settings.rack is not None:
            self._static_configs["broker.rack"] = settings.rack
        self.configs = EffectiveConfigs(self.image, self._static_configs, settings.node_id)
        self.replicas = Replicas(self.image, partitions)
        self.deadlines = Deadlines(clock)
        self.departures = Departures(clock)
        self.produce = Produce(self.replicas, self.deadlines)
        self.fetch = Fetch(self.replicas, FetchSessions(clock, random), self.deadlines, clock)
        self._selector = RackAwareSelector(settings.node_id, lambda: self.image)
        self.when_back: list[Callable[[], None]] = []
        """Called when replicas lead that the metadata had leading before: the disk answers again, or the files of a
        deleted topic of the same name are out of the way."""
        self.when_connection_closes: list[Callable[[int], None]] = []  # called with its number, of the Kafka protocol
        self.extensions: dict[str, Any] = {}  # what a module of handlers keeps for one broker, e.g. its coordinators
        self.life: BrokerLife | None = None
        self._disk_timer: Timer | None = None
        self._failures = 0
        self._isr = IsrProposals(
            settings.node_id, self.controller, lambda: self.epoch, lambda *ended: self.replication.answered(*ended)
        )
        self.replication = ReplicaManager(
            Identity(
                cluster_id=settings.cluster_id,
                node=settings.node_id,
                incarnation=settings.incarnation_id,
                secret=settings.secret,
            ),
            partitions,
            network=network,
            clock=clock,
            random=random,
            propose=self._isr.propose,
            lag_time_max_ms=self.configs.integer("replica.lag.time.max.ms"),
        )
        self._local = LocalPartitions(settings.node_id, partitions, self.replication, made_late=self._are_back)
        self._subscribers: list[Callable[[MetadataImage, MetadataDelta], None]] = []
        self.verifier = verification_of(self)
        self.produce.serve_transactions(self.verifier)
        self._stopped = False

    @property
    def epoch(self) -> int:
        """Of this broker's registration; -1 before it has one."""
        return self.life.epoch if self.life is not None else -1

    @property
    def shown_controller(self) -> NodeId:
        """The active controller as clients see it in the cluster's description; this broker when none is known, since
        there is always one who takes what the controller decides (KIP-590).
        """
        active = self.controller.active_id
        known = self.image.brokers.get(active) if active is not None else None
        return self.settings.node_id if known is None or known.fenced else known.id

    async def start(
        self,
        listeners: dict[str, Endpoint],
        *,
        grpc: Endpoint | None = None,
        replication: Endpoint | None = None,
        internal: Endpoint | None = None,
    ) -> None:
        """Register with the controller under these endpoints, open this node's partitions, and take part.

        In this order: registering ends every leadership that this node had before it stopped. `replication`: where to
        listen for followers, on port 0 a free one; without it there are none. `internal`: where other nodes reach this
        node's part in the quorum. Raises OSError when that port is taken.
        """
        advertised = ",".join(f"{name}://{one.host}:{one.port}" for name, one in listeners.items())
        self._static_configs["advertised.listeners"] = advertised
        self._static_configs.setdefault("listeners", advertised)
        settings = self.settings
        if replication is not None:
            replication = Endpoint(replication.host, self.replication.listen(replication.host, replication.port))
        self.control.start(self)
        self.life = self.control.life(
            BrokerRegistration(
                broker_id=settings.node_id,
                incarnation_id=settings.incarnation_id,
                listeners=listeners,
                rack=settings.rack,
                grpc=grpc,
                replication=replication,
                internal=internal,
                directory_id=settings.directory_id,
                previous_broker_epoch=max(self.partitions.stopped_epoch, 0),
                boot_id=settings.boot_id,
                features=SUPPORTED_FEATURES,
            )
        )
        await self.life.register()
        self._take(self.controller.image)
        self.replication.open()
        self._registered(self.epoch)
        self.life.on_registered = self._registered
        self.life.on_resigned = self.replication.step_aside
        self._local.open(self.image, self.configs)
        set_strays_aside(self.disk.files, self.partitions)
        self.controller.subscribe(self._published)
        await self.life.ready(self._truncated())
        self.partitions.environment.on_failure = partial(self.clock.call_soon, self._look_at_files)
        self._look_at_disk()
        self._coordinate(self.image.topics)

    def _registered(self, epoch: int) -> None:
        self.partitions.broker_epoch = epoch
        self.replication.registered(epoch)

    def _look_at_disk(self) -> None:
        """Resign while the disk stalls, although this process lives: others would wait for it as long as it does."""
        age_ms = self.replication.oldest_write_age_ms()
        wait_ms = max(DISK_STALLED_MS - age_ms, DISK_LOOK_MS)
        self._disk_timer = self.clock.call_later(wait_ms, self._look_at_disk)
        if self.life is not None:
            stalls = age_ms >= DISK_STALLED_MS
            if self.life.resigning and not stalls:
                self.replication.step_back()
                self._are_back()
            self.life.disk_stalls(stalls)
            self._look_at_files()

    def _look_at_files(self) -> None:
        """Have others lead, in place of replicas here that have failed."""
        failures = self.partitions.environment.failures
        if self.life is not None and self._failures != failures:
            self._failures = failures
            self.life.files_fail(self._of_partitions(lambda partition: partition.error is not None))

    def _are_back(self) -> None:
        for callback in self.when_back:
            callback()

    async def hand_over(self, timeout_ms: float) -> None:
        """Have others lead what this broker leads, before it stops; give up after `timeout_ms`."""
        if self.life is not None and not await self.life.stop(timeout_ms):
            logger.warning("this broker stops without having handed over what it leads", waited_ms=timeout_ms)

    def stop(self) -> None:
        """Take no part any more; what is appended from now on goes nowhere else."""
        self._stopped = True
        if self._disk_timer is not None:
            self._disk_timer.cancel()
        if self.life is not None:
            self.life.abandon()
        self._isr.close()
        self.replication.close()
        self.control.stop()

    def _truncated(self) -> dict[Uuid, list[int]]:
        """Partitions whose log lost its end at this start."""
        return self._of_partitions(lambda partition: partition.was_truncated)

    def _of_partitions(self, picked: Callable[[Partition], bool]) -> dict[Uuid, list[int]]:
        found: dict[Uuid, list[int]] = {}
        for partition in self.partitions:
            if picked(partition):
                found.setdefault(partition.topic_id, []).append(partition.index)
        return found

    def subscribe(self, subscriber: Callable[[MetadataImage, MetadataDelta], None]) -> None:
        """Call `subscriber(image, delta)` after each change, when this node's partitions follow it already."""
        self._subscribers.append(subscriber)

    async def handle(self, api_key: ApiKey, request: Any, context: RequestContext) -> Any:
        """The answer to a request; KeyError when there is no handler for its type.

        What only the active controller decides is put to it, wherever it is.
        """
        answer = handler(api_key)
        if api_key in FORWARDED and not self.controller.is_active:
            return await self.control.forwarding.ask(api_key, request, context)
        return await answer(self, request, context)

    def take(self, api_key: ApiKey, request: Any, context: RequestContext, done: Callable[[Any], None]) -> None:
        """As `handle`, without a task, for the types of `TAKERS`: `done` gets the answer once."""
        taker(api_key)(self, request, context, done)

    def _take(self, image: MetadataImage) -> None:
        self.image = image
        self.configs = EffectiveConfigs(image, self._static_configs, self.settings.node_id)
        self.replicas.image = image
        self.fetch.max_bytes = self.configs.integer("fetch.max.bytes")
        rack_aware = self.configs.broker_value("replica.selector.class") == RACK_AWARE
        self.fetch.select_replica = self._selector if rack_aware else None
        rate = self.configs.number("leader.replication.throttled.rate")
        self.replication.throttle(rate if rate < LONG_MAX else None)
        self.fetch.sessions.slots = self.configs.integer("max.incremental.fetch.session.cache.slots")

    def _published(self, image: MetadataImage, delta: MetadataDelta) -> None:
        self.departures.follow(self.image, image, delta.brokers)
        self._take(image)
        self._local.follow(image, delta, self.configs)
        self._coordinate(delta.topics)
        for subscriber in tuple(self._subscribers):
            subscriber(image, delta)

    def _coordinate(self, topics: Collection[str]) -> None:
        """Groups, or transactions, exist: some of them may be this node's without it ever being asked for them.

        Their modules take long to import: a thread does it, so that nobody else is held up.
        """
        for topic, (extension, module, function) in COORDINATORS.items():
            if topic in topics and extension not in self.extensions:
                self.disk.submit(partial(import_module, module), partial(self._imported, module, function))

    def _imported(self, module: str, function: str, _: object, error: Exception | None) -> None:
        if error is not None:
            logger.error("a coordinator cannot be loaded", module=module, error=str(error))
        elif not self._stopped:
            getattr(import_module(module), function)(self)

"""One machine: its disk, and the process that comes and goes."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from ottla.core.error_codes import ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.partitions.manager import PartitionManager
from ottla.partitions.partition import Partition
from ottla.partitions.replication.handshake import Identity
from ottla.partitions.replication.manager import ReplicaManager
from ottla.partitions.replication.types import AlterPartition, PartitionId
from ottla.testing.sim.disk import SimDisk
from ottla.testing.sim.files import SimFiles
from ottla.testing.sim.node_clock import NodeClock
from tests.sim.replication.controller import PORT, Published

if TYPE_CHECKING:
    from tests.sim.replication.cluster import Cluster

SECRET = b"of the simulated cluster"


class Process:
    """A running node."""

    def __init__(self, host: "Host", life: int) -> None:
        cluster = host.cluster
        self.host, self.life = host, life
        self.loop = cluster.world.new_loop(f"node {host.node}")
        self.clock = NodeClock(self.loop, rate=1 + 0.02 * host.random.random())
        self.disk = SimDisk(self.clock, host.random, files=host.files, slowest_ms=host.slowest_ms)
        self.disk.stalls, self.disk.stall_ms = host.stalls, 400.0
        self.partitions: dict[PartitionId, Partition] = {}
        self.broker_epoch = -1

    def open(self) -> None:
        host, cluster = self.host, self.host.cluster
        self.logs = PartitionManager(self.disk, self.clock, journal_bytes=host.journal_bytes)
        self.logs.environment.tail_budget.limit_bytes = 3000  # so that followers are read to from files, too
        self.logs.environment.open_files.limit = 4
        self.logs.open()
        self.replicas = ReplicaManager(
            Identity(cluster_id=Uuid(b"c" * 16), node=host.node, incarnation=Uuid(b"i" * 16), secret=SECRET),
            self.logs,
            network=cluster.streams.network(str(host.node), self.loop),
            clock=self.clock,
            random=Random(host.random.random()),
            propose=self._propose,
            lag_time_max_ms=cluster.lag_time_max_ms,
        )
        self.replicas.open()
        for state in cluster.controller.partitions.values():
            if host.node in state.replicas:
                partition = self.logs.create(
                    state.topic, state.topic_id, state.index, cluster.config, leader_epoch=-1, is_leader=False
                )
                self.partitions[state.topic_id, state.index] = partition
        cluster.checker.opened(self)
        self.replicas.listen(str(host.node), PORT)
        if host.last_image is not None:  # what a node replays of its own copy of the metadata
            self.replicas.follow(*host.last_image)
        cluster.controller.register(host.node, self._published, self._registered, lambda: self.loop.alive)

    def _registered(self, broker_epoch: int) -> None:
        if self.loop.alive:
            self.broker_epoch = broker_epoch
            self.loop.call_soon(self.replicas.registered, broker_epoch)

    def _published(self, image: Published) -> None:
        if self.loop.alive:
            self.host.last_image = image
            self.loop.call_soon(self.replicas.follow, *image)

    def _propose(self, proposals: Sequence[AlterPartition]) -> None:
        self.host.cluster.controller.alter_partition(self.host.node, self.broker_epoch, list(proposals), self._answered)

    def _answered(self, proposal: AlterPartition, code: ErrorCode) -> None:
        if self.loop.alive:
            self.loop.call_soon(self.replicas.answered, proposal, code)


class Host:
    def __init__(self, cluster: "Cluster", node: NodeId, random: Random) -> None:
        self.cluster, self.node, self.random = cluster, node, random
        self.files = SimFiles()
        self.slowest_ms = random.choice([0.5, 3.0, 10.0])
        self.stalls = random.choice([0.0, 0.0, 0.01])
        self.journal_bytes = random.choice([0, 16_384, 65_536])
        self.lives = 0
        self.process: Process | None = None
        self.last_image: Published | None = None
        self.durable_ends: dict[PartitionId, int] = {}  # of the last process, when it ended

    def start(self) -> None:
        if self.process is None:
            self.lives += 1
            self.process = process = Process(self, self.lives)
            process.loop.call_soon(process.open)

    def end(self, *, power: bool, silent: bool) -> None:
        """Kill the process; with `power` the machine too."""
        process, self.process = self.process, None
        if process is None:
            return
        self.durable_ends = {key: p.log.durable_end_offset for key, p in process.partitions.items()}
        self.cluster.checker.ended(process)
        self.cluster.streams.died(process.loop, silent=silent)
        process.loop.crash()
        if power:
            self.files.crash(self.random)
        epoch = process.broker_epoch
        controller = self.cluster.controller
        self.cluster.world.call_later(0.1 + self.random.random(), controller.lost, self.node, epoch)

    def stop(self) -> None:
        """In good order: all is written before the process ends."""
        process = self.process
        if process is None or not process.partitions:
            return

        def closed(error: Exception | None) -> None:
            assert error is None
            if self.process is process:
                process.loop.call_soon(lambda: self.end(power=False, silent=False))

        def close() -> None:
            process.replicas.close()
            process.logs.close(closed)

        process.loop.call_soon(close)

    def lose_disk(self) -> None:
        """An explicit replacement: out of every ISR first, and refused while it is the last one of any."""
        assert self.process is None
        controller = self.cluster.controller
        controller.fence(self.node)
        if any(self.node in state.isr for state in controller.partitions.values()):
            return
        self.files = SimFiles()
        self.last_image = None
        self.durable_ends = {}
        self.cluster.checker.disk_was_lost = True
        controller.publish()

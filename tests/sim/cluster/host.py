"""One machine of a simulated cluster: its disk and clocks, and the production node that comes and goes on it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.control.control import Control
from ottla.broker.settings import BrokerSettings
from ottla.controller.controller import Controller
from ottla.controller.image import Endpoint
from ottla.core.errors import ApiError, CorruptLog, OttlaError
from ottla.core.types import NodeId, Uuid
from ottla.partitions.manager import PartitionManager
from ottla.partitions.replication.types import PartitionId
from ottla.raft.core import Member, Membership
from ottla.raft.driver import RaftNode, RaftSettings
from ottla.testing.sim.disk import SimDisk, SimWorker
from ottla.testing.sim.disk_faults import DiskFaults
from ottla.testing.sim.files import PowerCut, SimFiles
from ottla.testing.sim.loop import SimLoop
from ottla.testing.sim.node_clock import NodeClock
from tests.sim.cluster.setting import Setting
from tests.sim.raft.violation import Violation

LISTENER: Final = "PLAINTEXT"
PORT: Final = 9000
CLUSTER: Final = Uuid(b"simulatedcluster")
CONFIGS: Final = {
    "replica.lag.time.max.ms": "1500",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "group.min.session.timeout.ms": "500",
    "ottla.group.disconnect.timeout.ms": "200",
}
STOP_MS: Final = 5000.0


class Process:
    """A running node. `serving`: clients may come."""

    def __init__(self, host: "Host") -> None:
        self.host, self.life, self.member = host, host.lives, host.member
        setting = host.setting
        self.loop: SimLoop = setting.world.new_loop(f"node {host.node}")
        self.clock = NodeClock(self.loop, rate=host.rate, wall_offset_ms=host.wall_offset_ms)
        self.disk = SimDisk(self.clock, host.random, files=host.files, slowest_ms=setting.options.slowest_ms)
        self.disk.stalls, self.disk.stall_ms = host.stalls, host.stall_ms
        self.disk.on_power_cut = lambda: host.power_cut(silent=True)
        self.mesh = setting.meshes.mesh(host.node, self.loop)
        self.raft: RaftNode | None = None
        self.serving = self.stopping = False
        self.calls: dict[int, Callable[[], None]] = {}  # what clients wait for, to be told when the process ends

    def open(self) -> None:
        """On this process's loop; as `ottla.node.node.Node` does it, without doors."""
        host, options = self.host, self.host.setting.options
        random = Random(host.random.random())
        self.controller = Controller(host.node, random=random, static_configs=CONFIGS)
        self.raft = RaftNode.open(
            RaftSettings(
                directory="metadata",
                member=self.member,
                snapshot_after_bytes=options.snapshot_after_bytes,
                kept_entries=options.kept_entries,
            ),
            self.controller,
            bootstrap=host.bootstrap,
            clock=self.clock,
            random=random,
            disk=self.disk,
            transport=self.mesh,
        )
        self.raft.on_failure = self._failed
        self.controller.attach(self.raft)
        self.mesh.reach_also({other: f"sim:{other}" for other in host.others})
        host.setting.checker.opened(self)
        self.raft.start()
        control = Control(
            self.controller, self.mesh, self.clock, random, node_id=host.node, cluster_id=CLUSTER,
            founders=len(host.others) + 1, session_ms=2000.0,
        )  # fmt: skip
        self.logs = PartitionManager(
            self.disk, self.clock, worker=SimWorker(self.disk), journal_bytes=options.journal_bytes
        )
        environment = self.logs.environment
        environment.tail_budget.limit_bytes = options.tail_bytes
        environment.save_every_bytes = environment.save_at_stop_bytes = options.save_bytes
        self.logs.open()
        self.broker = Broker(
            BrokerSettings(
                node_id=host.node,
                cluster_id=CLUSTER,
                secret=b"of the simulated cluster",
                incarnation_id=Uuid(random.randbytes(16)),
                data_dir="/data",
                directory_id=self.member.directory,
                boot_id=f"boot-{host.boots}",
                configs=CONFIGS,
            ),
            control=control,
            partitions=self.logs,
            clock=self.clock,
            random=random,
            disk=self.disk,
            network=host.setting.streams.network(str(host.node), self.loop),
        )
        self.loop.create_task(self._start())

    async def _start(self) -> None:
        host = self.host
        try:
            await self.broker.start(
                {LISTENER: Endpoint(str(host.node), PORT + 1)}, replication=Endpoint(str(host.node), PORT)
            )
        except OSError as error:
            host.setting.trace("does not start", host.node, error)
            self.loop.call_soon(host.process_failed, self)
        except ApiError as error:
            host.setting.checker.fail(Violation("a whole node starts", f"{self.member}: {error}"))
        else:
            host.setting.trace("serves", host.node)
            host.decayed.clear()  # of logs that have no bytes
            self.serving = True

    async def stop(self) -> bool:
        """In order, as `Node.stop` does it; whether everything was handed over."""
        self.stopping = True
        assert self.raft is not None
        handed_over = False
        if self.serving:
            handed_over = self.broker.life is not None and await self.broker.life.stop(STOP_MS)
        self.serving = False
        self.broker.stop()
        closed = asyncio.get_running_loop().create_future()
        self.logs.close(closed.set_result)
        await closed
        if self.raft.is_leader and (successor := self.raft.core.best_successor()) is not None:
            try:
                await self.raft.transfer_leadership(successor.node)
            except OttlaError as error:
                self.host.setting.trace("no transfer", self.host.node, error)
        await self.raft.close()
        return handed_over

    def _failed(self, error: Exception) -> None:
        host = self.host
        host.setting.trace("failed", host.node, error)
        if not isinstance(error, OSError):
            host.setting.checker.fail(Violation("a node does not fail", f"{self.member}: {error!r}"))
        self.loop.call_soon(host.process_failed, self)


class Host:
    """`member` is the node with the directory that its present disk was formatted with.

    `lost`: it has none now; `held`: nobody is to start it. `decayed`: directories of partitions that are found damaged
    when they are read the next time; `damaged`: ... were found so in this life.
    """

    def __init__(self, setting: Setting, node: NodeId, random: Random, bootstrap: Membership) -> None:
        self.setting, self.node, self.random = setting, node, random
        self.others = sorted({member.node for member in bootstrap.voters} - {node})
        self.rate = 1.0 + setting.options.drift * (2 * random.random() - 1)
        self.wall_offset_ms = random.randrange(-5000, 5000)
        self.stalls, self.stall_ms = 0.0, 0.0
        self.disks = self.lives = self.boots = 0
        self.lost = self.awaited = self.held = False
        self.decayed: set[str] = set()
        self.damaged: set[str] = set()
        self.process: Process | None = None
        self.seen: Counter[str] = Counter()  # what its disks did
        self.durable_ends: dict[PartitionId, int] = {}  # of the last process, when it ended
        self.format(bootstrap)

    def format(self, bootstrap: Membership) -> None:
        """An empty disk, and so another member."""
        self.disks += 1
        self.member = Member(self.node, directory_id(self.node, self.disks))
        self.files = SimFiles()
        self.faults = DiskFaults(Random(self.random.random()), self.seen)
        self.files.before = self._before
        self.bootstrap = bootstrap
        self.durable_ends = {}
        self.lost = False

    def _before(self, operation: str, path: str) -> None:
        directory, _, name = path.partition("/")
        if directory in self.decayed and operation == "read" and name.endswith(".log"):
            self.decayed.remove(directory)
            self.damaged.add(directory)
            self.seen["replica damaged"] += 1
            raise CorruptLog(path, 0, "it has decayed", "Nothing to check: this is a simulation.")
        self.faults(operation, path)

    @property
    def serving(self) -> Process | None:
        """The process that clients reach."""
        process = self.process
        return process if process is not None and process.serving else None

    def start(self) -> None:
        """Begin a process, unless one runs."""
        if self.process is None and not self.lost and not self.held:
            self.setting.trace("start", self.node)
            self.lives += 1
            self.damaged.clear()
            self.process = process = Process(self)
            process.loop.call_soon(self._open, process)

    def _open(self, process: Process) -> None:
        try:
            process.open()
        except PowerCut:
            self.power_cut(silent=True)
        except OttlaError as error:
            if not isinstance(error, OSError) and not self.seen["EIO"]:
                raise
            self.setting.trace("does not start", self.node, error)
            self.end(silent=False)
        except OSError as error:
            self.setting.trace("does not start", self.node, error)
            self.end(silent=False)

    def process_failed(self, process: Process) -> None:
        """Fail-stop: what it wrote is in the page cache or not."""
        if self.process is process:
            self.kill()

    def stop(self, then: Callable[[], None]) -> None:
        """In order; `then` when it has ended, however."""
        process = self.process
        if process is None or process.stopping or process.raft is None or not process.serving:
            then()
            return
        self.setting.trace("stops", self.node)

        async def stop() -> None:
            handed_over = await process.stop()
            self.setting.coverage.note("clean stop")
            if handed_over:
                self.setting.coverage.note("handed over in time")
            if self.process is process:
                self.end(silent=False)
                then()

        process.loop.create_task(stop())

    def kill(self) -> None:
        """The process ends at once; the operating system lives."""
        if self.process is not None:
            self.setting.trace("killed", self.node)
            self.setting.coverage.note("process killed")
            self.end(silent=False)

    def power_cut(self, *, silent: bool) -> None:
        """The machine stops: what was not synced is lost, as chance has it."""
        self.setting.coverage.note("power cut")
        if self.process is not None:
            self.setting.trace("power cut", self.node)
            self.end(silent=silent)
        self.faults.power_cut_in = None
        self.boots += 1
        self.files.crash(self.random)

    def end(self, *, silent: bool) -> None:
        process = self.process
        assert process is not None
        self.process = None
        self.setting.checker.ended(process)
        process.loop.crash()
        if process.disk.stalled:
            self.setting.coverage.note("disk stalled")
        self.setting.meshes.died(self.node, silent=silent)
        self.setting.streams.died(process.loop, silent=silent)
        for tell in list(process.calls.values()):
            tell()
        process.calls.clear()


def directory_id(node: NodeId, disk: int) -> Uuid:
    return Uuid(bytes([node, disk]) + bytes(14))

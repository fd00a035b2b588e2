"""One machine of a simulated cluster: its disk and clock, and the process that comes and goes."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

from ottla.core.errors import CorruptLog
from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Member, Membership
from ottla.raft.driver import RaftNode, RaftSettings
from ottla.testing.sim.disk import SimDisk
from ottla.testing.sim.disk_faults import DiskFaults
from ottla.testing.sim.files import PowerCut, SimFiles
from ottla.testing.sim.loop import SimLoop
from ottla.testing.sim.network import SimTransport
from ottla.testing.sim.node_clock import NodeClock
from tests.sim.raft.machine import WatchedStore
from tests.sim.raft.setting import Setting

DIRECTORY: Final = "quorum"


class Process:
    """A running node. `raft` is None until its journal is read."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        setting, node = host.setting, host.node
        self.loop: SimLoop = setting.world.new_loop(f"node {node}")
        self.clock = NodeClock(self.loop, rate=host.rate, wall_offset_ms=host.wall_offset_ms)
        self.disk = SimDisk(
            self.clock, host.random, files=host.files, slowest_ms=setting.options.slowest_sync_ms, cached=1.0
        )
        self.disk.stalls, self.disk.stall_ms = host.stalls, host.stall_ms
        self.disk.on_power_cut = lambda: host.power_cut(silent=True, inside_job=True)
        self.store = WatchedStore(node, setting.applied)
        self.transport: SimTransport = setting.network.transport(node, host.address, self.loop)
        self.raft: RaftNode | None = None
        self.member = host.member
        self.calls: dict[int, Callable[[], None]] = {}  # what clients wait for, to be told when the process ends

    def open(self) -> None:
        """On this process's loop."""
        host = self.host
        options = host.setting.options.settings
        settings = RaftSettings(
            directory=DIRECTORY,
            member=self.member,
            max_append_bytes=options["max_append_bytes"],
            max_in_flight_bytes=options["max_in_flight_bytes"],
            max_uncommitted_bytes=options["max_uncommitted_bytes"],
            chunk_bytes=options["chunk_bytes"],
            kept_entries=options["kept_entries"],
            snapshot_after_bytes=options["snapshot_after_bytes"],
            segment_bytes=options["segment_bytes"],
        )
        self.raft = RaftNode.open(
            settings,
            self.store,
            bootstrap=host.bootstrap,
            clock=self.clock,
            random=Random(host.random.random()),
            disk=self.disk,
            transport=self.transport,
        )
        self.raft.on_failure = self._failed
        host.setting.checker.opened(self)
        self.raft.start()

    def _failed(self, error: Exception) -> None:
        self.host.setting.checker.failed(self, error)
        self.loop.call_soon(self.host.process_failed, self)


class Host:
    """`member` is the node with the directory that its present disk was formatted with.

    `bits_flipped`: its disk decayed somewhere; `damaged`: a start found that out, and the disk is not used again;
    `failed`: its last process stopped by itself.
    """

    def __init__(self, setting: Setting, node: NodeId, random: Random, bootstrap: Membership) -> None:
        self.setting, self.node, self.random = setting, node, random
        self.address = f"sim:{node}"
        self.rate = 1.0 + setting.options.drift * (2 * random.random() - 1)
        self.wall_offset_ms = random.randrange(-5000, 5000)
        self.stalls, self.stall_ms = 0.0, 0.0
        self.lives = 0
        self.awaited = False  # somebody will start it
        self.process: Process | None = None
        self.seen: Counter[str] = Counter()  # what its disks did
        self.first_bootstrap = bootstrap
        self.format(bootstrap, first=True)

    def format(self, bootstrap: Membership, *, first: bool = False) -> None:
        """An empty disk, and so another member."""
        self.lives += 1
        self.member = first_member(self.node) if first else Member(self.node, directory_id(self.node, self.lives))
        self.files = SimFiles()
        self.faults = DiskFaults(Random(self.random.random()), self.seen)
        self.files.before = self.faults
        self.bootstrap = bootstrap
        self.damaged = self.bits_flipped = self.failed = False

    @property
    def raft(self) -> RaftNode | None:
        return self.process.raft if self.process is not None else None

    def start(self) -> None:
        """Begin a process, unless one runs."""
        if self.process is None and not self.damaged:
            self.setting.trace("start", self.node)
            self.process = process = Process(self)
            process.loop.call_soon(self._open, process)

    def _open(self, process: Process) -> None:
        setting = self.setting
        try:
            process.open()
        except PowerCut:
            self.power_cut(silent=True, inside_job=True)
        except CorruptLog as error:
            self._end(silent=False)
            setting.checker.refused(self, error)
            self.damaged = True
        except OSError as error:
            setting.trace("does not start", self.node, error)
            self._end(silent=False)

    def process_failed(self, process: Process) -> None:
        """Fail-stop: the process ends, and what it wrote is in the page cache or not."""
        if self.process is process:
            self.failed = True
            self.kill()

    def kill(self) -> None:
        """The process ends at once; the operating system lives."""
        if self.process is not None:
            self.setting.trace("killed", self.node)
            self.setting.coverage.note("process killed")
            self._end(silent=False)

    def power_cut(self, *, silent: bool, inside_job: bool = False) -> None:
        """The machine stops: what was not synced is lost, as chance has it."""
        if self.process is not None:
            self.setting.trace("power cut", self.node)
            self._end(silent=silent)
        if inside_job:
            self.setting.coverage.note("power cut inside a job")
        self.faults.power_cut_in = None
        something_lost = self.setting.checker.before_power_cut(self)
        self.files.crash(self.random)
        if something_lost:
            self.setting.checker.after_power_cut(self)

    def _end(self, *, silent: bool) -> None:
        process = self.process
        assert process is not None
        self.process = None
        self.setting.checker.ended(process)
        process.loop.crash()
        self.seen["sync stalled"] += process.disk.stalled
        process.transport.leave()
        self.setting.network.died(self.node, silent=silent)
        for tell in list(process.calls.values()):
            tell()
        process.calls.clear()


def directory_id(node: NodeId, life: int) -> Uuid:
    return Uuid(bytes([node, life]) + bytes(14))


def first_member(node: NodeId) -> Member:
    return Member(node, directory_id(node, 1))

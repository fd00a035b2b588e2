"""Three replicas of a few partitions, clients, and faults: `Cluster(seed).run()` raises Violation or ends well."""

from collections import Counter
from random import Random

from ottla.core.types import NodeId, Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.replication.types import NO_LEADER, PartitionId
from ottla.testing.sim.loop import SimLoop, World
from ottla.testing.sim.streams import SimStreams
from tests.sim.replication.checker import Checker, Violation
from tests.sim.replication.clients import Producer
from tests.sim.replication.controller import FakeController, State
from tests.sim.replication.host import Host
from tests.sim.replication.mirrors import SOURCE, Mirror, Source, check_copies

TOPIC_ID = Uuid(b"0123456789abcdef")
NODES = (NodeId(1), NodeId(2), NodeId(3))


_FAULTS = (
    *("stop", "kill", "power", "power", "all_power", "lose_disk", "start", "start", "start", "isolate"),
    *("cut", "cut", "cut_one_way", "reset", "late", "heal"),
    *("move", "move", "move", "delete_records"),
)


class Cluster:
    """`mirrored`: instead of producers, mirrors write what the log of another cluster holds."""

    def __init__(self, seed: int, *, partitions: int = 2, faults: int = 14, mirrored: bool = False) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.world = World(Random(random.random()))
        self.config = LogConfig(
            segment_bytes=4000, index_interval_bytes=300, retention_ms=-1, min_insync_replicas=2,
            mirror_source=SOURCE if mirrored else "",
        )  # fmt: skip
        self.lag_time_max_ms = 800.0
        self.streams = SimStreams(self.world, Random(random.random()))
        states = [
            State("t", TOPIC_ID, n, tuple(random.sample(NODES, len(NODES))), list(NODES)) for n in range(partitions)
        ]
        self.controller = FakeController(self.world, Random(random.random()), states)
        self.controller.lost_answers = random.choice([0.0, 0.2])
        self.checker = Checker(self)
        self.controller.after_change = self.checker.isr_changed
        self.hosts = {node: Host(self, node, Random(random.random())) for node in NODES}
        self.sources: dict[PartitionId, Source] = {}
        self.producers: list[Producer] | list[Mirror]
        if mirrored:
            self.sources = {(TOPIC_ID, n): Source(Random(random.random())) for n in range(partitions)}
            self.producers = [
                Mirror(self, key, source, Random(random.random())) for key, source in self.sources.items() for _ in "12"
            ]
        else:
            self.producers = [
                Producer(self, n, (TOPIC_ID, n % partitions), Random(random.random())) for n in range(partitions * 3)
            ]
        self.faults_left = faults
        self.seen: Counter[str] = Counter()
        self.world.after_each = self._after_each

    def _after_each(self, loop: SimLoop) -> None:
        self.checker.after_step(loop)

    def run(self) -> "Cluster":
        for host in self.hosts.values():
            host.start()
        for producer in self.producers:
            self.world.call_later(0.05, producer.start)
        self.world.run_for(0.4)
        while self.faults_left:
            self.faults_left -= 1
            self._fault()
            self.world.run_for(self.random.choice([0.02, 0.1, 0.3, 0.8, 1.5]))
        self._end_well()
        return self

    # -- faults

    def _fault(self) -> None:
        random = self.random
        host = random.choice(list(self.hosts.values()))
        name = random.choice(_FAULTS)
        self.seen[name] += 1
        if name in ("kill", "power"):
            host.end(power=name == "power", silent=name == "power" and random.random() < 0.5)
            if random.random() < 0.6:
                self.world.call_later(random.random() * random.choice([0.05, 1.0]), host.start)
        elif name == "stop":
            host.stop()
            self.world.call_later(random.random() * 2, host.start)
        elif name == "all_power":
            for one in self.hosts.values():
                one.end(power=True, silent=False)
                self.world.call_later(random.random() * 0.5, one.start)
        elif name in ("cut", "cut_one_way"):
            source, target = random.sample([str(node) for node in NODES], 2)
            self.streams.cut.add((source, target))
            if name == "cut":
                self.streams.cut.add((target, source))
            self.world.call_later(random.random() * 6, self.streams.heal, source, target)
        elif name == "reset":
            self.streams.reset(*random.sample([str(node) for node in NODES], 2))
        elif name == "isolate":
            self._isolate(host)
        elif name == "move":
            self.controller.move_leader(random.choice(list(self.controller.partitions.values())))
        elif name == "lose_disk":
            host.end(power=True, silent=False)
            host.lose_disk()
            self.world.call_later(random.random() * 0.2, host.start)
        elif name == "late":
            self.streams.late = random.choice([0.0, 0.1])
        elif name == "start":
            host.start()
        elif name == "heal":
            self.streams.heal()
        elif name == "delete_records":
            self._delete_records(host)

    def _isolate(self, host: Host) -> None:
        """From the controller: the node is fenced while it runs, hears of it late, and comes back."""
        node, controller = host.node, self.controller
        process = host.process
        if process is None or node in controller.cut:
            return
        epoch = process.broker_epoch
        controller.cut.add(node)

        def session_ends() -> None:
            if node in controller.cut:
                controller.lost(node, epoch)

        self.world.call_later(self.random.random(), session_ends)

        def back() -> None:
            controller.cut.discard(node)
            controller.catch_up(node)
            running = host.process
            if running is not None:
                controller.unfence(node, running.broker_epoch)

        self.world.call_later(0.5 + self.random.random() * 2, back)

    def _delete_records(self, host: Host) -> None:
        process = host.process
        if process is None:
            return
        for partition in process.partitions.values():
            if partition.is_leader and partition.log_start_offset < partition.high_watermark:
                where = self.random.random()
                offset = partition.log_start_offset + int(
                    (partition.high_watermark - partition.log_start_offset) * where
                )
                process.loop.call_soon(partition.delete_records, offset, lambda _: None)

    # -- the end

    def _end_well(self) -> None:
        self.streams.late = 0.0
        self.controller.lost_answers = 0.0
        self.streams.heal()
        self.world.run_for(4.0)
        self.streams.heal()
        for host in self.hosts.values():
            host.start()
        acknowledged = sum(producer.acknowledged for producer in self.producers)
        self._wait(self._all_in_sync, "all replicas are in sync")
        self._wait(
            lambda: (
                all(p.acknowledged >= 3 or p.count >= 3 for p in self.producers)
                and sum(p.acknowledged for p in self.producers) >= acknowledged + 5
            ),
            "clients are served",
        )
        for producer in self.producers:
            producer.stopped = True
        self.world.run_for(1.0)
        self._wait(self._settled, "replicas agree")
        self.checker.at_the_end()
        if self.sources:
            check_copies(self, self.sources)

    def _wait(self, condition: "object", what: str) -> None:
        try:
            self.world.run_until(condition, within_s=40.0)  # type: ignore[arg-type]
        except Violation:
            raise
        except AssertionError as error:
            raise Violation(f"it does not come about that {what}: {self.describe()}") from error

    def _all_in_sync(self) -> bool:
        return all(
            state.leader != NO_LEADER and len(state.isr) == len(state.replicas)
            for state in self.controller.partitions.values()
        )

    def _settled(self) -> bool:
        for key in self.controller.partitions:
            replicas = [host.process.partitions[key] for host in self.hosts.values() if host.process is not None]
            ends = {partition.log.durable_end_offset for partition in replicas}
            marks = {partition.high_watermark for partition in replicas}
            if len(replicas) < len(NODES) or len(ends) > 1 or marks != ends:
                return False
        return True

    def describe(self) -> str:
        lines = []
        for key, state in self.controller.partitions.items():
            lines.append(f"{key[1]}: leader {state.leader} epoch {state.leader_epoch} isr {state.isr}")
            for host in self.hosts.values():
                if host.process is not None:
                    p = host.process.partitions[key]
                    step = getattr(getattr(p.role, "state", None), "step", "leads")
                    lines.append(
                        f"  node {host.node}: {step} epoch {p.leader_epoch} start {p.log_start_offset} end "
                        f"{p.log_end_offset} durable {p.log.durable_end_offset} hw {p.high_watermark}"
                    )
        return "\n".join(lines)

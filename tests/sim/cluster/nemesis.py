"""What happens to a cluster, by chance: every action is drawn from the mixture of the run, and mended after a while."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from ottla.core.types import NodeId
from tests.sim.cluster.administrator import Administrator
from tests.sim.cluster.host import Host
from tests.sim.cluster.setting import Setting
from tests.sim.cluster.transactions.worker import Worker
from tests.sim.cluster.transactions.workload import Workload, supports

Ways = set[tuple[NodeId, NodeId]]
MAIN_TOPIC = "t"


class Nemesis:
    """Acts from `start` until `stop`, which mends everything."""

    def __init__(
        self,
        setting: Setting,
        hosts: Sequence[Host],
        administrator: Administrator,
        use: Callable[[str], Any],
        random: Random,
    ) -> None:
        self.setting, self.hosts, self.administrator, self.random = setting, hosts, administrator, random
        self._use = use
        self.workload: Workload | None = None
        self._stopped = self._rolling = self._stalls_joining = self._striking = False
        self._cuts: list[tuple[Ways, Ways]] = []
        self._actions: dict[str, Callable[[], None]] = {
            "power cut": self._power_cut,
            "kill": self._kill,
            "power cut everywhere": self._power_cut_everywhere,
            "cut leader off": self._cut_leader_off,
            "split": self._split,
            "one-way cuts": self._one_way_cuts,
            "cut streams": self._cut_streams,
            "bad links": self._bad_links,
            "reset": self._reset,
            "slow disk": lambda: self._slow(1.0, self.random.choice([20.0, 100.0])),
            "stalled disk": lambda: self._slow(1.0, 3000.0),
            "stall who joins": self._stall_who_joins,
            "failing disk": self._failing_disk,
            "full disk": self._full_disk,
            "decay": self._decay,
            "clock": self._clock,
            "slow node": self._slow_node,
            "pause": self._pause,
            "restart": self._restart,
            "rolling restart": self._rolling_restart,
            "replace": self._replace,
            "move": lambda: administrator.begin(administrator.move(MAIN_TOPIC)),
            "elect": lambda: administrator.begin(administrator.elect()),
            "create and delete": lambda: administrator.begin(administrator.churn(self._use)),
            "transfer": lambda: administrator.begin(administrator.transfer(self.random.choice(self.hosts))),
            "unregister": lambda: administrator.begin(administrator.unregister(self.random.choice(self.hosts))),
        }

    def start(self) -> None:
        self.setting.checker.replicas.on_joining = self._joins
        if self.setting.options.actions:
            self._after(self.setting.options.every_s, self._act)

    def stop(self) -> None:
        """Everything is repaired, and every machine that has a disk is started."""
        self._stopped = True
        self._cuts.clear()
        self.setting.calm()
        self.setting.healed = True
        if self.workload is not None:
            for worker in self.workload.workers:
                worker.wake()
        self.setting.cut(set(), set())
        for host in self.hosts:
            host.faults.failing, host.faults.full, host.faults.power_cut_in = 0.0, False, None
            self._set_speed(host, 0.0, 0.0)
            if host.process is not None:
                host.process.loop.resume()
        self.supervise()

    def supervise(self) -> None:
        """Whoever stopped, or has a partition out of service, is started (again)."""
        for host in self.hosts:
            process = host.process
            if process is not None and hasattr(process, "broker") and any(p.error is not None for p in process.logs):
                host.kill()
            host.start()

    # -- when

    def _after(self, mean_s: float, action: Callable[[], None]) -> None:
        self.setting.world.call_later(self.random.expovariate(1 / mean_s), self._unless_stopped, action)

    def _unless_stopped(self, action: Callable[[], None]) -> None:
        if not self._stopped:
            action()

    def _act(self) -> None:
        options = self.setting.options
        name = self.random.choice(options.actions)
        self.setting.trace(name, "nemesis")
        self._actions[name]()
        self._after(options.every_s, self._act)
        for host in self.hosts:  # one that stopped by itself is started again by its supervisor
            if host.process is None:
                self._start_later(host)

    def _start_later(self, host: Host) -> None:
        if not host.awaited:
            host.awaited = True
            self._after(self.setting.options.lasts_s, lambda: self._start(host))

    def _start(self, host: Host) -> None:
        host.awaited = False
        host.start()

    # -- whom

    def _someone(self) -> Host:
        return self._leader() if self.random.random() < 0.4 else self.random.choice(self.hosts)

    def _leader(self) -> Host:
        """The active controller, or who leads a partition."""
        leading = [
            h for h in self.hosts if h.process is not None and h.process.raft is not None and h.process.raft.is_leader
        ]
        topic = self.setting.checker.topic(MAIN_TOPIC)
        if topic is not None and self.random.random() < 0.5:
            leader = self.random.choice(topic.partitions).leader
            leading = [h for h in self.hosts if h.node == leader]
        return leading[0] if leading else self.random.choice(self.hosts)

    # -- processes and machines

    def _power_cut(self) -> None:
        host = self._someone()
        host.power_cut(silent=self.random.random() < 0.5)
        self._start_later(host)

    def _kill(self) -> None:
        host = self._someone()
        host.kill()
        if self.random.random() < 0.4:
            host.start()
        else:
            self._start_later(host)

    def _power_cut_everywhere(self) -> None:
        self.setting.coverage.note("power cut everywhere")
        for host in self.hosts:
            host.power_cut(silent=True)
            self._start_later(host)

    def _pause(self) -> None:
        process = self._someone().process
        if process is not None:
            self.setting.coverage.note("process paused")
            process.loop.pause()
            self._after(self.setting.options.lasts_s, process.loop.resume)

    def _slow_node(self) -> None:
        """It stands still again and again, as one that swaps."""
        host = self._someone()

        def pause(left: int) -> None:
            process = host.process
            if process is not None and left:
                process.loop.pause()
                self.setting.world.call_later(self.random.random() * 0.1, resume, process, left)

        def resume(process: Any, left: int) -> None:
            process.loop.resume()
            self.setting.world.call_later(self.random.random() * 0.05, self._unless_stopped, lambda: pause(left - 1))

        pause(20)

    def _restart(self) -> None:
        host = self._someone()
        host.stop(lambda: self._start_later(host))

    def _rolling_restart(self) -> None:
        if self._rolling:
            return
        self._rolling = True
        left = list(self.hosts)

        def next_one() -> None:
            if self._stopped or not left:
                self._rolling = False
                return
            host = left.pop()
            host.stop(lambda: started(host))

        def started(host: Host) -> None:
            host.start()
            wait(host)

        def wait(host: Host) -> None:
            if host.serving is not None or self._stopped:
                next_one()
            else:
                self.setting.world.call_later(0.1, wait, host)

        next_one()

    def _decay(self) -> None:
        """A node finds files damaged when it starts, of partitions that others have whole: one node at a time."""
        host, image = self._someone(), self.setting.checker.image
        if host.process is None or any(self._is_mending(one) for one in self.hosts):
            return
        alive = {one.node for one in self.hosts if one.serving is not None} - {host.node}
        names = [
            f"{topic.name}-{one.index}"
            for topic in image.topics.values()
            for one in topic.partitions
            if host.node in one.replicas and alive.intersection(one.isr)
        ]
        if names:
            host.kill()
            host.decayed = set(self.random.sample(names, self.random.randrange(1, len(names) + 1)))
            self._start_later(host)

    def _is_mending(self, host: Host) -> bool:
        """Whether what this host lost may be needed yet."""
        if host.decayed:
            return True
        partitions = [one for topic in self.setting.checker.image.topics.values() for one in topic.partitions]
        return bool(host.seen["replica damaged"]) and any(
            host.node in one.replicas and host.node not in one.isr for one in partitions
        )

    def _replace(self) -> None:
        host = self._someone()
        if not self.administrator.replacing and all(h.process is not None for h in self.hosts):
            host.held = True
            host.power_cut(silent=self.random.random() < 0.5)
            self.administrator.begin(self.administrator.replace(host))

    # -- transactions

    def step(self, name: str, worker: Worker) -> None:
        """A worker is about to take this step of a transaction: it dies there, or hangs, or what it rests on goes."""
        options, random = self.setting.options, self.random
        if self._stopped:
            return
        if random.random() < options.kills:
            self._end_life(worker)
        elif random.random() < options.zombies:
            worker.hang(random.expovariate(1 / options.lasts_s))
        strikes = options.strikes * (2 if name == "end" else 1)
        if random.random() < strikes and not self._striking:
            self._striking = True
            coordinator, *others = supports(self.setting.checker, worker.transactional_id)
            find = random.choice([coordinator, coordinator, *others])
            after_s = random.choice([0.0, 0.002, 0.01])
            if name == "end" and random.random() < 0.3:
                self._strike_between(name, coordinator(), random.choice(others)())
            else:
                self.setting.world.call_later(after_s, self._unless_stopped, lambda: self._strike(name, find()))
            if random.random() < 0.3:  # nobody asks again how it ended
                self.setting.world.call_later(
                    random.random() * 0.01, self._unless_stopped, lambda: self._end_life(worker)
                )
            self._after(options.lasts_s, self._strike_again)

    def _end_life(self, worker: Worker) -> None:
        assert self.workload is not None
        worker.kill(for_good=self.random.random() < 0.3 and self.workload.can_spare(worker))

    def _strike_again(self) -> None:
        self._striking = False

    def _die(self, host: Host) -> None:
        host.kill()
        self._start_later(host)

    def _strike_between(self, step: str, coordinator: NodeId | None, other: NodeId | None) -> None:
        """The two do not hear each other, so that a marker does not come through; then the coordinator dies."""
        if coordinator is None or other is None or coordinator == other:
            return
        self.setting.coverage.note(f"struck at {step}")
        self._cut({(coordinator, other), (other, coordinator)}, set())
        self._after(0.1, lambda: self._die(self.hosts[coordinator - 1]))

    def _strike(self, step: str, node: NodeId | None) -> None:
        if node is None:
            return
        self.setting.coverage.note(f"struck at {step}")
        host = self.hosts[node - 1]
        match self.random.choice(["kill", "power cut", "pause", "stop", "cut", "silence", "silence"]):
            case "kill":
                self._die(host)
            case "power cut":
                host.power_cut(silent=self.random.random() < 0.5)
                self._start_later(host)
            case "pause":
                if (process := host.process) is not None:
                    process.loop.pause()
                    self._after(self.setting.options.lasts_s, process.loop.resume)
            case "silence":  # its followers hear no more of it, everybody else does; then it dies
                self._cut(set(), {way for way in self._ways() if way[0] == node})
                self._after(0.05, lambda: self._die(host))
            case "stop":
                host.stop(lambda: self._start_later(host))
            case _:
                ways = {way for way in self._ways() if node in way}
                self._cut(ways, ways if self.random.random() < 0.5 else set())

    # -- the network

    def _cut(self, meshes: Ways, streams: Ways) -> None:
        self.setting.coverage.note("partition")
        cut = (meshes, streams)
        self._cuts.append(cut)
        self._recut()
        self._after(self.setting.options.lasts_s, lambda: self._mend(cut))

    def _mend(self, cut: tuple[Ways, Ways]) -> None:
        self._cuts = [other for other in self._cuts if other is not cut]
        self._recut()

    def _recut(self) -> None:
        empty: Ways = set()
        self.setting.cut(empty.union(*(m for m, _ in self._cuts)), empty.union(*(s for _, s in self._cuts)))

    def _ways(self) -> list[tuple[NodeId, NodeId]]:
        return [(a.node, b.node) for a in self.hosts for b in self.hosts if a is not b]

    def _cut_leader_off(self) -> None:
        leader = self._leader().node
        ways = {way for way in self._ways() if leader in way}
        streams = ways if self.random.random() < 0.5 else set()
        self._cut(ways, streams)

    def _split(self) -> None:
        side = {host.node for host in self.hosts if self.random.random() < 0.5}
        ways = {(a, b) for a, b in self._ways() if (a in side) != (b in side)}
        self._cut(ways, ways)

    def _one_way_cuts(self) -> None:
        part = self.random.choice([0.15, 0.3, 0.5])
        ways = {way for way in self._ways() if self.random.random() < part}
        self._cut(ways, ways if self.random.random() < 0.5 else set())

    def _cut_streams(self) -> None:
        part = self.random.choice([0.15, 0.3, 0.5])
        self._cut(set(), {way for way in self._ways() if self.random.random() < part})

    def _bad_links(self) -> None:
        random, meshes, streams = self.random, self.setting.meshes, self.setting.streams
        meshes.late = random.choice([0.0, 0.05, 0.2])
        streams.late = random.choice([0.0, 0.05, 0.2])
        for way in self._ways():
            if random.random() < 0.3:
                meshes.slow[way] = random.choice([5.0, 50.0, 400.0])
        self._after(self.setting.options.lasts_s, self.setting.calm)

    def _reset(self) -> None:
        for one, other in self._ways():
            if one < other and self.random.random() < 0.4:
                if self.random.random() < 0.7:
                    self.setting.meshes.reset(one, other)
                if self.random.random() < 0.7:
                    self.setting.streams.reset(str(one), str(other))

    # -- disks and clocks

    def _set_speed(self, host: Host, stalls: float, stall_ms: float) -> None:
        host.stalls, host.stall_ms = stalls, stall_ms
        if host.process is not None:
            host.process.disk.stalls, host.process.disk.stall_ms = stalls, stall_ms

    def _slow(self, stalls: float, stall_ms: float) -> None:
        host = self._someone()
        self._set_speed(host, stalls, stall_ms)
        self._after(self.setting.options.lasts_s, lambda: self._set_speed(host, 0.0, 0.0))

    def _stall_who_joins(self) -> None:
        """Whoever is about to be in sync gets no further than it is."""
        self._stalls_joining = True
        self._after(self.setting.options.lasts_s, self._stall_nobody)

    def _stall_nobody(self) -> None:
        self._stalls_joining = False

    def _joins(self, leader: NodeId, joining: NodeId) -> None:
        if self._stopped or not self._stalls_joining:
            return
        self.setting.coverage.note("stalled while it joined")
        host = self.hosts[joining - 1]
        self._set_speed(host, 1.0, 3000.0)
        self._after(self.setting.options.lasts_s, lambda: self._set_speed(host, 0.0, 0.0))
        self._cut(set(), {(leader, joining)})

    def _failing_disk(self) -> None:
        host = self._someone()
        host.faults.failing = self.random.choice([0.02, 0.1])
        self._after(self.setting.options.lasts_s, lambda: self._whole(host))

    def _full_disk(self) -> None:
        host = self._someone()
        host.faults.full = True
        self._after(self.setting.options.lasts_s, lambda: self._whole(host))

    def _whole(self, host: Host) -> None:
        host.faults.failing, host.faults.full = 0.0, False
        process = host.process
        if process is not None and hasattr(process, "broker") and any(p.error is not None for p in process.logs):
            host.kill()
            self._start_later(host)

    def _clock(self) -> None:
        process = self._someone().process
        if process is not None:
            self.setting.coverage.note("clock jumped")
            process.clock.jump(self.random.choice([-3_600_000, -500, 500, 86_400_000]))
            process.clock.drift(1.0 + self.setting.options.drift * (2 * self.random.random() - 1))

"""What happens to a cluster, by chance: every action is drawn from the mixture of the run, and mended after a while."""

from collections.abc import Callable, Sequence
from random import Random

from ottla.core.types import NodeId
from ottla.raft.core import Member, Membership
from tests.sim.raft.administrator import Administrator
from tests.sim.raft.bits import flip_cold_bit
from tests.sim.raft.host import Host
from tests.sim.raft.setting import Setting

Cut = set[tuple[NodeId, NodeId]]


class Nemesis:
    """Acts from `start` until `stop`, which mends everything but lost disks."""

    def __init__(self, setting: Setting, hosts: Sequence[Host], administrator: Administrator, random: Random) -> None:
        self.setting, self.hosts, self.administrator, self.random = setting, hosts, administrator, random
        self._stopped = False
        self._cuts: list[Cut] = []
        self._actions: dict[str, Callable[[], None]] = {
            "power cut": self._power_cut,
            "kill": self._kill,
            "cut leader off": self._cut_leader_off,
            "split": self._split,
            "one-way cuts": self._one_way_cuts,
            "bad links": self._bad_links,
            "reset": self._reset,
            "slow disk": self._slow_disk,
            "failing disk": self._failing_disk,
            "full disk": self._full_disk,
            "clock": self._clock,
            "add": self._add,
            "remove": self._remove,
            "replace disk": self._replace_disk,
            "transfer": self._transfer,
            "bit flip": self._bit_flip,
            "power cut in a job": self._power_cut_in_a_job,
            "power cut everywhere": self._power_cut_everywhere,
            "pause": self._pause,
            "cut off after a commit": self._cut_off_after_a_commit,
            "cut off but for a learner": self._cut_off_but_for_a_learner,
        }

    def start(self) -> None:
        self.calm()
        if self.setting.options.actions:
            self._after(self.setting.options.every_s, self._act)

    def calm(self) -> None:
        """The network as it is while nothing special happens to it."""
        network, options = self.setting.network, self.setting.options
        network.loss, network.duplicates, network.late = options.loss, options.duplicates, options.late
        network.delay_ms, network.latest_ms = options.delay_ms, 1500.0
        network.resets = 0.0
        network.slow.clear()

    def stop(self) -> None:
        """Everything is repaired, and every machine whose disk is whole is started."""
        self._stopped = True
        logs = self.administrator.checker.logs
        logs.first_known = logs.changing = None
        self._cuts.clear()
        self.setting.network.heal()
        self.setting.network.delay_ms = (0.1, 1.0)
        for host in self.hosts:
            host.faults.failing, host.faults.full, host.faults.power_cut_in = 0.0, False, None
            self._set_speed(host, 0.0, 0.0)
            if host.process is not None:
                host.process.loop.resume()
            if host.bits_flipped:
                host.kill()  # its next start finds out
        self._supervise()

    def _supervise(self) -> None:
        """Also who stops only now, over a write that failed before, is started again."""
        for host in self.hosts:
            if host not in self.administrator.lost:
                host.start()
        self.setting.world.call_later(1.0, self._supervise)

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
        for host in self.hosts:  # one that stopped by itself, or did not start, is started again by its supervisor
            if host.process is None and not host.awaited and host not in self.administrator.lost:
                self._start_later(host)

    def _start_later(self, host: Host) -> None:
        host.awaited = True
        self._after(self.setting.options.lasts_s, lambda: self._start(host))

    def _start(self, host: Host) -> None:
        host.awaited = False
        if host not in self.administrator.lost:
            host.start()

    # -- whom

    def _someone(self) -> Host:
        return self._leader() if self.random.random() < 0.4 else self.random.choice(self.hosts)

    def _leader(self) -> Host:
        leading = [h for h in self.hosts if h.raft is not None and h.raft.core.leader == h.raft.core.member]
        return max(leading, key=lambda h: h.raft.term if h.raft else 0) if leading else self.random.choice(self.hosts)

    # -- processes and machines

    def _power_cut(self) -> None:
        host = self._someone()
        host.power_cut(silent=self.random.random() < 0.5)
        self._start_later(host)

    def _kill(self) -> None:
        host = self._someone()
        host.kill()
        if self.random.random() < 0.3:
            host.start()
        else:
            self._start_later(host)

    def _power_cut_in_a_job(self) -> None:
        self._someone().faults.power_cut_in = self.random.randrange(1, 15)

    def _power_cut_everywhere(self) -> None:
        for host in self.hosts:
            host.power_cut(silent=True)
            self._start_later(host)

    def _pause(self) -> None:
        self._pause_process(self._someone())

    def _pause_process(self, host: Host) -> None:
        process = host.process
        if process is not None:
            process.loop.pause()
            self._after(self.setting.options.lasts_s, process.loop.resume)

    # -- the network

    def _cut(self, cut: Cut) -> None:
        self.setting.coverage.note("partition")
        self._cuts.append(cut)
        self._recut()
        self._after(self.setting.options.lasts_s, lambda: self._mend(cut))

    def _mend(self, cut: Cut) -> None:
        self._cuts = [other for other in self._cuts if other is not cut]
        self._recut()

    def _recut(self) -> None:
        self.setting.network.cut = set().union(*self._cuts)

    def _ways(self) -> list[tuple[NodeId, NodeId]]:
        return [(a.node, b.node) for a in self.hosts for b in self.hosts if a is not b]

    def _cut_leader_off(self) -> None:
        leader = self._leader().node
        self._cut({way for way in self._ways() if leader in way})

    def _cut_off_after_a_commit(self) -> None:
        """The next commit is the last that this leader counts, and no follower learns of it in this term. Its clients
        do: after that it may stand still, too, or die.
        """

        def strike(member: Member) -> None:
            logs.first_known = None
            self.setting.coverage.note("leader cut off after a commit")
            self._cut({way for way in self._ways() if member.node in way})
            host = self.hosts[member.node - 1]
            self.setting.world.call_later(0.005, self._unless_stopped, lambda: self._follow_up(host))

        logs = self.administrator.checker.logs
        logs.first_known = strike

    def _follow_up(self, host: Host) -> None:
        match self.random.randrange(0, 4):
            case 0:
                self._pause_process(host)
            case 1:
                host.kill()
                self._start_later(host)

    def _cut_off_but_for_a_learner(self) -> None:
        """As soon as a leader adds a member it reaches that one alone, and not the voters. Soon after it is asked for
        another change, which it has to refuse.
        """

        def strike(leader: Member, membership: Membership) -> None:
            if membership.learners:
                logs.changing = None
                self.setting.coverage.note("leader cut off but for a learner")
                lost = {voter.node for voter in membership.voters} - {leader.node}
                self._cut({way for way in self._ways() if leader.node in way and lost & set(way)})
                self.setting.world.call_later(0.1, self._unless_stopped, self._remove_in_haste)

        logs = self.administrator.checker.logs
        logs.changing = strike
        self._add()

    def _split(self) -> None:
        side = {host.node for host in self.hosts if self.random.random() < 0.5}
        self._cut({(a, b) for a, b in self._ways() if (a in side) != (b in side)})

    def _one_way_cuts(self) -> None:
        self.setting.coverage.note("one-way cut")
        part = self.random.choice([0.15, 0.3, 0.5])
        self._cut({way for way in self._ways() if self.random.random() < part})

    def _bad_links(self) -> None:
        network, random = self.setting.network, self.random
        network.loss = random.choice([0.0, 0.05, 0.2, 0.4])
        network.duplicates = random.choice([0.0, 0.1, 0.5])
        network.late = random.choice([0.0, 0.1, 0.3])
        network.resets = random.choice([0.0, 0.0, 0.02])
        for way in self._ways():
            if random.random() < 0.2:
                network.slow[way] = random.choice([5.0, 50.0, 400.0])
        self._after(self.setting.options.lasts_s, self.calm)

    def _reset(self) -> None:
        for one, other in self._ways():
            if one < other and self.random.random() < 0.4:
                self.setting.network.reset(one, other)

    # -- disks and clocks

    def _set_speed(self, host: Host, stalls: float, stall_ms: float) -> None:
        host.stalls, host.stall_ms = stalls, stall_ms
        if host.process is not None:
            host.process.disk.stalls, host.process.disk.stall_ms = stalls, stall_ms

    def _slow_disk(self) -> None:
        host = self._someone()
        self._set_speed(host, self.random.choice([0.1, 0.5, 1.0]), self.random.choice([100.0, 700.0, 3000.0]))
        self._after(self.setting.options.lasts_s, lambda: self._set_speed(host, 0.0, 0.0))

    def _failing_disk(self) -> None:
        faults = self._someone().faults
        faults.failing = self.random.choice([0.02, 0.1, 0.5])
        self._after(self.setting.options.lasts_s, lambda: setattr(faults, "failing", 0.0))

    def _full_disk(self) -> None:
        faults = self._someone().faults
        faults.full = True
        self._after(self.setting.options.lasts_s, lambda: setattr(faults, "full", False))

    def _clock(self) -> None:
        process = self._someone().process
        if process is not None:
            self.setting.coverage.note("clock jumped")
            process.clock.jump(self.random.choice([-3_600_000, -500, 500, 86_400_000]))
            process.clock.drift(1.0 + self.setting.options.drift * (2 * self.random.random() - 1))

    def _bit_flip(self) -> None:
        host = self._someone()
        if self.administrator.may_lose_a_disk(host) and flip_cold_bit(host, self.random):
            self.administrator.lost.append(host)
            host.kill()
            host.start()
            self.administrator.begin(self.administrator.replace(host))

    # -- members

    def _may_change_members(self) -> bool:
        """Not while a disk is lost. A hasty administrator does not wait for the change before: it is to be refused."""
        hasty = self.random.random() < 0.2
        return not self.administrator.lost and (hasty or self.administrator.is_settled())

    def _add(self) -> None:
        spare = [host for host in self.hosts if self.administrator.is_spare(host)]
        if spare and self._may_change_members():
            self.administrator.begin(self.administrator.add(self.random.choice(spare)))

    def _remove(self) -> None:
        voters = self.administrator.voters()
        if len(voters) > 1 and self._may_change_members():
            leader = self._leader().member
            member = leader if leader in voters and self.random.random() < 0.4 else self.random.choice(voters)
            self.administrator.begin(self.administrator.remove(member))

    def _remove_in_haste(self) -> None:
        voters = self.administrator.voters()
        if len(voters) > 1 and not self.administrator.lost:
            self.administrator.begin(self.administrator.remove(self.random.choice(voters)))

    def _replace_disk(self) -> None:
        host = self._someone()
        if self.administrator.may_lose_a_disk(host):
            host.power_cut(silent=self.random.random() < 0.5)
            self.administrator.lost.append(host)
            self.administrator.begin(self.administrator.replace(host))

    def _transfer(self) -> None:
        if not self.administrator.busy and (voters := self.administrator.voters()):
            successor = self.random.choice(voters)
            self.administrator.begin(self.administrator.transfer(self.hosts[successor.node - 1]))

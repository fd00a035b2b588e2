"""One run: a cluster, its clients and its nemesis for a while; then everything heals, and the cluster has to go on."""

from collections.abc import Callable, MutableMapping
from time import process_time
from typing import Any, NoReturn

import structlog

from ottla.core.types import NodeId
from ottla.raft.core import Membership
from ottla.testing.sim import linearizability
from ottla.testing.sim.register import History
from tests.sim.raft.administrator import Administrator
from tests.sim.raft.calls import Calls
from tests.sim.raft.checker import Checker
from tests.sim.raft.clients import Client
from tests.sim.raft.host import Host, first_member
from tests.sim.raft.nemesis import Nemesis
from tests.sim.raft.options import Options
from tests.sim.raft.readers import Reader
from tests.sim.raft.setting import Setting
from tests.sim.raft.violation import Violation
from tests.sim.raft.wire_codec import wire_codec
from tests.sim.report import Outcome

HEALS_WITHIN_S = 60.0
"""Of virtual time: to elect a leader, replace lost disks, bring everybody up to date."""


class Run:
    """The parts of one run, and its phases."""

    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.options = options or Options.draw(Setting.generator(seed, "options"))
        self.setting = Setting(seed, self.options, wire_codec() if self.options.wire else None)
        setting, random = self.setting, self.setting.random("run")
        nodes = [NodeId(n) for n in range(1, self.options.voters + self.options.spares + 1)]
        voters = [first_member(node) for node in nodes[: self.options.voters]]
        bootstrap = Membership(frozenset(voters), endpoints={m: f"sim:{m.node}" for m in voters})
        nobody = Membership(frozenset())
        self.hosts = [
            Host(setting, node, setting.random(f"host {node}"), bootstrap if node <= self.options.voters else nobody)
            for node in nodes
        ]
        self.checker = Checker(setting, {host.node: host for host in self.hosts})
        self.checker.logs.membership = bootstrap
        self.calls = Calls(setting)
        self.history = History()
        self.administrator = Administrator(self.calls, self.hosts, self.checker, setting.random("administrator"))
        self.nemesis = Nemesis(setting, self.hosts, self.administrator, setting.random("nemesis"))
        self.clients = [
            Client(f"c{n}", self.calls, self.hosts, self.checker, self.history, setting.random(f"client {n}"))
            for n in range(self.options.clients)
        ]
        self.readers = [
            Reader(f"r{n}", self.calls, self.hosts, self.checker, self.history, setting.random(f"reader {n}"))
            for n in range(self.options.readers)
        ]
        self._in_sessions = [random.random() < self.options.in_sessions for _ in self.clients]

    def go(self) -> None:
        """Raises Violation."""
        world = self.setting.world
        for host in self.hosts[: self.options.voters]:
            host.start()
        for client, session in zip(self.clients, self._in_sessions, strict=True):
            self.calls.loop.create_task(client.run(session=session))
        for reader in self.readers:
            self.calls.loop.create_task(reader.run())
        self.nemesis.start()
        world.run_for(self.options.duration_s)
        self._heal()
        self._compare()
        self._judge_history()

    # -- the end

    def _heal(self) -> None:
        """After the last fault there is progress within a bounded time."""
        self.setting.trace("heals", "nemesis")
        self.nemesis.stop()
        self._expect("the administrator's work ends", lambda: not self.administrator.busy)
        self.administrator.begin(self.administrator.tidy())
        self._expect("lost members can be removed", lambda: not self.administrator.busy)
        done = [client.acknowledged for client in self.clients]
        self._expect(
            "proposals are acknowledged again",
            lambda: all(c.acknowledged > before for c, before in zip(self.clients, done, strict=True)),
        )
        for client in self.clients:
            client.stopped = True
        for reader in self.readers:
            reader.stopped = True
        self._expect("all voters reach the same state", self._are_level)

    def _expect(self, what: str, condition: Callable[[], bool]) -> None:
        try:
            self.setting.world.run_until(condition, within_s=HEALS_WITHIN_S)
        except AssertionError:
            raise Violation("progress after healing", f"not within {HEALS_WITHIN_S} s: {what}") from None

    def _are_level(self) -> bool:
        logs = self.checker.logs
        if self.checker.logs.outstanding or logs.membership is None or logs.membership.learners:
            return False
        for member in sorted(logs.membership.voters):
            raft = self.hosts[member.node - 1].raft
            if raft is None or raft.core.member != member:
                return False
            if not raft.commit_index == raft.core.log.last_index == logs.max_committed:
                return False
        return True

    def _compare(self) -> None:
        membership = self.checker.logs.membership
        assert membership is not None
        states = {}
        for member in sorted(membership.voters):
            process = self.hosts[member.node - 1].process
            assert process is not None
            states[member] = process.store.snapshot()()
        if len(set(states.values())) != 1:
            raise Violation("state-machine safety", f"states differ at the end: {states}")

    def _judge_history(self) -> None:
        try:
            violation = linearizability.check(self.history.operations, max_steps=200_000)
        except linearizability.Undecided:
            return
        if violation is not None:
            raise Violation("linearizability", str(violation))

    def count(self) -> None:
        """What is counted once, at the end."""
        coverage, setting = self.setting.coverage, self.setting
        if setting.network.codec is not None:
            coverage.note("wire codec used", setting.network.delivered)
        for host in self.hosts:
            for name, times in host.seen.items():
                coverage.note(name, times)
        if self.options.voters == 1:
            coverage.note("single voter")


def drop(logger: Any, name: str, event: MutableMapping[str, Any]) -> NoReturn:
    """A processor for structlog: thousands of runs have much to say."""
    raise structlog.DropEvent


def run_seed(seed: int, *, trace_lines: int = 0) -> Outcome:
    """Everything that happens is decided by the seed."""
    started = process_time()
    structlog.configure(processors=[drop], cache_logger_on_first_use=False)
    run = Run(seed)
    violation = None
    try:
        run.go()
    except Violation as error:
        violation = error
    run.count()
    world = run.setting.world
    return Outcome(
        seed=seed,
        violation=violation,
        tail=run.setting.told.lines(trace_lines or 60) if violation or trace_lines else [],
        coverage=run.setting.coverage,
        events=world.events,
        simulated_s=world.now_s,
        cpu_s=process_time() - started,
        acknowledged=sum(client.acknowledged for client in run.clients),
        options=run.options,
    )

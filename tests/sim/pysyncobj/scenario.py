"""One run: three members, clients, faults, and the judgement. Everything follows from the seed."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from examples.kv.commands import Answer, encode
from examples.kv.commands import Append as AppendCommand
from ottla.testing.sim.clock import SimClock
from ottla.testing.sim.register import Append, Read
from tests.sim.pysyncobj.disk import Killed, SimDisk
from tests.sim.pysyncobj.invariants import Invariants
from tests.sim.pysyncobj.network import Network
from tests.sim.pysyncobj.state import READ, SEPARATOR

MEMBERS = ["a", "b", "c"]
FAULTS_MS = 20_000.0
SETTLE_MS = 20_000.0
TICK_MS = 50.0

Done = Callable[[bytes | None], None]
"""Called with the answer, or with None when it will never be known."""


class Peer(Protocol):
    """The process of one member, whatever consensus it runs."""

    @property
    def leads(self) -> bool: ...
    @property
    def term(self) -> int: ...
    @property
    def commit(self) -> int: ...
    @property
    def applied(self) -> list[bytes]:
        """The commands that its state consists of."""

    def tick(self) -> None: ...
    def connection(self, other: str, up: bool) -> None: ...
    def receive(self, source: str, message: Any) -> None: ...
    def submit(self, command: bytes, done: Done) -> None: ...


class System(Protocol):
    """A consensus that is put to the test."""

    def around(self, run: "Run") -> AbstractContextManager[None]:
        """What has to stand while the run lasts."""

    def disk_content(self) -> Any:
        """Of a new member."""

    def start(self, name: str, run: "Run") -> Peer: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended."""

    seed: int
    broken: dict[str, str]
    """Invariants and what was seen, the first that broke first."""
    acknowledged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Which there are."""

    network: bool = True
    kills: bool = True
    power_cuts: bool = False


class Run:
    """The world of one seed."""

    def __init__(self, system: System, seed: int, faults: Faults) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.clock = SimClock()
        self.invariants = Invariants()
        self.peers: dict[str, Peer] = {}
        self._system = system
        self._faults = faults
        self._faulty = True
        self._submitted = 0
        self.disks: dict[str, SimDisk[Any]] = {
            name: SimDisk(system.disk_content(), self.clock, self.random, power_cuts=faults.power_cuts)
            for name in MEMBERS
        }
        self.network = Network(
            MEMBERS,
            self.clock,
            self.random,
            deliver=lambda source, target, message: self._call(target, lambda peer: peer.receive(source, message)),
            changed=lambda name, other, up: self._call(name, lambda peer: peer.connection(other, up)),
            alive=lambda name: name in self.peers,
        )

    def judge(self) -> Verdict:
        with self._system.around(self):
            for name in MEMBERS:
                self._start(name)
                self._plan_tick(name)
            self.clock.run_for(FAULTS_MS / 10)
            for client in range(4):
                self._request(f"client {client}")
            self._fault()
            self.clock.run_for(FAULTS_MS)
            self._faulty = False
            self.network.heal()
            for disk in self.disks.values():
                disk.forget_kill()
            self.clock.run_for(SETTLE_MS / 2)
            leader = self._probe()
            self.clock.run_for(SETTLE_MS / 4)
            states = {name: peer.applied for name, peer in self.peers.items()}
            self.invariants.finished(states, leader[0] if leader else None)
        return Verdict(self.seed, self.invariants.broken, len(self.invariants.acknowledged))

    def forget_everything(self) -> None:
        """Hold on to no process."""
        self.peers.clear()
        self.clock.forget_all()

    def _probe(self) -> list[str]:
        """Lets every leader commit a command, and returns those that did: what they apply later is all there is."""
        done: list[str] = []
        for name in [name for name, peer in self.peers.items() if peer.leads]:

            def committed(answer: bytes | None, name: str = name) -> None:
                if answer is not None:
                    done.append(name)

            self._call(name, lambda peer: peer.submit(b"probe|", committed))
            self.clock.run_for(SETTLE_MS / 4)
        return done

    # -- members

    def _start(self, name: str) -> None:
        self.invariants.started(name)
        self.disks[name].restart()
        self.peers[name] = self._system.start(name, self)
        self._call(name, lambda peer: peer.tick())

    def _tick(self, name: str) -> None:
        self._call(name, lambda peer: peer.tick())
        self._plan_tick(name)

    def _plan_tick(self, name: str) -> None:
        self.clock.call_later(TICK_MS * (0.8 + 0.4 * self.random.random()), self._tick, name)

    def _call(self, name: str, call: Callable[[Peer], None]) -> None:
        peer = self.peers.get(name)
        if peer is None:
            return
        with suppress(Killed):
            call(peer)
        if self.disks[name].killed:
            self._end(name)
        else:
            self.invariants.watch(name, leads=peer.leads, term=peer.term, commit=peer.commit, applied=len(peer.applied))

    def _end(self, name: str) -> None:
        if self.peers.pop(name, None) is not None:
            self.network.break_all(name)
            self.clock.call_later(100 + 3000 * self.random.random(), self._start, name)

    # -- clients

    def _request(self, client: str) -> None:
        """A command, and the next one some time later, whether it was answered or not."""
        if self._faulty:
            self._submit(client, f"key {self.random.randrange(3)}")
            self.clock.call_later(20 + 300 * self.random.random(), self._request, client)

    def _submit(self, client: str, key: str) -> None:
        name = self.random.choice(MEMBERS)
        if name not in self.peers:
            return
        self._submitted += 1
        unique = b"%d;" % self._submitted
        reads = self.random.random() < 0.3
        history, now = self.invariants.history, self.clock.monotonic_ms
        request = READ + key.encode() if reads else encode(AppendCommand(key.encode(), unique))
        command = unique + SEPARATOR + request
        number = history.invoke(client, key, Read() if reads else Append(unique), now())

        def done(answer: bytes | None) -> None:
            if answer is not None and not self.disks[name].killed:
                seen = Read(answer[1:] if answer[:1] == b"=" else None)
                history.complete(number, now(), seen if reads else Append(unique, Answer.decode(answer).length))
                self.invariants.acknowledged.append(command)

        self._call(name, lambda peer: peer.submit(command, done))

    # -- faults

    def _fault(self) -> None:
        if not self._faulty:
            return
        a, b = self.random.sample(MEMBERS, 2)
        duration_ms = 3000 * self.random.random() ** 2
        may_kill = self._faults.kills and len(self.peers) == len(MEMBERS) and not self._is_killing()
        match self.random.choice(["kill", "kill soon", "break", "hold", "cut off", "nothing"]):
            case "kill" if may_kill:
                self.disks[a].killed = True
                self._end(a)
            case "kill soon" if may_kill:
                self.disks[a].kill_after(self.random.randrange(0, 30))
            case "break" if self._faults.network:
                self.network.break_link(a, b, duration_ms)
            case "hold" if self._faults.network:
                self.network.hold(a, b, duration_ms)
            case "cut off" if self._faults.network:
                for other in MEMBERS:
                    if other != a:
                        self.network.break_link(a, other, 2 * duration_ms)
        self.clock.call_later(100 + 1500 * self.random.random(), self._fault)

    def _is_killing(self) -> bool:
        return any(disk.will_kill for disk in self.disks.values())

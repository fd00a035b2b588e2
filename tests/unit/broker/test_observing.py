"""Nodes that do not vote follow the log of one that does: whole, in order, and of another one when that fails."""

import asyncio
from collections.abc import Mapping
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.control import observed_log
from ottla.broker.control.calls import Calls
from ottla.broker.control.observed_log import ObservedLog
from ottla.broker.control.observer import LEADERLESS_AFTER_MS, SILENT_AFTER_MS, Observer
from ottla.core.types import ZERO_UUID, NodeId
from ottla.raft.core import Entry as LogEntry
from ottla.raft.core import EntryKind
from ottla.raft.core import Snapshot as LogSnapshot
from ottla.raft.quorum import Entry, Member, Membership, Snapshot
from ottla.raft.replica import Replica
from ottla.testing.sim.clock import SimClock

ONE, TWO, ME = NodeId(1), NodeId(2), NodeId(9)
VOTERS = Membership(
    frozenset([Member(ONE, ZERO_UUID), Member(TWO, ZERO_UUID)]),
    endpoints={Member(ONE, ZERO_UUID): "one:1", Member(TWO, ZERO_UUID): "two:2"},
)


class Net:
    """Meshes of some nodes, whose frames arrive in the next turn; `room` is how many may be on their way."""

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.ends: dict[NodeId, Any] = {}
        self.links: set[frozenset[NodeId]] = set()
        self.room = 1000
        self.flying = 0

    def calls(self, node: NodeId) -> Calls:
        mesh = SimpleNamespace(
            attach=lambda events: self.ends.__setitem__(node, events),
            is_linked=lambda other: frozenset((node, other)) in self.links,
            send_frame=lambda other, frame: self.send(node, other, frame),
        )
        return Calls(node, cast(Any, mesh), self.clock, Random())

    def send(self, source: NodeId, target: NodeId, frame: bytes) -> bool:
        if frozenset((source, target)) not in self.links or self.flying >= self.room:
            return False
        self.flying += 1

        def arrive() -> None:
            self.flying -= 1
            if frozenset((source, target)) in self.links:
                self.ends[target].received(source, frame)

        self.clock.call_later(1, arrive)
        return True

    def link(self, one: NodeId, other: NodeId) -> None:
        self.links.add(frozenset((one, other)))
        self.ends[one].linked(other)
        self.ends[other].linked(one)

    def part(self, one: NodeId, other: NodeId) -> None:
        self.links.discard(frozenset((one, other)))
        self.ends[one].unlinked(other, broken=True)
        self.ends[other].unlinked(one, broken=True)


class Machine:
    """Remembers all."""

    def __init__(self) -> None:
        self.state = b""

    def apply(self, entry: Entry) -> bytes:
        self.state += entry.data
        return b""

    def snapshot(self) -> Any:
        state = self.state
        return lambda: state

    def restore(self, snapshot: Snapshot) -> None:
        self.state = snapshot.data

    def leadership_changed(self, leader: NodeId | None, term: int) -> None: ...


class Voter:
    """A quorum's view, and what it serves."""

    def __init__(self, net: Net, node: NodeId) -> None:
        self.leader: NodeId | None = ONE
        self.term, self.membership = 1, VOTERS
        self.votes = True
        self.replica = Replica(Machine(), kept_entries=0)
        self.observe = self.replica.observe
        self.calls = net.calls(node)
        self.served = ObservedLog(cast(Any, self), lambda: self.votes, self.calls, net.clock)
        self.calls.start()

    def commit(self, index: int, data: bytes) -> None:
        self.replica.apply(LogEntry(index=index, term=1, kind=EntryKind.DATA, data=data))

    def compact(self, index: int) -> None:
        data = self.replica.freeze()()
        self.replica.compacted(LogSnapshot(index, 1, VOTERS, data))


class Me:
    """A node that observes."""

    def __init__(self, net: Net) -> None:
        self.has_own_log = False
        self.own_leader: NodeId | None = None
        self.offset = 0
        self.state = b""
        self.leader: NodeId | None = None
        self.voters: Mapping[NodeId, str] = {}
        self.calls = net.calls(ME)
        self.observer = Observer(self, self.calls, net.clock)
        self.calls.start()
        self.observer.start()

    def observed(self, item: Snapshot | Entry) -> None:
        assert item.index > self.offset
        self.offset = item.index
        self.state = item.data if isinstance(item, Snapshot) else self.state + item.data

    def told_of_quorum(self, leader: NodeId | None, voters: Mapping[NodeId, str]) -> None:
        self.leader, self.voters = leader, voters


class World:
    def __init__(self) -> None:
        self.clock = SimClock()
        self.net = Net(self.clock)
        self.voters = {node: Voter(self.net, node) for node in (ONE, TWO)}
        self.me = Me(self.net)

    def followed(self) -> NodeId | None:
        return self.me.observer.followed

    def commit(self, index: int, data: bytes) -> None:
        for voter in self.voters.values():
            voter.commit(index, data)

    async def run(self, ms: float = 50.0) -> None:
        for _ in range(int(ms / 5)):
            await asyncio.sleep(0)
            self.clock.run_for(5)


@pytest.fixture
def world() -> World:
    return World()


async def test_entries_before_and_after_come_in_order_and_the_quorum_is_known(world: World) -> None:
    world.commit(1, b"a")
    world.commit(4, b"b")
    world.net.link(ME, ONE)
    await world.run()
    world.commit(5, b"c")
    await world.run()
    assert (world.me.state, world.me.offset) == (b"abc", 5)
    assert (world.me.leader, world.me.voters) == (ONE, {ONE: "one:1", TWO: "two:2"})
    world.voters[ONE].leader = TWO
    await world.run(300)
    assert world.me.leader == TWO


async def test_a_snapshot_comes_in_chunks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed_log, "CHUNK_BYTES", 3)
    world.commit(1, b"abcdefgh")
    world.voters[ONE].compact(1)
    world.commit(2, b"i")
    world.net.room = 1
    world.net.link(ME, ONE)
    await world.run(500)
    assert (world.me.state, world.me.offset) == (b"abcdefghi", 2)


async def test_another_voter_is_followed_when_the_link_ends(world: World) -> None:
    world.commit(1, b"a")
    world.net.link(ME, ONE)
    world.net.link(ME, TWO)
    await world.run()
    assert world.followed() == ONE
    world.net.part(ME, ONE)
    world.commit(2, b"b")
    await world.run(300)
    assert (world.followed(), world.me.state) == (TWO, b"ab")


async def test_a_voter_that_hears_of_no_leader_or_votes_no_more_is_left(world: World) -> None:
    world.net.link(ME, ONE)
    world.net.link(ME, TWO)
    await world.run()
    world.voters[ONE].leader = None
    await world.run(SILENT_AFTER_MS + 500)
    assert world.followed() == TWO
    world.voters[ONE].leader, world.voters[TWO].votes = TWO, False
    world.net.part(ME, TWO)
    world.net.link(ME, TWO)
    await world.run(500)
    assert world.followed() == ONE


async def test_a_stream_for_which_too_much_waits_ends_and_the_observer_asks_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observed_log, "MAX_WAITING_BYTES", 10)
    world.net.link(ME, ONE)
    await world.run()
    world.net.room = 0
    for n in range(1, 6):
        world.commit(n, b"1234")
    await world.run()
    assert world.me.offset == 0
    assert not world.voters[ONE].replica._observers
    world.net.room = 100
    await world.run(500)
    assert (world.me.offset, world.me.state) == (5, b"1234" * 5)


async def test_a_member_follows_its_own_log_unless_it_hears_of_no_leader_for_long(world: World) -> None:
    world.me.has_own_log, world.me.own_leader = True, ONE
    world.net.link(ME, ONE)
    await world.run(500)
    assert world.followed() is None
    world.me.own_leader = None  # removed, perhaps
    await world.run(LEADERLESS_AFTER_MS + 300)
    assert world.followed() == ONE
    world.me.own_leader = TWO
    await world.run(300)
    assert world.followed() is None

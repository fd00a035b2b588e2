"""What nemeses of the network, of disks and of clocks do to a process that is where a node would be.

No test of its own accord: `test_nemeses` runs it in namespaces.
"""

import asyncio
import errno
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from chaos.nemeses.catalog import NEMESES
from ottla.testing.chaos.catalog import make
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.nemesis import Nemesis
from ottla.testing.chaos.network import CLIENTS, Link

NODES = (1, 2, 3)
LEADER, CONTROLLER = 2, 3
DEADLINE_S = 20.0
ARRIVES_S = 0.25
KINDS = [name for name in NEMESES if name.startswith(("partition-", "clock-")) or name in {"slow-links", "lossy-links"}]
DISKS = ["stalled-disk", "slow-syncs", "write-errors", "read-errors"]


class Prepared(LocalTarget):
    """Its nodes are not there; who leads is known all the same."""

    @property
    def running(self) -> tuple[int, ...]:
        return self.nodes

    def leaders(self) -> Mapping[tuple[str, int], int]:
        return {("topic", 0): LEADER}

    def controller(self) -> int | None:
        return CONTROLLER

    def kill(self, *nodes: int) -> None: ...

    def start_nodes(self, *nodes: int) -> None: ...


class Probe:
    """See `probe.py`."""

    def __init__(self, target: Prepared, place: int) -> None:
        assert target.network is not None
        launch = [] if place == CLIENTS else ["sh", str(target.launcher(place))]
        host = target.network.address(place)
        command = [*launch, sys.executable, str(Path(__file__).with_name("probe.py")), str(place), host]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline().removesuffix("\n")
        assert line, "the probe ended"
        return line

    def ask(self, *words: object) -> str:
        self.tell(*words)
        return self.hear()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Places:
    """One target without nodes, its nemeses, and a probe at each place."""

    def __init__(self, directory: Path) -> None:
        self.target = Prepared(directory)
        self.nemeses: dict[str, Nemesis] = {name: make(name, self.target, NEMESES) for name in [*KINDS, *DISKS]}
        self.target.prepare()
        self.probes = {place: Probe(self.target, place) for place in (*NODES, CLIENTS)}
        for probe in self.probes.values():
            probe.ask("time")  # it is there

    def close(self) -> None:
        for probe in self.probes.values():
            probe.close()
        for nemesis in self.nemeses.values():
            nemesis.cleanup()
        self.target.close()

    def open_links(self) -> set[Link]:
        """The directions in which a packet arrives."""
        network = self.target.network
        assert network is not None
        for sender, receiver in permutations(self.probes, 2):
            self.probes[sender].ask("send", network.address(receiver), 1)
        time.sleep(ARRIVES_S)
        return {
            (int(heard.partition(":")[0]), receiver)
            for receiver, probe in self.probes.items()
            for heard in probe.ask("heard").split()[1:]
        }

    def all_links(self) -> set[Link]:
        return set(permutations(self.probes, 2))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    places = Places(tmp_path_factory.mktemp("places"))
    try:
        yield places
    finally:
        places.close()


def both(*links: Link) -> set[Link]:
    return {*links, *((b, a) for a, b in links)}


async def closed_by(places: Places, name: str, seed: int) -> tuple[set[Link], tuple[int, ...]]:
    """The directions in which nothing arrives, and whom it hit."""
    nemesis = places.nemeses[name]
    fault = await nemesis.inject(Random(seed))
    try:
        closed = places.all_links() - places.open_links()
    finally:
        await nemesis.heal()
    assert places.open_links() == places.all_links()
    return closed, fault.nodes


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_minority_is_cut_off(places: Places, seed: int) -> None:
    closed, (alone,) = await closed_by(places, "partition-halves", seed)
    assert closed == both(*((alone, other) for other in NODES if other != alone))


async def test_a_leader_and_a_controller_are_cut_off(places: Places) -> None:
    for name, alone in (("partition-leader", LEADER), ("partition-controller", CONTROLLER)):
        closed, hit = await closed_by(places, name, 1)
        assert hit == (alone,)
        assert closed == both(*((alone, other) for other in NODES if other != alone))


async def test_a_node_is_cut_off_from_clients_too(places: Places) -> None:
    closed, (alone,) = await closed_by(places, "partition-isolated", 1)
    assert closed == both(*((alone, other) for other in places.probes if other != alone))


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_one_direction_is_closed(places: Places, seed: int) -> None:
    closed, (one,) = await closed_by(places, "partition-one-way", seed)
    outgoing = {(one, other) for other in NODES if other != one}
    assert closed in (outgoing, {(b, a) for a, b in outgoing})


@pytest.mark.parametrize("name", ["partition-ring", "partition-bridge"])
async def test_one_of_three_links_is_closed(places: Places, name: str) -> None:
    closed, _ = await closed_by(places, name, 1)
    assert len(closed) == 2
    assert {len({a, b} & set(NODES)) for a, b in closed} == {2}


async def test_a_partition_on_top_of_slow_links_hides_them(places: Places) -> None:
    slow, cut = places.nemeses["slow-links"], places.nemeses["partition-isolated"]
    await slow.inject(Random(1))
    fault = await cut.inject(Random(1))
    assert not [link for link in places.open_links() if fault.nodes[0] in link]
    await slow.heal()
    await cut.heal()
    assert places.open_links() == places.all_links()


async def test_links_are_slow(places: Places) -> None:
    nemesis, network = places.nemeses["slow-links"], places.target.network
    assert network is not None
    fault = await nemesis.inject(Random(1))
    one = fault.nodes[0]
    other = next(node for node in NODES if node != one)
    try:
        for _ in range(5):
            places.probes[one].ask("send", network.address(other), 1)
        deadline = time.monotonic() + DEADLINE_S
        while not (heard := places.probes[other].ask("heard").split())[1:]:
            assert time.monotonic() < deadline
    finally:
        await nemesis.heal()
    # Never earlier than the smallest of the delays that it draws from.
    assert float(heard[0]) >= 0.02


async def test_links_lose_and_repeat(places: Places) -> None:
    nemesis, network, sent = places.nemeses["lossy-links"], places.target.network, 3000
    assert network is not None
    fault = await nemesis.inject(Random(5))
    one = fault.nodes[0]
    other = next(node for node in NODES if node != one)
    try:
        for _ in range(sent // 100):
            places.probes[one].ask("send", network.address(other), 100)
            await asyncio.sleep(0.01)
        await asyncio.sleep(ARRIVES_S)
        _, heard = places.probes[other].ask("heard").split()
    finally:
        await nemesis.heal()
    arrived = int(heard.partition(":")[2])
    assert sent * 0.3 < arrived < sent * 1.01, fault


async def test_a_clock_jumps_and_returns(places: Places) -> None:
    nemesis = places.nemeses["clock-jump"]
    fault = await nemesis.inject(Random(1))
    try:
        offset_s = int(fault.detail.split()[2].replace(",", ""))
        await until_clock_is(places, fault.nodes[0], offset_s)
        for other in NODES:
            if other != fault.nodes[0]:
                assert abs(float(places.probes[other].ask("time")) - time.time()) < 2
    finally:
        await nemesis.heal()
    await until_clock_is(places, fault.nodes[0], 0)


async def test_a_clock_goes_at_another_speed(places: Places) -> None:
    nemesis = places.nemeses["clock-skew"]
    fault = await nemesis.inject(Random(2))
    probe, speed = places.probes[fault.nodes[0]], float(fault.detail.split()[2])
    try:
        first_false = first_true = 0.0
        deadline = time.monotonic() + DEADLINE_S
        while True:  # it looks at its file now and then
            false, true = float(probe.ask("time")), time.time()
            gained_s = (false - first_false) - (true - first_true)
            if first_true and abs(gained_s) > 0.5:
                break
            if not first_true:
                first_false, first_true = false, true
            assert time.monotonic() < deadline, (fault, gained_s)
            await asyncio.sleep(0.1)
    finally:
        await nemesis.heal()
    assert (gained_s > 0) == (speed > 1)


async def until_clock_is(places: Places, node: int, offset_s: float) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while abs(float(places.probes[node].ask("time")) - time.time() - offset_s) > 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_syncs_are_slow(places: Places) -> None:
    nemesis = places.nemeses["slow-syncs"]
    fault = await nemesis.inject(Random(1))
    late_s = int(fault.detail.split()[2]) / 1000
    try:
        assert float(places.probes[fault.nodes[0]].ask("sync", a_file(places, fault.nodes[0]))) >= late_s
    finally:
        await nemesis.heal()


async def test_writes_and_reads_fail(places: Places) -> None:
    for name, what in (("write-errors", "sync"), ("read-errors", "read")):
        nemesis = places.nemeses[name]
        fault = await nemesis.inject(Random(1))
        node = fault.nodes[0]
        try:
            assert int(places.probes[node].ask(what, a_file(places, node))) == errno.EIO
            other = next(one for one in NODES if one != node)
            assert places.probes[other].ask("read", a_file(places, other)) == "written"
        finally:
            await nemesis.heal()
        assert float(places.probes[node].ask("sync", a_file(places, node))) >= 0


async def test_syncs_wait(places: Places) -> None:
    nemesis = places.nemeses["stalled-disk"]
    fault = await nemesis.inject(Random(1))
    probe = places.probes[fault.nodes[0]]
    probe.tell("sync", a_file(places, fault.nodes[0]))
    await asyncio.sleep(0.5)
    await nemesis.heal()
    assert float(probe.hear()) >= 0.4


def a_file(places: Places, node: int) -> Path:
    directory = places.target.data(node)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "file"
    if not path.exists():
        path.write_text("written")
    return path

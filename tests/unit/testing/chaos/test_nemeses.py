"""What nemeses choose, what they damage, and what they say where they cannot be."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from ottla.core.errors import ConfigError
from ottla.testing.chaos import catalog, processes
from ottla.testing.chaos.disks import cold_files, rot
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.needs import Need, Unavailable
from ottla.testing.chaos.network import Network
from ottla.testing.chaos.partitions import PartitionRing

NODES = (1, 2, 3, 4, 5)


class Standing(LocalTarget):
    """Five nodes that are not there."""

    def __init__(self, directory: Path, running: Sequence[int] = NODES) -> None:
        super().__init__(directory, nodes=len(NODES))
        self.up = tuple(running)
        self.killed: list[tuple[int, ...]] = []
        self.started: list[tuple[int, ...]] = []

    @property
    def running(self) -> tuple[int, ...]:
        return self.up

    def leaders(self) -> Mapping[tuple[str, int], int]:
        return {("__consumer_offsets", 0): 1, ("topic", 0): 4}

    def controller(self) -> int | None:
        return 3

    def kill(self, *nodes: int) -> None:
        self.killed.append(nodes)

    def start_nodes(self, *nodes: int) -> None:
        self.started.append(nodes)


@pytest.mark.parametrize(
    ("name", "count"), [("kill", 1), ("kill-leader", 1), ("kill-controller", 1), ("kill-majority", 3), ("kill-all", 5)]
)
async def test_as_many_are_killed_at_once_as_the_name_says_and_all_of_them_are_started(
    tmp_path: Path, name: str, count: int
) -> None:
    target = Standing(tmp_path)
    nemesis = catalog.make(name, target)
    fault = await nemesis.inject(Random(1))
    (killed,) = target.killed
    assert len(set(killed)) == count
    assert fault.nodes == killed
    await nemesis.heal()
    await nemesis.heal()
    assert target.started == [killed]


async def test_leaders_are_those_of_users_topics(tmp_path: Path) -> None:
    assert (await processes.KillLeader(Standing(tmp_path)).inject(Random(1))).nodes == (4,)
    assert (await processes.KillController(Standing(tmp_path)).inject(Random(1))).nodes == (3,)


async def test_what_is_down_already_is_left_alone(tmp_path: Path) -> None:
    target = Standing(tmp_path, running=[2])
    assert (await processes.KillController(target).inject(Random(1))).nodes == (2,)
    target.up = ()
    nemesis = processes.Kill(target)
    fault = await nemesis.inject(Random(1))
    assert (fault.nodes, fault.detail) == ((), "nobody: the nodes are down already")
    await nemesis.heal()
    assert target.started == []


@pytest.mark.parametrize("count", [3, 4, 5])
def test_on_a_ring_everybody_sees_a_majority_and_no_two_the_same(count: int) -> None:
    nodes = range(1, count + 1)
    closed, _, _ = PartitionRing.plan(PartitionRing.__new__(PartitionRing), Random(1), nodes)
    links = set(permutations(nodes, 2)) - set(closed)
    seen = [frozenset({node, *(b for a, b in links if a == node)}) for node in nodes]
    assert all(len(one) > count / 2 for one in seen)
    assert len(set(seen)) == len(seen) or count == 3  # of three, the one in the middle sees all
    assert all((b, a) in links for a, b in links)


def test_cold_files_are_those_of_closed_segments(tmp_path: Path) -> None:
    partition = tmp_path / "topic-0"
    partition.mkdir()
    for base in (0, 10, 20):
        for suffix in (".log", ".index", ".timeindex", ".log.cleaned", ".snapshot"):
            (partition / f"{base:020}{suffix}").write_bytes(b"" if suffix == ".index" else b"content")
    assert [path.name for path in cold_files(tmp_path)] == [
        f"{base:020}{suffix}" for base in (0, 10) for suffix in (".log", ".timeindex")
    ]


@pytest.mark.parametrize("seed", range(20))
def test_files_rot_a_little(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "topic-0" / "file"
    path.parent.mkdir()
    whole = bytes(1000)
    path.write_bytes(whole)
    said = rot(Random(seed), path)
    left = path.read_bytes()
    assert left != whole
    if "cut" in said:
        assert 750 <= len(left) < 1000
        assert not any(left)
    else:
        assert len(left) == 1000
        assert 1 <= sum(byte.bit_count() for byte in left) <= 8


def test_names_and_words_for_several() -> None:
    assert catalog.names(["kill", "pause", "kill"]) == ["kill", "pause"]
    partitions = catalog.names(["partition"])
    assert len(partitions) == 7
    assert all(catalog.wants_namespaces(name) for name in partitions)
    assert not catalog.wants_namespaces("kill")
    with pytest.raises(ConfigError, match=r"--faults kil: choose among partition, kill"):
        catalog.names(["kil"])


def test_what_lacks_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need("`gcc`", lambda: "install gcc")
    monkeypatch.setattr(processes.Kill, "needs", (need,))
    with pytest.raises(Unavailable, match=r"^kill needs `gcc`: install gcc$"):
        catalog.check("kill")


def test_a_network_is_made_only_in_one_of_the_runs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTTLA_CHAOS_OUTSIDE", raising=False)
    with pytest.raises(Unavailable, match="a network of the run's own"):
        Network(tmp_path)


def test_equipment_comes_before_the_start(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path)
    target.preload(Path("/lib/clock.so"), {"CLOCK": "clock-{node}"})
    target.prepare()
    assert target.launcher(2).read_text() == 'exec env CLOCK=clock-2 LD_PRELOAD=/lib/clock.so "$@"\n'

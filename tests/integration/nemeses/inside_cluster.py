"""What nemeses do to three running nodes, and that everything is as before when they are healed.

No test of its own accord: `test_nemeses` runs it in namespaces.
"""

import asyncio
import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from ottla.client.sync import Admin, Producer
from ottla.testing.chaos.catalog import make
from ottla.testing.chaos.disks import SEGMENT_BYTES, ColdRot
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.nemesis import Nemesis

KINDS = [
    "kill",
    "kill-leader",
    "pause-controller",
    "rolling-restart",
    "disk-full",
    "lost-disk",
    "cold-rot",
    "flood",
    "garbage",
    "memory-limit",
    "add-remove-node",
    "reassign",
]
DEADLINE_S = 60.0

pytestmark = pytest.mark.timeout(240)


class Under:
    """A cluster, and its nemeses."""

    def __init__(self, directory: Path) -> None:
        self.target = LocalTarget(directory)
        self.nemeses: dict[str, Nemesis] = {name: make(name, self.target) for name in KINDS}

    def state(self, node: int) -> str:
        return str(next(one["state"] for one in self.target.cluster.status()["nodes"] if one["id"] == node))

    def in_sync(self) -> bool:
        """Whether each replica of the topic is, and there are three of each."""
        with Admin(bootstrap_servers=self.target.grpc) as admin:
            partitions = admin.describe_topic("topic").partitions
        return all(len(one.in_sync_replica_ids) == len(one.replica_ids) == 3 for one in partitions)


@pytest.fixture(scope="module")
def under(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Under]:
    under = Under(tmp_path_factory.mktemp("under"))
    try:
        under.target.start()
        with Admin(bootstrap_servers=under.target.grpc) as admin:
            admin.create_topic("topic", 4, 3)
        yield under
    finally:
        for nemesis in under.nemeses.values():
            nemesis.cleanup()
        under.target.close()


async def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await asyncio.to_thread(what):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("name", "state"), [("kill", "killed"), ("kill-leader", "killed"), ("pause-controller", "paused")]
)
async def test_a_process_is_killed_or_paused(under: Under, name: str, state: str) -> None:
    fault = await under.nemeses[name].inject(Random(1))
    (node,) = fault.nodes
    assert under.state(node) == state
    assert node not in under.target.running
    await under.nemeses[name].heal()
    await until(lambda: under.state(node) == "running")
    await until(under.in_sync)


async def test_every_node_is_restarted(under: Under) -> None:
    before = {node: under.target.pid(node) for node in under.target.nodes}
    await under.nemeses["rolling-restart"].inject(Random(1))
    assert all(under.target.pid(node) != pid for node, pid in before.items())


async def test_a_disk_is_full(under: Under) -> None:
    nemesis = under.nemeses["disk-full"]
    fault = await nemesis.inject(Random(1))
    (node,) = fault.nodes
    file = under.target.data(node) / "much"
    with pytest.raises(OSError) as raised:
        file.write_bytes(bytes(1 << 20))
    assert raised.value.errno == errno.ENOSPC
    await nemesis.heal()
    file.write_bytes(bytes(1 << 20))
    file.unlink()
    await until(under.in_sync)


async def test_a_disk_is_lost_and_replaced(under: Under) -> None:
    nemesis = under.nemeses["lost-disk"]
    fault = await nemesis.inject(Random(2))
    (node,) = fault.nodes
    assert not list(under.target.data(node).iterdir())
    await nemesis.heal()
    assert under.state(node) == "running"
    await until(under.in_sync)


async def test_files_rot_and_their_node_is_replaced(under: Under) -> None:
    nemesis = under.nemeses["cold-rot"]
    assert isinstance(nemesis, ColdRot)
    await asyncio.to_thread(fill, under, 4 * SEGMENT_BYTES)
    (node,) = (await nemesis.inject(Random(1))).nodes
    spoilt = set(nemesis.spoilt)
    assert spoilt
    assert all(path.parent == under.target.data(node) for path in spoilt)
    await nemesis.heal()
    assert under.state(node) == "running"
    await nemesis.settle()
    assert not nemesis.spoilt
    assert under.state(node) == "running"
    await until(under.in_sync)


def fill(under: Under, size_bytes: int) -> None:
    """So much into one partition, in pieces."""
    piece = os.urandom(size_bytes // 16)
    with Producer(bootstrap_servers=under.target.grpc) as producer:
        for _ in range(16):
            producer.send_and_wait("topic", piece, partition=0)


async def test_a_flood_takes_connections_and_garbage_none_of_the_nodes(under: Under) -> None:
    flood, garbage = under.nemeses["flood"], under.nemeses["garbage"]
    (node,) = (await flood.inject(Random(3))).nodes
    pid = under.target.pid(node)
    await until(lambda: len(os.listdir(f"/proc/{pid}/fd")) > 400)
    await flood.heal()
    since = under.target.cluster.log_size()
    (node,) = (await garbage.inject(Random(3))).nodes
    await until(lambda: "connection closed" in under.target.cluster.log_tail(start=since))
    await garbage.heal()
    assert len(under.target.running) == 3
    await until(under.in_sync)


async def test_memory_is_limited(under: Under) -> None:
    nemesis = under.nemeses["memory-limit"]
    (node,) = (await nemesis.inject(Random(1))).nodes
    pid = under.target.pid(node)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    assert 0 < soft < 1 << 40
    await nemesis.heal()
    if under.target.pid(node) == pid:
        assert resource.prlimit(pid, resource.RLIMIT_AS) == (hard, hard)
    assert under.state(node) == "running"
    await until(under.in_sync)


async def test_replicas_move_and_return(under: Under) -> None:
    nemesis = under.nemeses["reassign"]
    before = replicas(under)
    await nemesis.inject(Random(1))
    assert replicas(under) != before
    await nemesis.heal()
    await until(lambda: replicas(under) == before and under.in_sync())


async def test_a_node_joins_and_leaves(under: Under) -> None:
    nemesis = under.nemeses["add-remove-node"]
    assert (await nemesis.inject(Random(1))).nodes == (4,)
    assert list(under.target.nodes) == [1, 2, 3, 4]
    assert any(4 in of for of in replicas(under).values())
    await nemesis.heal()
    assert list(under.target.nodes) == [1, 2, 3]
    await until(under.in_sync)


def replicas(under: Under) -> dict[int, tuple[int, ...]]:
    with Admin(bootstrap_servers=under.target.grpc) as admin:
        return {one.partition: one.replica_ids for one in admin.describe_topic("topic").partitions}

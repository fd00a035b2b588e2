"""Disks that are full or lost, and files that rot while their node is down."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import ClassVar, Final

from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.needs import NAMESPACES, Need
from ottla.testing.chaos.nemesis import Fault, Nemesis
from ottla.testing.cluster import ClusterError

REPLACE_TIMEOUT_S: Final = 90.0
SEGMENT_BYTES: Final = 1 << 20
SUFFIXES: Final = (".log", ".index", ".timeindex", ".txnindex")
RETRY_S: Final = 1.0


class OfLocalNodes(Nemesis):
    """What can be done only to nodes of Ottla, on this machine."""

    on: ClassVar[frozenset[str]] = frozenset({"ottla"})
    target: LocalTarget

    async def one(self, random: Random) -> int | None:
        """Any that runs."""
        running = await self.blocking(lambda: self.target.running)
        return random.choice(running) if running else None

    def nobody(self) -> Fault:
        """Nothing could be done."""
        return Fault(name=self.name, detail="nobody: the nodes are down already")

    def start_again(self, node: int) -> None:
        """As an operator does once the cause is gone. Blocks."""
        self.target.kill(node)
        self.target.start_nodes(node)


class DiskFull(OfLocalNodes):
    """No space left on one node's device; later there is again, and the node is started again."""

    name: ClassVar[str] = "disk-full"
    description: ClassVar[str] = "no space left on a node's file system; freed later, and the node started again"
    needs: ClassVar[tuple[Need, ...]] = (NAMESPACES,)

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        self._disks = target.use_small_disks()
        self._full: int | None = None

    async def inject(self, random: Random) -> Fault:
        """Of one."""
        node = await self.one(random)
        if node is None:
            return self.nobody()
        self._full = node
        await self.blocking(self._disks.fill, self.target.data(node))
        return Fault(name=self.name, detail=f"node {node}", nodes=(node,))

    async def heal(self) -> None:
        """Space, and a start: what failed to write has failed for good."""
        node, self._full = self._full, None
        if node is not None:
            await self.blocking(self._disks.free, self.target.data(node))
            await self.blocking(self.start_again, node)

    def cleanup(self) -> None:
        """The target unmounts it."""


class LostDisk(OfLocalNodes):
    """A node is killed and its directory emptied; it comes back by `ottla node replace`."""

    name: ClassVar[str] = "lost-disk"
    description: ClassVar[str] = "kill -9 of a node and the loss of all its data, then `ottla node replace`"
    loses_data: ClassVar[bool] = True

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        self._lost: int | None = None

    async def inject(self, random: Random) -> Fault:
        """Of one."""
        node = await self.one(random)
        if node is None:
            return self.nobody()
        self._lost = node
        await self.blocking(self.target.kill, node)
        await self.blocking(empty, self.target.data(node))
        return Fault(name=self.name, detail=f"node {node}", nodes=(node,))

    async def heal(self) -> None:
        """Replace it; again while the cluster has no leader that could decide."""
        node, self._lost = self._lost, None
        if node is not None:
            await self.blocking(_retried, lambda: self.target.cluster.replace_node(node))

    def cleanup(self) -> None:
        """Nothing is left to undo."""


class ColdRot(OfLocalNodes):
    """While a node is down, bits of its closed files flip, or their ends are lost; other replicas have them whole.

    Closed are the files of every segment but the last one of a partition. What lies there was replicated long ago.
    The node works on with them for as long as may be; before another one's files rot, and in the end, it is replaced:
    a replica that was found damaged does not come back by itself.
    """

    name: ClassVar[str] = "cold-rot"
    description: ClassVar[str] = "flipped bits and lost ends in closed files of a node that is down"
    loses_data: ClassVar[bool] = True

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        # Small ones, so that there are closed files before the run is over.
        target.settings.setdefault("log.segment.bytes", SEGMENT_BYTES)
        self._down: int | None = None
        self._rotten: int | None = None

    async def inject(self, random: Random) -> Fault:
        """Kill one, and damage up to three of its files."""
        await self.settle()
        node = await self.one(random)
        if node is None:
            return self.nobody()
        self._down = self._rotten = node
        await self.blocking(self.target.kill, node)
        files = await self.blocking(cold_files, self.target.data(node))
        chosen = random.sample(files, min(len(files), random.choice([1, 2, 3])))
        done = [await self.blocking(rot, random, path) for path in chosen]
        self.spoilt |= {path.parent for path in chosen}
        return Fault(name=self.name, detail=f"node {node}: {'; '.join(done) or 'no closed files yet'}", nodes=(node,))

    async def heal(self) -> None:
        """Start it; what it makes of its files is its own affair."""
        node, self._down = self._down, None
        if node is not None:
            await self.blocking(self.target.start_nodes, node)

    async def settle(self) -> None:
        """Replace the node whose files rotted."""
        node, self._rotten = self._rotten, None
        if node is None or not self.spoilt:
            return
        await self.blocking(self.target.kill, node)
        await self.blocking(empty, self.target.data(node))
        await self.blocking(_retried, lambda: self.target.cluster.replace_node(node))
        self.spoilt.clear()

    def cleanup(self) -> None:
        """Nothing is left to undo."""


def cold_files(data: Path) -> list[Path]:
    """The logs of all segments but the last of each partition, and their indexes."""
    found: list[Path] = []
    for directory in sorted(path for path in data.rglob("*") if path.is_dir()):
        segments = sorted(directory.glob("[0-9]" * 20 + ".log"))
        for segment in segments[:-1]:
            files = [segment.with_suffix(suffix) for suffix in SUFFIXES]
            found += [path for path in files if path.exists() and path.stat().st_size > 0]
    return found


def rot(random: Random, path: Path) -> str:
    """Flip a few bits of that file, or lose up to a quarter of it; what was done."""
    size = path.stat().st_size
    where = f"{path.parent.name}/{path.name}"
    with path.open("r+b") as file:
        if random.random() < 0.3:
            kept = size - random.randint(1, max(1, size // 4))
            file.truncate(kept)
            return f"{where} cut from {size} to {kept} bytes"
        positions = sorted(random.randrange(size) for _ in range(random.choice([1, 8])))
        for position in positions:
            file.seek(position)
            (byte,) = file.read(1)
            file.seek(position)
            file.write(bytes([byte ^ 1 << random.randrange(8)]))
    return f"{where}: {len(positions)} bits flipped from byte {positions[0]} on"


def empty(directory: Path) -> None:
    """Also where it is a mount point, which cannot be removed itself."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _retried(call: Callable[[], object]) -> object:
    deadline = time.monotonic() + REPLACE_TIMEOUT_S
    while True:
        try:
            return call()
        except ClusterError as error:
            if time.monotonic() > deadline or "is running" in str(error):
                raise
            time.sleep(RETRY_S)

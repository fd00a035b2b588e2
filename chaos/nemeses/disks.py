"""Disks that do not answer, are slow, or fail: by a library in the nodes' processes (`chaos.stalled_disk`)."""

from random import Random
from typing import ClassVar

from chaos.stalled_disk import StallableDisks
from ottla.testing.chaos.disks import OfLocalNodes
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.needs import LINUX, Need, command
from ottla.testing.chaos.nemesis import Fault


class _Disk(OfLocalNodes):
    """Something befalls the disk of one node."""

    needs: ClassVar[tuple[Need, ...]] = (LINUX, command("gcc", "gcc"))
    restarts: ClassVar[bool] = False
    """Whether the node is started again at the end, since what failed has failed for good."""

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        self._disks = _disks_of(target)
        self._line: str | None = None
        self._hit: int | None = None

    async def inject(self, random: Random) -> Fault:
        """Of one."""
        node = await self.one(random)
        if node is None:
            return self.nobody()
        what, detail = self.what(random)
        self._hit = node
        self._line = await self.blocking(self._disks.begin, what, self.target.data(node))
        return Fault(name=self.name, detail=f"node {node}{detail}", nodes=(node,))

    async def heal(self) -> None:
        """The disk is well."""
        self.cleanup()
        node, self._hit = self._hit, None
        if self.restarts and node is not None:
            await self.blocking(self.start_again, node)

    def cleanup(self) -> None:
        """The disk is well."""
        line, self._line = self._line, None
        if line is not None:
            self._disks.end(line)

    def what(self, random: Random) -> tuple[str, str]:
        """A word of `StallableDisks.begin`, and what to say of it."""
        raise NotImplementedError


class StalledDisk(_Disk):
    """Its heartbeats go on."""

    name: ClassVar[str] = "stalled-disk"
    description: ClassVar[str] = "a node's writes and syncs do not return"

    def what(self, random: Random) -> tuple[str, str]:
        """Nothing to draw."""
        return "stall", ""


class SlowSyncs(_Disk):
    """As a disk is that somebody else uses too."""

    name: ClassVar[str] = "slow-syncs"
    description: ClassVar[str] = "a node's syncs take 20 to 500 ms longer"

    def what(self, random: Random) -> tuple[str, str]:
        """How much."""
        late_ms = random.choice([20, 100, 500])
        return f"slow:{late_ms}", f", {late_ms} ms"


class WriteErrors(_Disk):
    """As a disk does that has gone read-only."""

    name: ClassVar[str] = "write-errors"
    description: ClassVar[str] = "a node's writes and syncs fail with EIO; later the node is started again"
    restarts: ClassVar[bool] = True

    def what(self, random: Random) -> tuple[str, str]:
        """Nothing to draw."""
        return "fail", ""


class ReadErrors(_Disk):
    """As bad blocks do."""

    name: ClassVar[str] = "read-errors"
    description: ClassVar[str] = "a node's reads fail with EIO; later the node is started again"
    restarts: ClassVar[bool] = True

    def what(self, random: Random) -> tuple[str, str]:
        """Nothing to draw."""
        return "unreadable", ""


_SHARED: dict[LocalTarget, StallableDisks] = {}


def _disks_of(target: LocalTarget) -> StallableDisks:
    """The same for all nemeses of one target, as the library is loaded once."""
    if target not in _SHARED:
        disks = _SHARED[target] = StallableDisks(target.directory / "disks")
        target.preload(disks.object, disks.variables)
    return _SHARED[target]

"""What everything in one run shares."""

from random import Random
from typing import TYPE_CHECKING, Any

from ottla.core.types import NodeId
from ottla.testing.sim.loop import World
from ottla.testing.sim.mesh import Codec, SimMeshes
from ottla.testing.sim.streams import SimStreams
from ottla.testing.sim.trace import Trace
from tests.sim.cluster.coverage import ClusterCoverage
from tests.sim.cluster.options import Options
from tests.sim.raft.describe import describe

if TYPE_CHECKING:
    from tests.sim.cluster.checker import Checker


class Setting:
    """The world of a seed. Each part draws from a generator of its own, so that a part more shifts no other's draws."""

    checker: "Checker"

    def __init__(self, seed: int, options: Options, codec: Codec | None) -> None:
        self.seed, self.options = seed, options
        self.world = World(self.random("turns"))
        self.meshes = SimMeshes(self.world, self.random("meshes"), codec=codec)
        self.streams = SimStreams(self.world, self.random("streams"))
        self.coverage = ClusterCoverage()
        self.told = Trace(6000, describe)
        self.healed = False  # the last fault is over
        self.calm()

    def calm(self) -> None:
        """The network as it is while nothing special happens to it."""
        options = self.options
        self.meshes.delay_ms = self.streams.delay_ms = options.delay_ms
        self.meshes.late = self.streams.late = options.late
        self.meshes.slow.clear()

    def cut(self, meshes: set[tuple[NodeId, NodeId]], streams: set[tuple[NodeId, NodeId]]) -> None:
        """Which links carry nothing from now on; what others held back goes on."""
        self.meshes.cut, self.streams.cut = meshes, {(str(a), str(b)) for a, b in streams}
        self.meshes.mended()
        self.streams.heal("", "")

    def random(self, name: str) -> Random:
        return self.generator(self.seed, name)

    @staticmethod
    def generator(seed: int, name: str) -> Random:
        """Of one part of a run."""
        return Random(f"{seed}/{name}")

    def trace(self, what: str, where: object, *details: Any) -> None:
        self.told.add(self.world.now_s, str(where), what, *details)

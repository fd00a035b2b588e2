"""What everything in one run shares."""

from random import Random
from typing import TYPE_CHECKING, Any

from ottla.testing.sim.loop import World
from ottla.testing.sim.network import Codec, SimNetwork
from ottla.testing.sim.trace import Trace
from tests.sim.raft.coverage import Coverage
from tests.sim.raft.describe import describe
from tests.sim.raft.machine import Applied
from tests.sim.raft.options import Options

if TYPE_CHECKING:
    from tests.sim.raft.checker import Checker


class Setting:
    """The world of a seed. Each part draws from a generator of its own, so that a part more shifts no other's draws."""

    checker: "Checker"

    def __init__(self, seed: int, options: Options, codec: Codec | None) -> None:
        self.seed, self.options = seed, options
        self.world = World(self.random("turns"))
        self.network = SimNetwork(self.world, self.random("network"), codec=codec)
        self.coverage = Coverage()
        self.applied = Applied()
        self.told = Trace(4000, describe)

    def random(self, name: str) -> Random:
        return self.generator(self.seed, name)

    @staticmethod
    def generator(seed: int, name: str) -> Random:
        """Of one part of a run."""
        return Random(f"{seed}/{name}")

    def trace(self, what: str, where: object, *details: Any) -> None:
        self.told.add(self.world.now_s, str(where), what, *details)

"""The way between a cluster and all that lies outside of it: what a mirror has to the other datacenter."""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from ottla.testing.chaos.needs import NAMESPACES, TUNNELS, Need
from ottla.testing.chaos.nemesis import Fault, Nemesis
from ottla.testing.chaos.network import CLIENTS, Link
from ottla.testing.chaos.partitions import both_ways
from ottla.testing.chaos.slow_link import Shape
from ottla.testing.chaos.target import Target


class _Far(Nemesis):
    """Does something to the links between clients and one node, or all."""

    needs: ClassVar[tuple[Need, ...]] = (NAMESPACES,)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.network = target.use_network()
        self.held: list[Link] = []

    async def inject(self, random: Random) -> Fault:
        """Half of the time to one node."""
        nodes = self.target.nodes
        hit = [random.choice(nodes)] if random.random() < 0.5 else list(nodes)
        self.held = both_ways([CLIENTS], hit)
        detail = await self.blocking(self.do, random, hit)
        whom = "all nodes" if len(hit) > 1 else f"node {hit[0]}"
        return Fault(name=self.name, detail=f"{whom} and the clients{detail}", nodes=tuple(hit))

    async def heal(self) -> None:
        """As before."""
        await self.blocking(self.cleanup)

    def cleanup(self) -> None:
        """The same; blocks."""
        held, self.held = self.held, []
        self.undo(held)

    def do(self, random: Random, nodes: Sequence[int]) -> str:
        """To the links in `held`; what to say of it. Blocks."""
        raise NotImplementedError

    def undo(self, links: Sequence[Link]) -> None:
        """Blocks."""
        raise NotImplementedError


class FarCut(_Far):
    """Packets vanish."""

    name: ClassVar[str] = "far-cut"
    description: ClassVar[str] = "one node or all cut off from clients and mirrors; among each other they are well"

    def do(self, random: Random, nodes: Sequence[int]) -> str:
        """Nothing to draw."""
        self.network.cut(self.held)
        return ""

    def undo(self, links: Sequence[Link]) -> None:
        """Blocks."""
        self.network.mend(links)


class FarSlow(_Far):
    """A long way, and at times a bad one."""

    name: ClassVar[str] = "far-slow"
    description: ClassVar[str] = (
        "packets between clients or mirrors and nodes late by 20 to 200 ms, or lost (2 to 15 %)"
    )
    needs: ClassVar[tuple[Need, ...]] = (NAMESPACES, TUNNELS)

    def do(self, random: Random, nodes: Sequence[int]) -> str:
        """Late, or lost."""
        delay_ms = random.choice([20, 50, 100, 200])
        late = Shape(delay_ms=delay_ms, jitter_ms=delay_ms / 5)
        lossy = Shape(delay_ms=1, jitter_ms=5, loss=random.choice([0.02, 0.05, 0.15]), repeats=0.01)
        shape = random.choice([late, lossy])
        self.network.slow(self.held, shape)
        return f": {shape}"

    def undo(self, links: Sequence[Link]) -> None:
        """Blocks."""
        self.network.speed(links)

"""The network between nodes, cut in the ways of Jepsen's analyses, or slow.

Clients reach every node all the time, except where a nemesis says otherwise: a leader that is cut off keeps its
clients, which is where it can do harm.
"""

from collections.abc import Iterable, Sequence
from itertools import permutations
from random import Random
from typing import ClassVar

from ottla.testing.chaos.needs import NAMESPACES, TUNNELS, Need
from ottla.testing.chaos.nemesis import Fault, Nemesis, majority
from ottla.testing.chaos.network import CLIENTS, Link
from ottla.testing.chaos.slow_link import Shape
from ottla.testing.chaos.target import Target


class _Partition(Nemesis):
    """Cuts some links."""

    needs: ClassVar[tuple[Need, ...]] = (NAMESPACES,)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._network = target.use_network()
        self._held: list[Link] = []

    async def inject(self, random: Random) -> Fault:
        """Cut what `plan` says."""
        links, detail, nodes = await self.blocking(self.plan, random, self.target.nodes)
        self._held = list(links)
        await self.blocking(self._network.cut, self._held)
        return Fault(name=self.name, detail=detail, nodes=tuple(nodes))

    async def heal(self) -> None:
        """Mend them."""
        await self.blocking(self.cleanup)

    def cleanup(self) -> None:
        """The same; blocks."""
        held, self._held = self._held, []
        self._network.mend(held)

    def plan(self, random: Random, nodes: Sequence[int]) -> tuple[Iterable[Link], str, Sequence[int]]:
        """The directions to cut, a word on them, and whom it hits. Blocks."""
        raise NotImplementedError


class PartitionHalves(_Partition):
    """A minority on the one side, a majority on the other."""

    name: ClassVar[str] = "partition-halves"
    description: ClassVar[str] = "a random minority of nodes cut off from the majority"

    def plan(self, random: Random, nodes: Sequence[int]) -> tuple[Iterable[Link], str, Sequence[int]]:
        """Blocks."""
        few = sorted(random.sample(nodes, len(nodes) - majority(nodes)))
        rest = [node for node in nodes if node not in few]
        return both_ways(few, rest), f"{_named(few)} | {_named(rest)}", few


class PartitionLeader(_Partition):
    """The leader of a partition alone, with its clients."""

    name: ClassVar[str] = "partition-leader"
    description: ClassVar[str] = "the leader of a partition cut off from all other nodes; clients still reach it"

    def plan(self, random: Random, nodes: Sequence[int]) -> tuple[Iterable[Link], str, Sequence[int]]:
        """Blocks."""
        leaders = sorted(set(self.target.leaders().values())) or list(nodes)
        alone = random.choice(leaders)
        return both_ways([alone], _others(nodes, alone)), f"node {alone}, a leader, alone", [alone]


class PartitionController(_Partition):
    """The controller alone."""

    name: ClassVar[str] = "partition-controller"
    description: ClassVar[str] = "the active controller cut off from all other nodes"

    def plan(self, random: Random, nodes: Sequence[int]) -> tuple[Iterable[Link], str, Sequence[int]]:
        """Blocks."""
        alone = self.target.controller() or random.choice(nodes)
        return both_ways([alone], _others(nodes, alone)), f"node {alone}, the controller, alone", [alone]


class PartitionIsolated(_Partition):
    """One node cut off from everything, its clients included: a cable is pulled."""

    name: ClassVar[str] = "partition-isolated"
    description: ClassVar[str] = "a node cut off from nodes and clients alike, as when its cable is pulled"

    def plan(self, random: Random, nodes: Sequence[int]) -> tuple[Iterable[Link], str, Sequence[int]]:
        """Blocks."""
        alone = random.choice(nodes)
        return both_ways([alone], [*_others(nodes, alone), CLIENTS]), f"node {alone}, from clients too", [alone]


class PartitionOneWay(_Partition):
    """What one node sends is lost, what is sent to it arrives; or the other way round."""

    name: ClassVar[str] = "partition-one-way"
    description: ClassVar[str] = "a node's packets to the other nodes lost, or those to it, not both"

    def plan(self, random: Random, nodes: Sequence[int]) -> tuple[Iterable[Link], str, Sequence[int]]:
        """Blocks."""
        one = random.choice(nodes)
        if random.random() < 0.5:
            return [(one, other) for other in _others(nodes, one)], f"node {one} is not heard", [one]
        return [(other, one) for other in _others(nodes, one)], f"node {one} does not hear", [one]


class PartitionRing(_Partition):
    """Everybody sees a majority, and no two the same: with three nodes, a chain.

    On a ring each node keeps the links to its nearest neighbours on either side, as many as make a majority with it.
    """

    name: ClassVar[str] = "partition-ring"
    description: ClassVar[str] = "every node sees a majority, no two the same one"

    def plan(self, random: Random, nodes: Sequence[int]) -> tuple[Iterable[Link], str, Sequence[int]]:
        """Blocks."""
        ring = list(nodes)
        random.shuffle(ring)
        if len(ring) <= 3:
            return both_ways(ring[:1], ring[2:]), f"{' - '.join(map(str, ring))}", ring
        reach = majority(ring) // 2
        near = {(ring[at], ring[(at + step) % len(ring)]) for at in range(len(ring)) for step in range(1, reach + 1)}
        kept = near | {(b, a) for a, b in near}
        return [link for link in permutations(ring, 2) if link not in kept], f"ring {'-'.join(map(str, ring))}", ring


class PartitionBridge(_Partition):
    """Two halves that see each other only through one node that sees all."""

    name: ClassVar[str] = "partition-bridge"
    description: ClassVar[str] = "two halves cut off from each other, with one node that sees both"

    def plan(self, random: Random, nodes: Sequence[int]) -> tuple[Iterable[Link], str, Sequence[int]]:
        """Blocks."""
        bridge, *rest = random.sample(nodes, len(nodes))
        one, other = sorted(rest[: len(rest) // 2]), sorted(rest[len(rest) // 2 :])
        return both_ways(one, other), f"{_named(one)} | {_named(other)}, bridge {bridge}", rest


class _Slow(Nemesis):
    """Shapes the links between some nodes."""

    needs: ClassVar[tuple[Need, ...]] = (NAMESPACES, TUNNELS)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._network = target.use_network()
        self._held: list[Link] = []

    async def inject(self, random: Random) -> Fault:
        """Shape them: those of one node, or all."""
        nodes = self.target.nodes
        hit = [random.choice(nodes)] if random.random() < 0.5 else list(nodes)
        shape = self.shape(random)
        self._held = [link for link in permutations(nodes, 2) if set(link) & set(hit)]
        await self.blocking(self._network.slow, self._held, shape)
        whose = "all nodes" if len(hit) > 1 else f"node {hit[0]}"
        return Fault(name=self.name, detail=f"links of {whose}: {shape}", nodes=tuple(hit))

    async def heal(self) -> None:
        """As before."""
        await self.blocking(self.cleanup)

    def cleanup(self) -> None:
        """The same; blocks."""
        held, self._held = self._held, []
        self._network.speed(held)

    def shape(self, random: Random) -> Shape:
        """How they are to be."""
        raise NotImplementedError


class SlowLinks(_Slow):
    """Far apart."""

    name: ClassVar[str] = "slow-links"
    description: ClassVar[str] = "packets between nodes delayed by 20 to 200 ms"

    def shape(self, random: Random) -> Shape:
        """20 to 200 ms."""
        delay_ms = random.choice([20, 50, 100, 200])
        return Shape(delay_ms=delay_ms, jitter_ms=delay_ms / 5)


class LossyLinks(_Slow):
    """As over bad radio: packets lost, late and repeated."""

    name: ClassVar[str] = "lossy-links"
    description: ClassVar[str] = "packets between nodes lost (2 to 15 %), repeated and out of order"

    def shape(self, random: Random) -> Shape:
        """2 to 15 %."""
        return Shape(delay_ms=1, jitter_ms=5, loss=random.choice([0.02, 0.05, 0.15]), repeats=0.01)


def both_ways(some: Iterable[int], others: Iterable[int]) -> list[Link]:
    """The directions between two sides."""
    far = list(others)
    return [link for one in some for other in far for link in ((one, other), (other, one))]


def _others(nodes: Sequence[int], node: int) -> list[int]:
    return [other for other in nodes if other != node]


def _named(nodes: Sequence[int]) -> str:
    return " ".join(map(str, nodes))

"""Nodes that join and leave, and replicas that move, while clients are at work."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar, Final

from ottla.client.sync import Admin
from ottla.client.types import TopicPartition
from ottla.testing.chaos.disks import OfLocalNodes, empty
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.nemesis import Fault
from ottla.testing.chaos.network import MAX_NODES

API_TIMEOUT_MS: Final = 30_000


class AddNode(OfLocalNodes):
    """One more node joins; later all its replicas move away and it leaves."""

    name: ClassVar[str] = "add-remove-node"
    description: ClassVar[str] = "a node added, voting or not, given replicas, and later removed"

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        self._added: int | None = None

    async def inject(self, random: Random) -> Fault:
        """Add it, and move a few partitions to it."""
        free = [number for number in range(1, MAX_NODES + 1) if number not in self.target.nodes]
        if not free:
            return Fault(name=self.name, detail="nobody: there are as many nodes as there can be")
        node, vote = free[0], random.random() < 0.5
        await self.blocking(lambda: self.target.cluster.add_node(node, vote=vote))
        self._added = node
        moved = await self.blocking(self._give, random, node)
        voting = "which votes" if vote else "which does not vote"
        return Fault(name=self.name, detail=f"node {node}, {voting}, with {moved} partitions", nodes=(node,))

    def _give(self, random: Random, node: int) -> int:
        with Admin(bootstrap_servers=self.target.grpc, api_timeout_ms=API_TIMEOUT_MS) as admin:
            replicas = _replicas(admin)
            chosen = random.sample(sorted(replicas), (len(replicas) + 1) // 2)
            admin.alter_reassignments({one: [node, *replicas[one][1:]] for one in chosen})
            return len(chosen)

    async def heal(self) -> None:
        """`ottla node remove`; its data goes too, so that another node may get its number."""
        node, self._added = self._added, None
        if node is not None:
            await self.blocking(self.target.cluster.remove_node, node)
            await self.blocking(empty, self.target.data(node))

    def cleanup(self) -> None:
        """The node ends with the target."""


class Reassign(OfLocalNodes):
    """Replicas move: some partitions lose one and others change their preferred leader; later all is as it was."""

    name: ClassVar[str] = "reassign"
    description: ClassVar[str] = "partitions reassigned to fewer nodes in another order, and back"

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        self._before: dict[TopicPartition, Sequence[int]] = {}

    async def inject(self, random: Random) -> Fault:
        """Move half of the partitions."""
        moved = await self.blocking(self._move, random)
        return Fault(name=self.name, detail=f"{moved} partitions", nodes=tuple(self.target.nodes))

    def _move(self, random: Random) -> int:
        with Admin(bootstrap_servers=self.target.grpc, api_timeout_ms=API_TIMEOUT_MS) as admin:
            replicas = _replicas(admin)
            chosen = random.sample(sorted(replicas), (len(replicas) + 1) // 2)
            wanted = {}
            for one in chosen:
                order = random.sample(replicas[one], len(replicas[one]))
                # Two that stay are as many as have to be in sync.
                wanted[one] = order[: max(2, len(order) - random.choice([0, 1]))]
            self._before = {one: replicas[one] for one in chosen}
            admin.alter_reassignments(wanted)
            return len(chosen)

    async def heal(self) -> None:
        """Back to where they were."""
        before, self._before = self._before, {}
        if before:
            await self.blocking(self._restore, before)

    def _restore(self, before: Mapping[TopicPartition, Sequence[int]]) -> None:
        with Admin(bootstrap_servers=self.target.grpc, api_timeout_ms=API_TIMEOUT_MS) as admin:
            admin.alter_reassignments(dict(before))

    def cleanup(self) -> None:
        """The cluster is gone."""


def _replicas(admin: Admin) -> dict[TopicPartition, Sequence[int]]:
    """Of the partitions of users that nobody moves now."""
    moving = admin.list_reassignments()
    return {
        one: partition.replica_ids
        for topic in admin.describe_topics()
        if not topic.internal
        for partition in topic.partitions
        if (one := TopicPartition(topic.name, partition.partition)) not in moving
    }

"""Processes that are killed, paused or restarted."""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from ottla.testing.chaos.nemesis import Fault, Nemesis, majority


class _Processes(Nemesis):
    """Hits some running nodes."""

    async def inject(self, random: Random) -> Fault:
        """Choose, and do it."""
        running = await self.blocking(lambda: self.target.running)
        chosen, why = await self.blocking(self.choose, random, running) if running else ((), "")
        if not chosen:
            return Fault(name=self.name, detail="nobody: the nodes are down already")
        self._hit = tuple(chosen)
        await self.blocking(self.hit, *self._hit)
        nodes = ", ".join(map(str, self._hit))
        return Fault(name=self.name, detail=f"node {nodes}{why}", nodes=self._hit)

    _hit: tuple[int, ...] = ()

    def choose(self, random: Random, running: Sequence[int]) -> tuple[Sequence[int], str]:
        """The nodes, and what is to be said of the choice. Blocks."""
        return [random.choice(running)], ""

    def hit(self, *nodes: int) -> None:
        """Do it. Blocks."""
        raise NotImplementedError

    def cleanup(self) -> None:
        """The target ends its processes, also those that are paused."""


class _Killed(_Processes):
    def hit(self, *nodes: int) -> None:
        self.target.kill(*nodes)

    async def heal(self) -> None:
        """Start them again."""
        hit, self._hit = self._hit, ()
        if hit:
            await self.blocking(self.target.start_nodes, *hit)


class Kill(_Killed):
    """Any one."""

    name: ClassVar[str] = "kill"
    description: ClassVar[str] = "kill -9 of a node"


class KillLeader(_Killed):
    """The leader of a partition, preferably of a topic of users."""

    name: ClassVar[str] = "kill-leader"
    description: ClassVar[str] = "kill -9 of the leader of a partition"

    def choose(self, random: Random, running: Sequence[int]) -> tuple[Sequence[int], str]:
        """Blocks."""
        return _a_leader(self, random, running)


class KillController(_Killed):
    """Who decides."""

    name: ClassVar[str] = "kill-controller"
    description: ClassVar[str] = "kill -9 of the active controller"

    def choose(self, random: Random, running: Sequence[int]) -> tuple[Sequence[int], str]:
        """Blocks."""
        return _the_controller(self, random, running)


class KillMajority(_Killed):
    """More than the cluster can do without."""

    name: ClassVar[str] = "kill-majority"
    description: ClassVar[str] = "kill -9 of a majority of the nodes at once"
    leaves_majority: ClassVar[bool] = False

    def choose(self, random: Random, running: Sequence[int]) -> tuple[Sequence[int], str]:
        """Blocks."""
        return random.sample(running, min(len(running), majority(self.target.nodes))), ""


class KillAll(_Killed):
    """As a power cut does, except that the page cache stays."""

    name: ClassVar[str] = "kill-all"
    description: ClassVar[str] = "kill -9 of all nodes at once"
    leaves_majority: ClassVar[bool] = False

    def choose(self, random: Random, running: Sequence[int]) -> tuple[Sequence[int], str]:
        """Blocks."""
        return running, ""


class _Paused(_Processes):
    def hit(self, *nodes: int) -> None:
        self.target.pause(*nodes)

    async def heal(self) -> None:
        """Let them go on."""
        hit, self._hit = self._hit, ()
        if hit:
            await self.blocking(self.target.resume, *hit)

    def cleanup(self) -> None:
        """A process that is paused ends by SIGKILL all the same."""


class Pause(_Paused):
    """Any one."""

    name: ClassVar[str] = "pause"
    description: ClassVar[str] = "SIGSTOP of a node, later SIGCONT"


class PauseLeader(_Paused):
    """It goes on as a leader that knows of no other: a zombie."""

    name: ClassVar[str] = "pause-leader"
    description: ClassVar[str] = "SIGSTOP of the leader of a partition, which wakes up as a zombie"

    def choose(self, random: Random, running: Sequence[int]) -> tuple[Sequence[int], str]:
        """Blocks."""
        return _a_leader(self, random, running)


class PauseController(_Paused):
    """The same, of the controller."""

    name: ClassVar[str] = "pause-controller"
    description: ClassVar[str] = "SIGSTOP of the active controller, later SIGCONT"

    def choose(self, random: Random, running: Sequence[int]) -> tuple[Sequence[int], str]:
        """Blocks."""
        return _the_controller(self, random, running)


class RollingRestart(Nemesis):
    """Every node, one after the other, stopped cleanly and started again."""

    name: ClassVar[str] = "rolling-restart"
    description: ClassVar[str] = "every node in turn stopped cleanly and started again"

    async def inject(self, random: Random) -> Fault:
        """All of it; nothing is left to heal."""
        order = list(await self.blocking(lambda: self.target.running))
        random.shuffle(order)
        for node in order:
            await self.blocking(self._restart, node)
        return Fault(name=self.name, detail=f"nodes {', '.join(map(str, order))}", nodes=tuple(order))

    def _restart(self, node: int) -> None:
        self.target.stop(node)
        self.target.start_nodes(node)

    async def heal(self) -> None:
        """Done already."""

    def cleanup(self) -> None:
        """Nothing is left."""


def _a_leader(nemesis: Nemesis, random: Random, running: Sequence[int]) -> tuple[Sequence[int], str]:
    led = {partition: node for partition, node in nemesis.target.leaders().items() if node in running}
    of_users = [partition for partition in led if not partition[0].startswith("__")]
    if not led:
        return [random.choice(running)], ", as no partition has a leader"
    topic, index = random.choice(sorted(of_users or led))
    return [led[topic, index]], f", leader of {topic}-{index}"


def _the_controller(nemesis: Nemesis, random: Random, running: Sequence[int]) -> tuple[Sequence[int], str]:
    controller = nemesis.target.controller()
    if controller is None or controller not in running:
        return [random.choice(running)], ", as there is no controller"
    return [controller], ", the controller"

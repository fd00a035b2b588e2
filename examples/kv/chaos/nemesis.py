"""Kills nodes with SIGKILL and starts them again, in ways that are drawn."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from examples.kv.chaos.workload import Workload
from examples.kv.processes import NodeProcess

PROGRESS_S = 30.0  # with a majority up again, a write must be acknowledged in this time

LEADER = 0.3  # of the rounds: the leader is what is killed
TWO = 0.15  # two at once, so that there is no majority
IMPATIENT = 0.2  # the next round begins before the nodes of this one have come up


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One round."""

    at: float
    restarted_at: float
    nodes: tuple[int, ...]
    leader: int  # who led, as far as clients knew
    others_were_up: bool

    @property
    def is_election(self) -> bool:
        """The leader alone, with both others ready to take over."""
        return self.nodes == (self.leader,) and self.others_were_up


class Nemesis:
    """Has all nodes up when it begins and when it ends."""

    def __init__(self, processes: Sequence[NodeProcess], workload: Workload, random: Random) -> None:
        self._processes = {process.node: process for process in processes}
        self._workload, self._random = workload, random
        self._starting: dict[int, asyncio.Task[str]] = {}
        self.kills: list[Kill] = []

    async def start_all(self) -> None:
        for node in self._processes:
            self._start(node)
        await self._until_up()

    async def kill(self, count: int) -> None:
        """Until so many processes were killed. Raises TimeoutError when the store makes no progress, RuntimeError when
        a node ended by itself.
        """
        killed = 0
        while killed < count:
            nodes = self._choose()[: count - killed]
            killed += len(nodes)
            await self._round(nodes)
        await self._until_up()

    async def _round(self, nodes: Sequence[int]) -> None:
        random = self._random
        others_were_up = not self._starting
        leader = self._workload.leader
        for node in nodes:
            self._processes[node].kill()
        at = time.monotonic()
        await self._forget(nodes)
        await asyncio.sleep(random.choice((0.0, 0.2, 0.8)) * random.random())
        restarted_at = time.monotonic()
        for node in nodes:
            self._start(node)
        kill = Kill(at=at, restarted_at=restarted_at, nodes=tuple(nodes), leader=leader, others_were_up=others_were_up)
        self.kills.append(kill)
        if random.random() < IMPATIENT:
            await asyncio.sleep(random.random() / 2)
        else:
            await self._until_up()
            await self._workload.wait_for_write(time.monotonic(), PROGRESS_S)
            await asyncio.sleep(random.random() / 4)

    def _choose(self) -> list[int]:
        nodes, drawn = list(self._processes), self._random.random()
        if drawn < TWO:
            return self._random.sample(nodes, 2)
        if drawn < TWO + LEADER and self._workload.leader:
            return [self._workload.leader]
        return [self._random.choice(nodes)]

    def _start(self, node: int) -> None:
        process = self._processes[node]
        process.start()
        self._starting[node] = asyncio.ensure_future(asyncio.to_thread(process.read_line))

    async def _until_up(self) -> None:
        async with asyncio.timeout(PROGRESS_S):
            for task in list(self._starting.values()):
                await task
        self._starting.clear()

    async def _forget(self, nodes: Sequence[int]) -> None:
        """Those that were killed before they were up."""
        for node in nodes:
            if (task := self._starting.pop(node, None)) is not None:
                await asyncio.gather(task, return_exceptions=True)

"""Faults on the nodes of a local cluster, drawn from a seed: killed, paused, stopped in order, all at once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ottla.testing.cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One that was done."""

    kind: str
    nodes: tuple[int, ...]
    at: float
    over_at: float  # everything runs again


class Faults:
    """Does one after the other; between two of them every node runs."""

    def __init__(self, cluster: Cluster, random: Random, *, nodes: int) -> None:
        self._cluster, self._random = cluster, random
        self._nodes = range(1, nodes + 1)
        self.done: list[Fault] = []
        self._kinds: dict[str, tuple[float, Callable[[], tuple[int, ...]]]] = {
            "kill -9": (0.4, lambda: self._kill([self._random.choice(self._nodes)])),
            "kill -9 the controller": (0.15, lambda: self._kill([self._cluster.controller() or 1])),
            "pause": (0.2, self._pause),
            "clean restart": (0.15, self._restart),
            "kill -9 of two": (0.05, lambda: self._kill(self._random.sample(self._nodes, 2))),
            "power loss: kill -9 of all": (0.05, lambda: self._kill(list(self._nodes))),
        }

    def one(self) -> Fault:
        """Draw one, do it, and bring back what it took."""
        (kind,) = self._random.choices(list(self._kinds), [weight for weight, _ in self._kinds.values()])
        at = time.monotonic()
        nodes = self._kinds[kind][1]()
        fault = Fault(kind=kind, nodes=nodes, at=at, over_at=time.monotonic())
        self.done.append(fault)
        return fault

    def _kill(self, nodes: list[int]) -> tuple[int, ...]:
        self._cluster.kill_node(*nodes)
        time.sleep(self._random.uniform(0.2, 4.0))
        self._cluster.start_node(*nodes)
        return tuple(nodes)

    def _pause(self) -> tuple[int, ...]:
        node = self._random.choice(self._nodes)
        self._cluster.pause_node(node)
        time.sleep(self._random.uniform(0.5, 6.0))
        self._cluster.resume_node(node)
        return (node,)

    def _restart(self) -> tuple[int, ...]:
        node = self._random.choice(self._nodes)
        self._cluster.restart_node(node)
        return (node,)

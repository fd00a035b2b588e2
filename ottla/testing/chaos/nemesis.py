"""What one kind of fault is: done to a running cluster and taken back, again and again, as a seed has it.

    nemesis = make("partition-halves", target)    # before the target starts: it may want a network or a library
    target.start()
    fault = await nemesis.inject(random)           # what was done, and to whom
    await nemesis.heal()                           # the cluster is as it was, or on its way there
    await nemesis.settle()                         # after the last fault: what does not come back by itself is brought
    nemesis.cleanup()                              # at the end, and after Ctrl-C, in whatever state it is

Nemeses may be at work at the same time on one target. Each takes only nodes that run, as the target knows them, and
undoes only what it did itself.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from ottla.testing.chaos.needs import Need
from ottla.testing.chaos.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One that was done. `nodes`: whom it hit. `detail`: for people, "node 2, which led 4 partitions"."""

    name: str
    detail: str
    nodes: tuple[int, ...] = ()


class Nemesis(ABC):
    """One kind of fault, on one target."""

    name: ClassVar[str]
    description: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]] = ()
    on: ClassVar[frozenset[str]] = frozenset({"ottla", "kafka"})
    """The kinds of cluster to which it can be done."""
    leaves_majority: ClassVar[bool] = True
    """Whether writes with acks=all go on during the fault, after whatever has to be elected was."""

    loses_data: ClassVar[bool] = False
    """Whether what a node had acknowledged may be gone from it: then nothing else may take a replica away meanwhile."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.spoilt: set[Path] = set()
        """Folders of partitions whose files it has damaged: what they hold is no replica any more."""

    @abstractmethod
    async def inject(self, random: Random) -> Fault:
        """Do it, once; the next `heal` takes it back."""

    @abstractmethod
    async def heal(self) -> None:
        """Take back what `inject` did, and return when that is so; the cluster may still be recovering."""

    async def settle(self) -> None:  # noqa: B027 - most have nothing to do
        """After the last fault, do what an operator has to do for the cluster to be whole again."""

    @abstractmethod
    def cleanup(self) -> None:
        """Undo whatever is still there. Blocks; may be called in any state, twice, and when the target has stopped."""

    async def blocking(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Run a call of the target beside the event loop."""
        return await asyncio.to_thread(call, *arguments)


def majority(nodes: Sequence[int]) -> int:
    """How many of these make one."""
    return len(nodes) // 2 + 1

"""The cluster under test, as nemeses see it: nodes that can be killed, paused and cut off, and what is known of them.

`local_target.LocalTarget` is one of `ottla up`. All calls block; `nemesis.Nemesis.blocking` runs them beside a loop.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ottla.testing.chaos.network import Network


class Target(Protocol):
    """One cluster. Nodes are named by their numbers, from 1."""

    directory: Path
    """Everything that belongs to the run is below it."""
    network: Network | None
    """Present where a nemesis or the run asked for it (`use_network`) before the start."""

    @property
    def nodes(self) -> tuple[int, ...]:
        """All of them, also those that do not run."""
        ...

    @property
    def running(self) -> tuple[int, ...]:
        """Those that are neither paused nor at an end. Blocks."""
        ...

    @property
    def bootstrap(self) -> str:
        """Where Kafka clients begin."""
        ...

    def use_network(self) -> Network:
        """Before the start: give each node a network namespace. Raises Unavailable."""
        ...

    def data(self, node: int) -> Path:
        """That node's data directory."""
        ...

    def pid(self, node: int) -> int:
        """Of the process of that node, as it was last started."""
        ...

    def kill(self, *nodes: int) -> None:
        """`kill -9`, all at once."""
        ...

    def stop(self, *nodes: int) -> None:
        """Cleanly."""
        ...

    def start_nodes(self, *nodes: int) -> None:
        """Return when they take part. Name all after the loss of a majority."""
        ...

    def pause(self, *nodes: int) -> None:
        """SIGSTOP."""
        ...

    def resume(self, *nodes: int) -> None:
        """SIGCONT."""
        ...

    def controller(self) -> int | None:
        """The node that leads the metadata quorum; None while none does."""
        ...

    def leaders(self) -> Mapping[tuple[str, int], int]:
        """The leader of each partition that has one, internal topics included."""
        ...

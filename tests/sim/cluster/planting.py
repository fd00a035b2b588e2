"""How a bug is planted: a context in which production code has it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Planting = Callable[[], AbstractContextManager[object]]


class Plants(dict[str, Planting]):
    """By name."""

    def plant(self, name: str) -> Callable[[Callable[[], Iterator[None]]], Planting]:
        """Registers a generator that plants a bug, yields, and takes it out."""

        def register(function: Callable[[], Iterator[None]]) -> Planting:
            self[name] = planting = contextmanager(function)
            return planting

        return register

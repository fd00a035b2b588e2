"""Python source under construction."""

from collections.abc import Iterator
from contextlib import contextmanager


class Lines:
    """Lines of source at the current depth of indentation."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def add(self, *lines: str) -> None:
        self._lines += ["    " * self._depth + line if line else "" for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """`head` opens a block that holds what is added inside; an empty block gets a ``pass``."""
        self.add(head)
        before = len(self._lines)
        self._depth += 1
        yield
        if len(self._lines) == before:
            self.add("pass")
        self._depth -= 1

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

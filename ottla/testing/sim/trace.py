"""The last events of a simulated run, to be read when it failed.

Keeping one is an append of a tuple to a ring; text is made of it only when somebody prints it.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

Told = tuple[float, str, str, tuple[Any, ...]]


class Trace:
    """`add` keeps what it is given as it is: give it nothing that changes later."""

    def __init__(self, capacity: int, describe: Callable[[Any], str] = str) -> None:
        self._ring: deque[Told] = deque(maxlen=capacity)
        self._describe = describe
        self.count = 0

    def add(self, now_s: float, where: str, what: str, *details: Any) -> None:
        self.count += 1
        self._ring.append((now_s, where, what, details))

    def lines(self, last: int | None = None) -> list[str]:
        """The last events, oldest first."""
        told = list(self._ring)
        return [self._line(*one) for one in (told if last is None else told[-last:])]

    def _line(self, now_s: float, where: str, what: str, details: tuple[Any, ...]) -> str:
        return " ".join([f"{now_s * 1000:11.3f}", f"{where:<9}", what, *(self._describe(one) for one in details)])

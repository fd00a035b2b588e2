"""A request for several ids is taken apart, and answered when all of its shards have answered."""

from collections.abc import Callable
from functools import partial
from typing import Any


def gather(parts: list[Callable[[Callable[[Any], None]], None]], done: Callable[[list[Any]], object]) -> None:
    """Start all parts; when each has given its result, `done` with the results in the order of the parts."""
    results: list[Any] = [None] * len(parts)
    missing = len(parts)
    if not parts:
        done(results)
        return

    def only(result: Any) -> None:
        done([result])

    if missing == 1:  # the usual case
        parts[0](only)
        return

    def finish(position: int, result: Any) -> None:
        nonlocal missing
        results[position] = result
        missing -= 1
        if missing == 0:
            done(results)

    for position, part in enumerate(parts):
        part(partial(finish, position))

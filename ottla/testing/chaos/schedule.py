"""When which fault is done, drawn from a seed: one after the other, or several at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

JOIN: Final = "+"
"""Between names of faults that are done together."""
BEFORE_S: Final = 3.0  # undisturbed, so that a plot shows what is usual
AFTER_S: Final = 2.0
HOLD_S: Final = (0.6, 2.6)
QUIET_S: Final = (0.5, 1.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Wait, do these, hold them, take them back."""

    quiet_s: float
    kinds: tuple[str, ...]
    hold_s: float


def steps(random: Random, faults: Sequence[str]) -> Iterator[Step]:
    """Without end: each of `faults` as often as another, in an order without a pattern."""
    while True:
        for one in random.sample(list(faults), len(faults)):
            yield Step(quiet_s=random.uniform(*QUIET_S), kinds=tuple(one.split(JOIN)), hold_s=random.uniform(*HOLD_S))


def kinds(faults: Sequence[str]) -> list[str]:
    """Every kind of fault in these, each once."""
    return list(dict.fromkeys(kind for one in faults for kind in one.split(JOIN)))

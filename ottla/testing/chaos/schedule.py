"""When which fault is done, drawn from a seed: one after the other, or several at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

JOIN: Final = "+"
"""Between names of faults that are done together."""
BEFORE_S: Final = 3.0  # undisturbed, so that a plot shows what is usual
AFTER_S: Final = 3.5
HOLD_S: Final = (0.6, 2.6)
QUIET_S: Final = (0.5, 1.2)
AFTER_PARTITION_S: Final = (3.2, 3.8)
"""Quiet after a network was cut: as long as writes may take to go on, and a little more. Links are silent for longer
than they were cut, as TCP sends again ever more rarely: another cut meanwhile may leave no two nodes that hear each
other."""
PARTITION: Final = "partition-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Wait, do these, hold them, take them back."""

    quiet_s: float
    kinds: tuple[str, ...]
    hold_s: float


def steps(random: Random, faults: Sequence[str]) -> Iterator[Step]:
    """Without end: each of `faults` as often as another, in an order without a pattern."""
    quiet = QUIET_S
    while True:
        for one in random.sample(list(faults), len(faults)):
            kinds = tuple(one.split(JOIN))
            yield Step(quiet_s=random.uniform(*quiet), kinds=kinds, hold_s=random.uniform(*HOLD_S))
            quiet = AFTER_PARTITION_S if any(kind.startswith(PARTITION) for kind in kinds) else QUIET_S


def kinds(faults: Sequence[str]) -> list[str]:
    """Every kind of fault in these, each once."""
    return list(dict.fromkeys(kind for one in faults for kind in one.split(JOIN)))

"""Quantiles of what was measured."""

from collections.abc import Sequence


def quantile(ordered: Sequence[float], q: float) -> float:
    """Of values in ascending order, of which there is at least one."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]

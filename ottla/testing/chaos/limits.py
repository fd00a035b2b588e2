"""How long writes may stop: after the loss of one node, and after the network is whole again."""

from collections.abc import Sequence
from typing import Final

from ottla.testing.chaos.gaps import FaultWindow, Gap

LOSS_OF_ONE_MS: Final = 1500.0
AFTER_PARTITION_MS: Final = 3000.0

ONE_LOST: Final = frozenset({"kill", "kill-leader", "kill-controller"})
PARTITIONS: Final = "partition-"


def too_slow(gaps: Sequence[Gap], windows: Sequence[FaultWindow]) -> list[str]:
    """What took longer than it may. Faults that were done together are not judged."""
    found = []
    for gap, window in zip(gaps, windows, strict=True):
        if any(other is not window and _meet(other, window) for other in windows):
            continue
        if gap.kind in ONE_LOST and gap.gap_ms > LOSS_OF_ONE_MS:
            found.append(f"{gap.kind} at {window.since_s:.1f} s: no write for {gap.gap_ms:.0f} ms ({window.detail})")
        if gap.kind.startswith(PARTITIONS) and gap.after_heal_ms > AFTER_PARTITION_MS:
            found.append(
                f"{gap.kind} at {window.since_s:.1f} s: no write for {gap.after_heal_ms:.0f} ms after it was healed "
                f"({window.detail})"
            )
    return found


def _meet(one: FaultWindow, other: FaultWindow) -> bool:
    return one.since_s < other.until_s and other.since_s < one.until_s

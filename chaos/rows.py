"""The rows of the matrix: which faults a run does. Each is done again and again for the run's time."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`faults`: one of them at a time; what is joined by `+` at once."""

    name: str
    faults: tuple[str, ...]


def _rows(*rows: tuple[str, str]) -> dict[str, Row]:
    return {name: Row(name=name, faults=tuple(faults.split())) for name, faults in rows}


ROWS: Final = _rows(
    ("kill", "kill kill-leader"),
    ("kill-controller", "kill-controller"),
    ("kill-majority", "kill-majority"),
    ("kill-all", "kill-all"),
    ("pause", "pause-leader pause-controller"),
    ("clients", "kill-client pause-client zombie-client"),
    ("partition-halves", "partition-halves partition-isolated"),
    ("partition-leader", "partition-leader partition-controller"),
    ("partition-one-way", "partition-one-way"),
    ("partition-ring", "partition-ring partition-bridge"),
    ("links", "slow-links lossy-links"),
    ("doors", "flood garbage"),
    ("members", "rolling-restart rolling-upgrade reassign add-remove-node"),
    ("disks", "stalled-disk slow-syncs write-errors"),
    ("read-errors", "read-errors"),
    ("lost-data", "lost-disk cold-rot disk-full"),
    ("memory", "memory-limit memory-limit+flood memory-limit+garbage"),
    ("clocks", "clock-jump clock-skew"),
    ("combined", "kill-leader+slow-links pause+kill-client partition-leader+zombie-client kill+lossy-links"),
)

KAFKA_ROWS: Final = _rows(
    ("kill", "kill kill-leader"),
    ("kill-controller", "kill-controller"),
    ("pause", "pause-leader pause-controller"),
    ("partition-halves", "partition-halves partition-isolated"),
    ("partition-leader", "partition-leader partition-controller"),
)
"""Those that Apache Kafka goes through beside us."""

SMOKE_ROW: Final = Row(name="smoke", faults=("kill-leader", "pause", "partition-leader", "slow-links", "zombie-client"))
"""What every change is tried with."""

"""What a run comes to: figures for the report, and the verdict. One JSON file each."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from ottla.testing.chaos.gaps import Bucket, FaultWindow, Gap
from ottla.testing.history import Kind


class Standing(StrEnum):
    """The verdict in a word; the first that is true."""

    ANOMALY = "anomaly"  # the history shows what must never be
    STUCK = "stuck"  # something did not come to rest
    SLOW = "slow"  # writes stopped for longer than they may
    OK = "ok"


GUARANTEES: Final[Mapping[str, frozenset[Kind]]] = {
    "no acknowledged write is lost": frozenset({Kind.LOST_WRITE, Kind.SKIPPED}),
    "no record twice, none from nowhere": frozenset({Kind.DUPLICATE, Kind.FROM_NOWHERE}),
    "order holds": frozenset({Kind.REORDERED, Kind.OFFSET_WENT_BACK}),
    "replicas agree": frozenset({Kind.DIVERGENT_OFFSET}),
    "only committed data is read": frozenset({Kind.ABORTED_READ, Kind.UNCOMMITTED_READ}),
    "transactions are whole": frozenset({Kind.TORN_TRANSACTION, Kind.WRONG_TOTAL}),
    "transactions are isolated": frozenset({Kind.WRITE_CYCLE, Kind.READ_CYCLE}),
    "copied exactly once": frozenset({Kind.OFFSETS_WITHOUT_RECORDS, Kind.RECORDS_WITHOUT_OFFSETS}),
    "committed offsets stay": frozenset({Kind.LOST_COMMIT}),
    "one owner of a partition": frozenset({Kind.TWO_OWNERS}),
    "compaction keeps the last value": frozenset({Kind.STALE_VALUE}),
}
"""What is promised, and the anomalies that break it."""
RECOVERS: Final = "all comes to rest"
AVAILABLE: Final = "writes go on"
COLUMNS: Final = (*GUARANTEES, RECOVERS, AVAILABLE)


@dataclass(slots=True, kw_only=True)
class Result:
    """One run. Times in seconds since its faults began; `faults`: the kinds that were asked for."""

    cluster: str  # "ottla" or "kafka"
    client: str
    faults: list[str]
    workloads: list[str]
    seed: int
    seconds: float
    commit: str
    nodes: int
    row: str = ""  # its name in a matrix
    windows: list[FaultWindow] = field(default_factory=list)
    series: list[Bucket] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    longest_gap_ms: float | None = None
    in_sync_s: float | None = None
    groups_s: float | None = None
    transactions_s: float | None = None
    stuck: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    anomalies: dict[str, int] = field(default_factory=dict)
    excerpts: list[str] = field(default_factory=list)  # one for each kind of anomaly
    clients_own: list[str] = field(default_factory=list)  # what clients did to themselves: no anomaly of the cluster's
    renumbered: list[str] = field(default_factory=list)  # producers whose client raised their epoch by itself, and why
    operations: int = 0
    acknowledged: int = 0
    seen: int = 0
    unjudged: int = 0
    replicas: int = 0  # logs that were read from disk
    checked_s: float = 0.0

    @property
    def standing(self) -> Standing:
        """In a word."""
        if self.anomalies:
            return Standing.ANOMALY
        if self.stuck:
            return Standing.STUCK
        return Standing.SLOW if self.slow else Standing.OK

    def broken(self, guarantee: str) -> int:
        """How often that guarantee was broken."""
        if guarantee == RECOVERS:
            return len(self.stuck) + self.anomalies.get(Kind.LEFT_OPEN, 0)
        if guarantee == AVAILABLE:
            return len(self.slow)
        return sum(self.anomalies.get(kind, 0) for kind in GUARANTEES[guarantee])

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1))
        new.rename(path)

    @classmethod
    def load(cls, path: Path) -> "Result":
        """What `save` wrote."""
        told: dict[str, Any] = json.loads(path.read_text())
        told["windows"] = [FaultWindow(**one) for one in told["windows"]]
        told["series"] = [Bucket(**one) for one in told["series"]]
        told["gaps"] = [Gap(**one) for one in told["gaps"]]
        return cls(**told)

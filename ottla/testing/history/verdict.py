"""What is asked of a history, and what the checker says about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from ottla.testing.history.operations import Operation

EXCERPT: Final = 12
"""Operations that are printed for an anomaly, at most."""


class Kind(StrEnum):
    """What may be wrong; the value is its name in reports."""

    LOST_WRITE = "lost write"
    DUPLICATE = "duplicate"
    REORDERED = "reordered"
    DIVERGENT_OFFSET = "divergent offset"
    OFFSET_WENT_BACK = "offset went back"
    SKIPPED = "skipped offset"
    FROM_NOWHERE = "record from nowhere"
    ABORTED_READ = "aborted read"
    UNCOMMITTED_READ = "read of uncommitted data"
    TORN_TRANSACTION = "torn transaction"
    LEFT_OPEN = "transaction left open"
    WRITE_CYCLE = "cycle of writes (G0)"
    READ_CYCLE = "cycle of writes and reads (G1c)"
    OFFSETS_WITHOUT_RECORDS = "offsets committed without their records"
    RECORDS_WITHOUT_OFFSETS = "records committed without their offsets"
    LOST_COMMIT = "committed offset lost"
    TWO_OWNERS = "two owners of a partition"
    UNAVAILABLE = "unavailable too long"
    WRONG_TOTAL = "wrong total of a bank"
    STALE_VALUE = "stale value of a key"
    CLIENTS_DUPLICATE = "duplicate of the client's own making"


CLIENTS_OWN: Final = frozenset({Kind.CLIENTS_DUPLICATE})
"""What no broker could have prevented: told, and no anomaly of the cluster's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time in which writes may stop for longer than otherwise."""

    since_ns: int
    until_ns: int
    longest_gap_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What may be expected of this history's clients and topics."""

    repeating: frozenset[str] = frozenset()
    """Topics whose producers may write a record twice, or out of order (enable.idempotence=false)."""
    tables: frozenset[str] = frozenset()
    """Compacted topics: a record may be missing when its key has a later one, and values need not be unique."""
    banks: Mapping[str, int] = field(default_factory=dict)
    """For each topic that is a bank, what all accounts together must have."""
    isolated_writes: bool = False
    """Transactions never write to the same partitions at the same time, so that a cycle of writes alone is one too."""
    longest_gap_ms: float | None = None
    """How long a partition that is written to may acknowledge nothing; None: that is not judged."""
    windows: tuple[Window, ...] = ()
    """When it may be longer."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that must not be, and the operations that show it."""

    kind: Kind
    explanation: str
    operations: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.explanation}"]
        lines += [f"    {shown(one)}" for one in self.operations[:EXCERPT]]
        if len(self.operations) > EXCERPT:
            lines.append(f"    and {len(self.operations) - EXCERPT} more")
        return "\n".join(lines)


@dataclass(slots=True)
class Verdict:
    """All anomalies, and how much was looked at. `unjudged`: acknowledged records that no reader came to.

    `clients_own`: what clients did to themselves.
    """

    anomalies: list[Anomaly] = field(default_factory=list)
    clients_own: list[Anomaly] = field(default_factory=list)
    operations: int = 0
    acknowledged: int = 0
    seen: int = 0
    unjudged: int = 0

    @property
    def ok(self) -> bool:
        return not self.anomalies

    def of(self, kind: Kind) -> list[Anomaly]:
        """The anomalies of one kind."""
        return [one for one in (*self.anomalies, *self.clients_own) if one.kind is kind]

    def counts(self) -> dict[Kind, int]:
        """How many there are of each kind that there is."""
        found: dict[Kind, int] = {}
        for one in self.anomalies:
            found[one.kind] = found.get(one.kind, 0) + 1
        return found

    def add(self, anomalies: Iterable[Anomaly]) -> None:
        for one in anomalies:
            (self.clients_own if one.kind in CLIENTS_OWN else self.anomalies).append(one)

    def __str__(self) -> str:
        looked_at = f"{self.operations:,} operations, {self.acknowledged:,} records acknowledged, {self.seen:,} seen"
        if self.unjudged:
            looked_at += f", {self.unjudged:,} acknowledged that no reader came to"
        own = [f"{len(self.clients_own):,} x {self.clients_own[0]}"] if self.clients_own else []
        if self.ok:
            return "\n".join([f"no anomaly in {looked_at}", *own])
        counts = self.counts()
        first = {kind: next(one for one in self.anomalies if one.kind is kind) for kind in counts}
        lines = [f"{len(self.anomalies):,} anomalies in {looked_at}"]
        for kind, count in counts.items():
            lines.append(f"{count:,} x {first[kind]}")
        return "\n".join([*lines, *own])


def shown(operation: Operation) -> str:
    """One operation on one line, times in ms."""
    end = "never" if operation.completed_ns is None else f"{operation.completed_ns / 1e6:.3f}"
    told = [
        f"{name}={_short(getattr(operation, name))}"
        for name in (one.name for one in fields(operation))
        if name not in _ALWAYS and getattr(operation, name) not in (None, (), "")
    ]
    error = f" ({operation.error})" if operation.error else ""
    return (
        f"{operation.invoked_ns / 1e6:.3f}..{end} {operation.process} {operation.kind} {' '.join(told)}: "
        f"{operation.outcome}{error}"
    )


_ALWAYS: Final = frozenset({"process", "invoked_ns", "completed_ns", "outcome", "error"})
_LONGEST: Final = 6


def _short(value: object) -> str:
    if not isinstance(value, tuple) or hasattr(value, "_fields"):
        return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
    rows = [_short(one) for one in value]
    if len(rows) > _LONGEST:
        rows = [*rows[: _LONGEST // 2], "…", *rows[-_LONGEST // 2 :]]
    return f"[{', '.join(rows)}]"

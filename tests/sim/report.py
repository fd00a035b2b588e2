"""What came of a seed, what a run of many seeds is summed up to, and how a failure is shown."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from tests.sim.raft.violation import Violation

ENOUGH_SEEDS = 1000
"""From so many on, an event that never happened is a failure."""


@dataclass(slots=True)
class Outcome:
    """What came of a seed. `options`: what it drew."""

    seed: int
    violation: Violation | None
    tail: list[str]  # of the trace
    coverage: Counter[str]
    events: int
    simulated_s: float
    cpu_s: float
    acknowledged: int
    options: Any


@dataclass(slots=True)
class Totals:
    """Of all seeds so far. `rare`: name and meaning of what must have happened in many seeds."""

    rare: Mapping[str, str]
    seeds: int = 0
    events: int = 0
    acknowledged: int = 0
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    coverage: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.events += outcome.events
        self.acknowledged += outcome.acknowledged
        self.simulated_s += outcome.simulated_s
        self.cpu_s += outcome.cpu_s
        self.coverage.update(outcome.coverage)
        if outcome.violation is not None:
            self.failures.append(outcome)

    @property
    def missing(self) -> list[str]:
        return [name for name in self.rare if not self.coverage[name]] if self.seeds >= ENOUGH_SEEDS else []

    @property
    def failed(self) -> bool:
        return bool(self.failures or self.missing)

    def figures(self, wall_s: float) -> str:
        """One line."""
        cpu_s = max(self.cpu_s, 1e-9)
        return (
            f"{self.seeds} seeds in {wall_s:.0f} s: {self.seeds / max(wall_s, 1e-9):.1f} seeds/s, "
            f"{self.events / cpu_s:,.0f} events and {self.simulated_s / 60 / cpu_s:.1f} simulated minutes "
            f"per CPU second, "
            f"{self.acknowledged:,} acknowledged, {len(self.failures)} failures"
        )

    def coverage_table(self) -> Table:
        table = Table(title="Coverage")
        table.add_column("event")
        table.add_column("times", justify="right")
        table.add_column("meaning")
        for name, meaning in self.rare.items():
            times = self.coverage[name]
            table.add_row(name, f"{times:,}", meaning, style=None if times else "red")
        return table


def replay_command(package: str, seed: int) -> str:
    return f"python -m {package}.run --replay {seed}"


def failure_text(package: str, outcome: Outcome, *, lines: int = 60) -> str:
    """Everything that is needed to look into it."""
    return "\n".join(
        [
            *outcome.tail[-lines:],
            "",
            f"seed {outcome.seed}: {outcome.violation}",
            f"drawn: {outcome.options}",
            f"again: {replay_command(package, outcome.seed)}",
        ]
    )

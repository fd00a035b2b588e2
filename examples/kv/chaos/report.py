"""What a run has shown, in figures and one verdict."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median

from examples.kv.chaos.nemesis import Kill
from examples.kv.chaos.workload import Acknowledged
from ottla.testing.sim.register import Operation, Outcome, Read


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Times in milliseconds, medians and maxima."""

    seed: int
    seconds: float
    kills: int
    leaders_killed: int
    majorities_lost: int
    operations: int
    reads: int
    unknown: int
    write_gap_p50_ms: float
    write_gap_max_ms: float
    elections: int
    election_p50_ms: float
    election_max_ms: float
    replicas_agree: bool
    violation: str | None

    @property
    def is_good(self) -> bool:
        return self.replicas_agree and self.violation is None

    def figures(self) -> dict[str, object]:
        return asdict(self) | {"is_good": self.is_good}

    def __str__(self) -> str:
        verdict = self.violation or "the history is linearizable"
        agree = "all replicas agree" if self.replicas_agree else "THE REPLICAS DIFFER"
        return (
            f"{self.kills} processes killed in {self.seconds:.0f} s (seed {self.seed}): "
            f"{self.leaders_killed} of them led, {self.majorities_lost} times there was no majority\n"
            f"{self.operations} operations, {self.reads} of them reads, {self.unknown} of unknown outcome\n"
            f"longest pause between two acknowledged writes, by round: median {self.write_gap_p50_ms:.0f} ms, "
            f"longest {self.write_gap_max_ms:.0f} ms\n"
            f"from a leader's death to a write that its successor acknowledged, {self.elections} times: "
            f"median {self.election_p50_ms:.0f} ms, longest {self.election_max_ms:.0f} ms\n"
            f"{verdict}; {agree}"
        )


def report(
    *,
    seed: int,
    seconds: float,
    kills: Sequence[Kill],
    writes: Sequence[Acknowledged],
    operations: Sequence[Operation],
    replicas_agree: bool,
    violation: str | None,
) -> Report:
    gaps = write_gaps_ms(kills, writes)
    elections = elections_ms(kills, writes)
    return Report(
        seed=seed,
        seconds=seconds,
        kills=sum(len(kill.nodes) for kill in kills),
        leaders_killed=sum(kill.leader in kill.nodes for kill in kills),
        majorities_lost=sum(len(kill.nodes) > 1 for kill in kills),
        operations=len(operations),
        reads=sum(isinstance(operation.action, Read) for operation in operations),
        unknown=sum(operation.outcome is Outcome.UNKNOWN for operation in operations),
        write_gap_p50_ms=median(gaps or [0.0]),
        write_gap_max_ms=max(gaps, default=0.0),
        elections=len(elections),
        election_p50_ms=median(elections or [0.0]),
        election_max_ms=max(elections, default=0.0),
        replicas_agree=replicas_agree,
        violation=violation,
    )


def write_gaps_ms(kills: Sequence[Kill], writes: Sequence[Acknowledged]) -> list[float]:
    """For each round, the longest time without an acknowledgement from just before it to the next one."""
    times = [write.at for write in writes]
    ends = [kill.at for kill in kills[1:]] + [times[-1] if times else 0.0]
    gaps = []
    for kill, end in zip(kills, ends, strict=True):
        first, last = bisect_right(times, kill.at), bisect_right(times, end)
        near = times[max(0, first - 1) : last + 1]
        if len(near) > 1:
            gaps.append(1000 * max(b - a for a, b in pairwise(near)))
    return gaps


def elections_ms(kills: Sequence[Kill], writes: Sequence[Acknowledged]) -> list[float]:
    """From the leader's death to the first write that its successor acknowledged, which may be itself, restarted."""
    times = [write.at for write in writes]
    found = []
    for kill in kills:
        if kill.is_election:
            later = writes[bisect_right(times, kill.at) :]
            first = next((w.at for w in later if w.node != kill.leader or w.at > kill.restarted_at), None)
            if first is not None:
                found.append(1000 * (first - kill.at))
    return found

"""Whether what was acknowledged is there: once, where it was said to be, in order, in the log of every replica."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.writers import Written
from ottla.cli.log_files import batches, mapped, records_of, segments

_PROBLEMS_SHOWN = 5


@dataclass(slots=True)
class Verdict:
    """What was looked at, and what is wrong."""

    replicas: int = 0
    records: int = 0
    problems: list[str] = field(default_factory=list)

    def blame(self, what: str) -> None:
        self.problems.append(what)

    def __str__(self) -> str:
        if not self.problems:
            return f"every acknowledged record is there, once and in order, in {self.replicas} logs of replicas"
        shown = "\n  ".join(self.problems[:_PROBLEMS_SHOWN])
        return f"{len(self.problems)} problems:\n  {shown}"


def judge(directory: Path, topic: str, replicas: Sequence[Sequence[int]], written: Sequence[Written]) -> Verdict:
    """Read the files of nodes that have stopped; `directory` is the cluster's, `replicas` the nodes by partition."""
    verdict = Verdict()
    for partition, nodes in enumerate(replicas):
        logs = [list(_values(directory / f"node-{node}" / f"{topic}-{partition}")) for node in nodes]
        for node, log in zip(nodes, logs, strict=True):
            verdict.replicas += 1
            verdict.records += len(log)
            if log != logs[0]:
                verdict.blame(f"partition {partition}: node {node} and node {nodes[0]} hold different records")
        _judge_log(verdict, partition, logs[0], written)
    return verdict


def _judge_log(verdict: Verdict, partition: int, log: list[tuple[int, str]], written: Sequence[Written]) -> None:
    offsets: dict[str, int] = {}
    for offset, value in log:
        if value in offsets:
            verdict.blame(f"partition {partition}: {value} stands at {offsets[value]} and again at {offset}")
        offsets.setdefault(value, offset)
    for one in written:
        latest = -1
        for record in sorted(
            (r for r in one.acknowledged if r.partition == partition), key=lambda r: int(r.value.rpartition("-")[2])
        ):
            found = offsets.get(record.value)
            if found is None:
                verdict.blame(f"partition {partition}: {record.value}, acknowledged at {record.offset}, is lost")
            elif found != record.offset:
                verdict.blame(f"partition {partition}: {record.value} was said to be at {record.offset}, is at {found}")
            elif found < latest:
                verdict.blame(f"partition {partition}: {record.value} at {found} stands before an earlier one")
            else:
                latest = found


def _values(directory: Path) -> Iterator[tuple[int, str]]:
    """Offsets and values of a partition's log."""
    for path in segments((directory,)):
        with mapped(path) as data:
            for position, _ in batches(data):
                for record in records_of(data, position):
                    yield record.offset, (record.value or b"").decode()

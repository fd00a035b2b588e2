"""Runs many seeds of a simulation on several processes; `--replay SEED` runs one again and prints how it ended."""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.sim.report import Outcome, Totals, failure_text, replay_command

SHOWN_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Simulation:
    """`package`: where it lives; its module `run` is the command."""

    package: str
    run_seed: Callable[..., Outcome]
    rare: Mapping[str, str]

    def main(self) -> int:
        """Exit code 1 when a seed failed, or a rare event never happened in a run that is long enough."""
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--seeds", type=int, default=1000)
        parser.add_argument("--start", type=int, help="the first seed; drawn when it is not given")
        parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
        parser.add_argument("--replay", type=int, metavar="SEED")
        parser.add_argument("--lines", type=int, default=200, help="of the trace, with --replay")
        arguments = parser.parse_args()
        if arguments.replay is not None:
            return self.replay(arguments.replay, arguments.lines)
        start = arguments.start if arguments.start is not None else int.from_bytes(os.urandom(5), "big")
        return self.run(start, arguments.seeds, arguments.jobs)

    def outcomes(self, start: int, seeds: int, jobs: int) -> Iterator[Outcome]:
        """In any order."""
        numbers = range(start, start + seeds)
        if jobs == 1:
            yield from map(self.run_seed, numbers)
            return
        with multiprocessing.Pool(jobs, maxtasksperchild=200) as pool:
            yield from pool.imap_unordered(self.run_seed, numbers, chunksize=4)

    def run(self, start: int, seeds: int, jobs: int) -> int:
        """All of them, with a summary at the end."""
        console = Console()
        console.print(f"seeds {start} to {start + seeds - 1}, {jobs} processes")
        totals, started = Totals(self.rare), monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("seeds", total=seeds)
            for outcome in self.outcomes(start, seeds, jobs):
                totals.add(outcome)
                progress.advance(task)
                if outcome.violation is not None and len(totals.failures) <= SHOWN_FAILURES:
                    progress.console.print(failure_text(self.package, outcome), markup=False, highlight=False)
        console.print(totals.coverage_table())
        for outcome in totals.failures:
            again = replay_command(self.package, outcome.seed)
            console.print(f"{again}    # {outcome.violation}", markup=False, soft_wrap=True)
        if totals.missing:
            console.print(f"never happened: {', '.join(totals.missing)}", style="red")
        console.print(totals.figures(monotonic() - started))
        return 1 if totals.failed else 0

    def replay(self, seed: int, lines: int) -> int:
        """One of them, with the end of its trace."""
        outcome = self.run_seed(seed, trace_lines=lines)
        sys.stdout.write(failure_text(self.package, outcome, lines=lines) + "\n")
        return 1 if outcome.violation is not None else 0

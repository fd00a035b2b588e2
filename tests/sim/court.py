"""Plants each bug and counts the seeds until it is found."""

import argparse
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from statistics import mean

from rich.console import Console
from rich.table import Table

from tests.sim.report import Outcome

Found = tuple[str, int, int | None, str]
"""The bug, the first seed, how many it took (None: more than allowed), the invariant."""


@dataclass(frozen=True, slots=True)
class Court:
    """`package`: its module `convict` has this as `COURT`; `bugs`: by name, what plants one while its context lasts."""

    package: str
    bugs: Mapping[str, Callable[[], AbstractContextManager[object]]]
    run_seed: Callable[[int], Outcome]

    def convict(self, name: str, start: int, limit: int) -> Found:
        """Run seeds from `start` on until one of them fails."""
        with self.bugs[name]():
            for count in range(1, limit + 1):
                violation = self.run_seed(start + count - 1).violation
                if violation is not None:
                    return name, start, count, violation.invariant
        return name, start, None, ""

    def main(self) -> int:
        """Exit code 1 when a bug was not found from one of the starts."""
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("names", nargs="*", help="all of them when there is none")
        parser.add_argument("--starts", type=int, default=3, help="how often each one is sought")
        parser.add_argument("--start", type=int, default=0, help="the first seed")
        parser.add_argument("--limit", type=int, default=2000, help="seeds before a bug counts as not found")
        parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
        arguments = parser.parse_args()
        unknown = [name for name in arguments.names if name not in self.bugs]
        if unknown:
            parser.error(f"no such bug: {', '.join(unknown)}; there are: {', '.join(self.bugs)}")
        names = arguments.names or list(self.bugs)
        tasks = [
            (self.package, name, arguments.start + n * 1_000_000, arguments.limit)
            for name in names
            for n in range(arguments.starts)
        ]
        console = Console()
        found: dict[str, list[Found]] = {name: [] for name in names}
        with multiprocessing.Pool(arguments.jobs) as pool:
            for one in pool.imap_unordered(_convict, tasks):
                found[one[0]].append(one)
                console.print(f"{one[0]}: {one[2] or 'not found'} {one[3]}", style=None if one[2] else "red")
        table = Table("planted bug", "found by", "seeds, on average", "of", title="Convictions")
        for name in names:
            counts = [one[2] for one in found[name] if one[2] is not None]
            invariants = Counter(one[3] for one in found[name] if one[3])
            by = ", ".join(f"{invariant}{f' ×{n}' * (n > 1)}" for invariant, n in invariants.most_common())
            table.add_row(name, by, f"{mean(counts):.0f}" if counts else "-", f"{len(counts)}/{len(found[name])}")
        console.print(table)
        return 0 if all(one[2] for several in found.values() for one in several) else 1


def _convict(task: tuple[str, str, int, int]) -> Found:
    package, name, start, limit = task
    court: Court = import_module(f"{package}.convict").COURT
    return court.convict(name, start, limit)

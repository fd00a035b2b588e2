"""`python -m chaos.planted [--bug TEXT]`: plant bugs into real nodes, and see that the history convicts each.

A run is what `ottla chaos run` does: three nodes, clients, faults, and the checker, which looks at nothing but what
clients were told and what stands in the replicas' files. Exit code 1 when a bug is not convicted within its attempts.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from chaos.planted.cases import CASES, Case
from chaos.planted.launcher import words
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.own_cluster import chosen_faults, step_into_network
from ottla.testing.chaos.result import Result
from ottla.testing.chaos.run import SETTINGS, Plan, run


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--bug", "wanted", multiple=True, metavar="TEXT", help="Those whose names contain it; without it, all.")
@click.option("--for", "seconds", default=45.0, show_default=True, help="How long faults are done, in each run.")
@click.option("--seed", default=0, help="What is drawn; 0: another seed each time.")
@click.option("--attempts", default=2, show_default=True, help="Runs, with other seeds, until a bug is not convicted.")
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Keep data and histories.")
def main(*, wanted: tuple[str, ...], seconds: float, seed: int, attempts: int, directory: Path | None) -> int:
    """All runs, one after the other."""
    cases = [case for case in CASES if not wanted or any(text in case.bug for text in wanted)]
    step_into_network(
        [fault for case in cases for fault in case.faults], [sys.executable, "-m", "chaos.planted", *sys.argv[1:]]
    )
    directory = directory or Path(tempfile.mkdtemp(prefix="ottla-planted-"))
    seed = seed or int(time.time())
    click.echo(f"seed {seed}, data in {directory}")
    table = Table("planted bug", "under", "convicted of", "runs", title="Convictions by history")
    convicted = True
    for number, case in enumerate(cases):
        results: list[Result] = []
        while len(results) < attempts and not (results and results[-1].anomalies):
            folder = directory / f"{number}-{len(results)}"
            results.append(_try(case, seed + len(results), seconds, folder))
        found = results[-1]
        convicted &= bool(found.anomalies)
        table.add_row(case.bug, _under(case), _told(found), str(len(results)))
    Console(width=160).print(table)
    return 0 if convicted else 1


def _try(case: Case, seed: int, seconds: float, directory: Path) -> Result:
    click.echo(f"\n{case.bug} ({_under(case)}), seed {seed}")
    history = directory / "history"
    history.mkdir(parents=True)
    plan = Plan(
        client=case.client,
        workloads=case.workloads,
        faults=tuple(chosen_faults(case.faults)),
        seconds=seconds,
        seed=seed,
    )
    began = time.monotonic()

    def tell(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f}  {text}")

    result = asyncio.run(run(plan, LocalTarget(directory, settings=SETTINGS, launch=words(case.bug)), history, tell))
    tell(f"{result.standing}: {_told(result)}")
    for excerpt in result.excerpts:
        click.echo(excerpt)
    for stuck in result.stuck:
        click.echo(f"stuck: {stuck}")
    return result


def _under(case: Case) -> str:
    return f"{', '.join(case.faults)}; {', '.join(case.workloads)}; {case.client}"


def _told(result: Result) -> str:
    if result.anomalies:
        return ", ".join(f"{count} x {kind}" for kind, count in result.anomalies.items())
    return f"nothing ({', '.join(result.stuck) or result.standing})"


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))

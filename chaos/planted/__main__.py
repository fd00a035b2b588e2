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
from ottla.testing.chaos.clients.port import Failure
from ottla.testing.chaos.crew import CrewError
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.own_cluster import chosen_faults, step_into_network
from ottla.testing.chaos.result import Result
from ottla.testing.chaos.run import SETTINGS, Plan, run
from ottla.testing.cluster import ClusterError


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--bug", "wanted", multiple=True, metavar="TEXT", help="Those whose names contain it; without it, all.")
@click.option("--for", "seconds", default=45.0, show_default=True, help="How long faults are done, in each run.")
@click.option("--seed", default=0, help="What is drawn; 0: another seed each time.")
@click.option("--attempts", default=3, show_default=True, help="Runs, with other seeds, until a bug is not convicted.")
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
        told, runs = "", 0
        while runs < attempts and not told:
            runs += 1
            result = _try(case, seed + runs, seconds, directory / f"{number}-{runs}")
            told = _told(result) if result is not None else ""
        convicted &= bool(told)
        table.add_row(case.bug, _under(case), told or "nothing", str(runs))
    Console(width=160).print(table)
    return 0 if convicted else 1


def _try(case: Case, seed: int, seconds: float, directory: Path) -> Result | None:
    """One run; None when it could not be done to its end, which convicts nobody."""
    click.echo(f"\n{case.bug} ({_under(case)}), seed {seed}")
    history = directory / "history"
    history.mkdir(parents=True)
    plan = Plan(
        client=case.client,
        workloads=case.workloads,
        faults=tuple(chosen_faults(case.faults)),
        seconds=seconds,
        seed=seed,
        replication_factor=case.nodes,
    )
    began = time.monotonic()

    def tell(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f}  {text}")

    target = LocalTarget(directory, nodes=case.nodes, settings=SETTINGS, launch=words(case.bug))
    try:
        result = asyncio.run(run(plan, target, history, tell))
    except (ClusterError, CrewError, Failure) as error:
        tell(f"no verdict: {error}")
        return None
    tell(f"{result.standing}: {_told(result) or ', '.join(result.stuck)}")
    for excerpt in result.excerpts:
        click.echo(excerpt)
    return result


def _under(case: Case) -> str:
    return f"{', '.join(case.faults)}; {', '.join(case.workloads)}; {case.client}"


def _told(result: Result) -> str:
    """What the history convicts it of; that something does not come to rest is no conviction."""
    return ", ".join(f"{count} x {kind}" for kind, count in result.anomalies.items())


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))

"""`python -m chaos.matrix`: every fault against every guarantee with every client library, and the report of it.

    python -m chaos.matrix                          all rows, three clients, 60 s each; goes on where it was broken off
    python -m chaos.matrix --rows kill,pause --clients ottla --for 20s
    python -m chaos.matrix --cluster kafka          Apache Kafka through the rows that can be done to it
    python -m chaos.matrix --report-only

All workloads run at once, so one run looks at every guarantee under one fault. Its result is a JSON file in
`--results`; one that is there for this commit is not done again (`--again` does). Data, logs and history of a run that
found something stay there too. Exit code 1 when an anomaly was found, something did not come to rest, or a run gave no
result.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from chaos.rows import KAFKA_ROWS, ROWS, SMOKE_ROW, Row
from ottla.cli.durations import parse_duration_s
from ottla.testing.chaos.clients import LIBRARIES
from ottla.testing.chaos.report import markdown, page
from ottla.testing.chaos.result import Result, Standing

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results"
OVERHEAD_S: Final = 420.0
"""What a run may take beside its faults: start, rest with its limits, last reads."""


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--rows", help="Some rows, with commas; all by default.")
@click.option("--clients", default=",".join(LIBRARIES), show_default=True)
@click.option("--cluster", type=click.Choice(["ottla", "kafka"]), default="ottla", show_default=True)
@click.option("--for", "duration", default="60s", show_default=True, help="How long each run does faults.")
@click.option("--seed", default=1, show_default=True, help="Of the first run; the others follow from it.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
@click.option("--again", is_flag=True, help="Do runs again whose results are there.")
@click.option("--any-commit", is_flag=True, help="Take results of other commits for done, too.")
@click.option("--report-only", is_flag=True, help="Do no run.")
@click.option("--smoke", is_flag=True, help="One short run with each client, instead of the rows.")
def main(
    *,
    rows: str | None,
    clients: str,
    cluster: str,
    duration: str,
    seed: int,
    results: Path,
    again: bool,
    any_commit: bool,
    report_only: bool,
    smoke: bool,
) -> int:
    """Runs, one after the other, and then the report."""
    there = {SMOKE_ROW.name: SMOKE_ROW} if smoke else KAFKA_ROWS if cluster == "kafka" else ROWS
    chosen = list(there) if rows is None else [name.strip() for name in rows.split(",")]
    if unknown := [name for name in chosen if name not in there]:
        raise click.UsageError(f"row {unknown[0]!r} is none of {', '.join(there)}")
    commit = _commit()
    results.mkdir(parents=True, exist_ok=True)
    paths = []
    seconds = parse_duration_s(duration, "--for")
    for number, name in enumerate(chosen):
        for index, client in enumerate(clients.split(",")):
            path = results / f"{cluster}-{name}-{client}.json"
            paths.append(path)
            if not report_only and (again or not _is_done(path, commit, any_commit=any_commit)):
                _one(there[name], client, cluster, seconds, seed + 10 * number + index, path, commit)
    found = [Result.load(path) for path in sorted(results.glob("*.json"), key=_order(there))]
    found = [one for one in found if smoke or not one.row.startswith(SMOKE_ROW.name)]
    missing = [path.stem for path in paths if not path.exists()]
    if missing:
        click.echo(f"{len(missing)} runs gave NO RESULT: {', '.join(missing)}")
    if not found:
        return 1
    (results / "report.html").write_text(page(found, "Chaos"))
    (results / "table.md").write_text(markdown(found))
    bad = [one for one in found if one.standing in (Standing.ANOMALY, Standing.STUCK)]
    click.echo(
        f"{len(found)} runs, {sum(len(one.windows) for one in found)} faults, "
        f"{len({one.row for one in found})} rows; {len(bad)} with anomalies or something stuck; "
        f"{sum(one.standing is Standing.SLOW for one in found)} slow. Report: {results / 'report.html'}"
    )
    return 1 if bad or missing else 0


def _order(rows: dict[str, Row]) -> Callable[[Path], tuple[int, str]]:
    names = list(rows)

    def key(path: Path) -> tuple[int, str]:
        row = next((name for name in names if f"-{name}-" in path.name), "")
        return (names.index(row) if row else len(names), path.name)

    return key


def _is_done(path: Path, commit: str, *, any_commit: bool) -> bool:
    return path.exists() and (any_commit or Result.load(path).commit == commit)


def _one(row: Row, client: str, cluster: str, seconds: float, seed: int, path: Path, commit: str) -> None:
    """One run, in a process (and often a network) of its own."""
    began = time.monotonic()
    command = [sys.executable, "-m", "chaos.one", row.name, client, cluster, str(seconds), str(seed), str(path), commit]
    log = path.with_suffix(".log")
    path.unlink(missing_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait(seconds + OVERHEAD_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                process.terminate()  # it takes away what it made
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    took = f"{time.monotonic() - began:.0f} s"
    if not path.exists():
        click.echo(f"{row.name:>24} {client:>10}  NO RESULT (code {code}) after {took}: {log}")
        return
    result = Result.load(path)
    gap = "" if result.longest_gap_ms is None else f", longest gap {result.longest_gap_ms:,.0f} ms"
    kinds = f" {dict(result.anomalies)}" if result.anomalies else ""
    click.echo(
        f"{row.name:>24} {client:>10}  {result.standing}{kinds}: {len(result.windows)} faults, "
        f"{result.operations:,} operations{gap}; {took}"
    )
    for text in [*result.stuck, *result.slow, *result.clients_own]:
        click.echo(f"{'':>36} {text}")


def _commit() -> str:
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE)
    return told.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))

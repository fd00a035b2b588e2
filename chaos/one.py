"""One run of the matrix as a process: `python -m chaos.one ROW CLIENT CLUSTER SECONDS SEED RESULT COMMIT`."""

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chaos.kafka_target import KafkaTarget
from chaos.nemeses.catalog import NEMESES
from chaos.rows import KAFKA_ROWS, ROWS, SMOKE_ROW
from ottla.testing.chaos.clients_nemesis import CLIENT_NEMESES
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.needs import Unavailable
from ottla.testing.chaos.own_cluster import check_needs, chosen_faults, step_into_network
from ottla.testing.chaos.result import Result, Standing
from ottla.testing.chaos.run import SETTINGS, Cluster, Plan, run
from ottla.testing.chaos.schedule import JOIN
from ottla.testing.chaos.summary import summary

ALL: Final[Mapping[str, Any]] = {**NEMESES, **CLIENT_NEMESES}


def main() -> None:
    """Do it; the result is a file, and what was found is kept beside it."""
    name, client, kind, seconds, seed, result_path, commit = sys.argv[1:]
    row = {**(KAFKA_ROWS if kind == "kafka" else ROWS), SMOKE_ROW.name: SMOKE_ROW}[name]
    faults = tuple(chosen_faults([one for one in row.faults if _can(one)], ALL))
    step_into_network(faults, [sys.executable, "-m", "chaos.one", *sys.argv[1:]], ALL)
    plan = Plan(client=client, faults=faults, seconds=float(seconds), seed=int(seed), commit=commit)
    path = Path(result_path)
    directory = path.with_suffix("")
    shutil.rmtree(directory, ignore_errors=True)
    target: Cluster = KafkaTarget(directory) if kind == "kafka" else LocalTarget(directory, settings=SETTINGS)
    result = asyncio.run(_run(plan, target, directory))
    result.row = row.name
    _tell(summary(result))
    result.save(path)
    if result.standing in (Standing.OK, Standing.SLOW):
        shutil.rmtree(directory, ignore_errors=True)


def _can(fault: str) -> bool:
    """Whether this machine can do it; what it lacks is told."""
    try:
        for kind in fault.split(JOIN):
            check_needs(kind, ALL)
    except Unavailable as error:
        _tell(f"left out: {error}")
        return False
    return True


async def _run(plan: Plan, target: Cluster, directory: Path) -> Result:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    history = directory / "history"
    history.mkdir(parents=True)
    began = time.monotonic()
    return await run(plan, target, history, lambda text: _tell(f"{time.monotonic() - began:6.1f}  {text}"), NEMESES)


def _tell(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

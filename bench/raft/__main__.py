"""The quorum alone: `python -m bench.raft`.

Three nodes of `examples.kv` in three processes over loopback, each with its own directory, every commit synced. Time-
outs are the defaults of `RaftSettings`. Prints a table of medians, and with --json FILE writes all figures of all
rounds, with the time-outs and how busy the machine was besides.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from bench.raft.group import Group
from bench.raft.measures import MEASURES, TARGETS, Figures, Options
from ottla.core.types import NodeId, Uuid
from ottla.raft.driver import RaftSettings
from ottla.raft.quorum import Member

Rounds = dict[str, list[Figures]]


def main() -> None:
    options = _arguments()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rounds = runner.run(_measure(options))
    _print(rounds)
    if options.json:
        Path(options.json).write_text(
            json.dumps({"machine": _machine(), "time_outs": _time_outs(), "measures": rounds})
        )


async def _measure(options: argparse.Namespace) -> Rounds:
    rounds: Rounds = {}
    console = Console(stderr=True)
    lengths = Options(
        seconds=options.seconds,
        idle_seconds=options.idle_seconds,
        elections=options.elections,
        profile=options.profile,
    )
    for turn in range(options.rounds):
        directory = Path(tempfile.mkdtemp(prefix="ottla-bench-raft-"))
        group = Group(directory)
        try:
            await group.start()
            for name in options.measures or MEASURES:
                console.print(f"round {turn + 1} of {options.rounds}: {name}", style="dim")
                rounds.setdefault(name, []).append(await MEASURES[name](group, lengths))
        finally:
            await asyncio.to_thread(group.stop)
        shutil.rmtree(directory)
    return rounds


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.raft", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of: {', '.join(MEASURES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8, help="length of one measurement")
    parser.add_argument("--idle-seconds", type=float, default=30)
    parser.add_argument("--elections", type=int, default=10)
    parser.add_argument("--profile", metavar="FILE", default="", help="write a profile of the leader with 64 in flight")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if options.profile:
        options.profile = str(Path(options.profile).absolute())
    if unknown := set(options.measures) - set(MEASURES):
        parser.error(f"unknown measure {', '.join(sorted(unknown))}; there are: {', '.join(MEASURES)}")
    return options


def _machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "load": os.getloadavg(),
    }


def _time_outs() -> dict[str, float]:
    settings = RaftSettings(directory="", member=Member(NodeId(0), Uuid(bytes(16))))
    tick_ms = settings.tick_ms
    return {
        "tick_ms": tick_ms,
        "heartbeat_ms": tick_ms * settings.heartbeat_ticks,
        "election_ms_least": tick_ms * settings.election_ticks,
    }


def _print(rounds: Rounds) -> None:
    table = Table("measure", "figure", "median", "target")
    for measure, found in rounds.items():
        label = measure
        for figure in found[0]:
            value = statistics.median(figures[figure] for figures in found)
            table.add_row(label, figure, f"{value:,.2f}", TARGETS.get((measure, figure), ""))
            label = ""
        table.add_section()
    Console(width=100).print(table)
    print("time-outs:", ", ".join(f"{name} {value:g}" for name, value in _time_outs().items()))
    print("load of the machine:", *(f"{value:.1f}" for value in os.getloadavg()))


if __name__ == "__main__":
    main()

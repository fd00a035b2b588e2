# ruff: noqa: T201
"""`python -m tests.sim.replication [--mirrored] SEED`, `--seeds FIRST COUNT`, or `--plants [PART OF A NAME]`."""

import sys
import time
from typing import Any

import structlog

from tests.sim.replication.cluster import Cluster
from tests.sim.replication.plants import OF_MIRRORS, PLANTS

CRITICAL = 50


def run_seeds(first: int, count: int, *, mirrored: bool) -> None:
    started, acknowledged, bad = time.monotonic(), 0, 0
    for seed in range(first, first + count):
        try:
            acknowledged += Cluster(seed, mirrored=mirrored).run().checker.checks
        except AssertionError as error:
            bad += 1
            print(f"seed {seed}: {error}", flush=True)
    took = time.monotonic() - started
    print(f"{count} seeds, {bad} convicted, {acknowledged} acknowledgements checked, {took:.0f} s")


def run_plants(part: str, limit: int = 150) -> None:
    for name, plant in PLANTS.items():
        if part not in name:
            continue
        undo: list[tuple[Any, str, Any]] = []

        def patch(owner: Any, attribute: str, value: Any, undo: list[tuple[Any, str, Any]] = undo) -> None:
            undo.append((owner, attribute, owner.__dict__[attribute]))
            setattr(owner, attribute, value)

        plant(patch)
        verdict = f"acquitted by {limit} seeds"
        for seed in range(limit):
            try:
                Cluster(seed, mirrored=name in OF_MIRRORS).run()
            except AssertionError as error:
                verdict = f"seed {seed}: {error.__cause__ or error}"
                break
        for owner, attribute, value in reversed(undo):
            setattr(owner, attribute, value)
        print(f"{name}\n    {verdict}", flush=True)


if __name__ == "__main__":
    arguments = [one for one in sys.argv[1:] if one != "--mirrored"]
    mirrored = "--mirrored" in sys.argv
    if arguments[0] in ("--plants", "--seeds"):
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    if arguments[0] == "--plants":
        run_plants(arguments[1] if arguments[1:] else "")
    elif arguments[0] == "--seeds":
        run_seeds(int(arguments[1]), int(arguments[2]), mirrored=mirrored)
    else:
        print(Cluster(int(arguments[0]), mirrored=mirrored).run().describe())

"""Seeded histories of three replicas. One that fails is run again by `python -m tests.sim.replication SEED`."""

import os
import random

import pytest

from tests.sim.replication.checker import Violation
from tests.sim.replication.cluster import Cluster

SEEDS = int(os.environ.get("OTTLA_REPLICATION_SEEDS", "24"))
FIRST = random.SystemRandom().randrange(1 << 32) if os.environ.get("OTTLA_REPLICATION_SEEDS") else 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_what_is_acknowledged_stays(seed: int) -> None:
    try:
        cluster = Cluster(seed).run()
    except Violation as error:
        raise AssertionError(f"seed {seed}: {error}\n    python -m tests.sim.replication {seed}") from error
    assert cluster.checker.checks, "nothing was acknowledged"


def test_a_seed_replays() -> None:
    runs = [Cluster(3, faults=6).run() for _ in range(2)]
    assert runs[0].world.events == runs[1].world.events
    assert runs[0].checker.acknowledged == runs[1].checker.acknowledged


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(SEEDS // 4, 1)))
def test_a_mirror_holds_what_its_source_does(seed: int) -> None:
    try:
        cluster = Cluster(seed, mirrored=True).run()
    except Violation as error:
        raise AssertionError(f"seed {seed}: {error}\n    python -m tests.sim.replication --mirrored {seed}") from error
    assert cluster.checker.checks, "nothing was acknowledged"

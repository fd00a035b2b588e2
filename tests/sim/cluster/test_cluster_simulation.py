"""The simulator itself: a seed is a history, and a planted bug is found."""

import os
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import pytest

from tests.sim.cluster.plants import PLANTS
from tests.sim.cluster.scenario import run_seed

ROOT = Path(__file__).parents[3]


def fingerprint(seed: int) -> str:
    outcome = run_seed(seed, trace_lines=6000)
    lines = "\n".join([*outcome.tail, str(outcome.events), str(outcome.acknowledged), str(outcome.violation)])
    return blake2b(lines.encode(), digest_size=16).hexdigest()


@pytest.mark.timeout(300)
def test_the_same_seed_replays_the_same_history_in_another_process() -> None:
    code = "from tests.sim.cluster.test_cluster_simulation import fingerprint; print(fingerprint(7))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1
    assert fingerprint(7) in found.pop()


@pytest.mark.interpreted
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        "a fenced broker is elected",
        "the high watermark comes from appended ends, not from durable ones",
        "readers are not told of aborted transactions",
        "offsets of a transaction count before it commits",
        "markers are sent before the end of the transaction is in the log",
    ],
)
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTS[name]():
        assert any(run_seed(seed).violation is not None for seed in range(40))

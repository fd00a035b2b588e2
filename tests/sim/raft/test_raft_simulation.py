"""The simulator itself: a seed is a history, and a planted bug is found."""

import os
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import pytest

from tests.sim.raft.mutations import MUTATIONS
from tests.sim.raft.scenario import Run, run_seed
from tests.sim.raft.violation import Violation

ROOT = Path(__file__).parents[3]


def fingerprint(seed: int) -> str:
    run = Run(seed)
    try:
        run.go()
    except Violation as violation:
        return str(violation)
    lines = "\n".join([*run.setting.told.lines(), str(run.setting.world.events), repr(run.history.operations)])
    return blake2b(lines.encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize("seed", [3, 11])
def test_the_same_seed_replays_the_same_history_in_another_process(seed: int) -> None:
    code = f"from tests.sim.raft.test_raft_simulation import fingerprint; print(fingerprint({seed}))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(found) == 1
    assert fingerprint(seed) in found.pop()


@pytest.mark.parametrize("name", ["acknowledge before sync", "vote not persisted"])
def test_a_planted_bug_is_found(name: str) -> None:
    with MUTATIONS[name]():
        assert any(run_seed(seed).violation is not None for seed in range(40))

"""A violation comes back whole from the process that found it, and fails the run."""

from collections import Counter

import pytest

from tests.sim.raft.violation import Violation
from tests.sim.report import Outcome
from tests.sim.runner import Simulation


def outcome(seed: int, *, trace_lines: int = 0) -> Outcome:
    """Every fifth seed fails."""
    return Outcome(
        seed=seed,
        violation=Violation("one leader", f"seed {seed} has two") if seed % 5 == 0 else None,
        tail=["the end"][:trace_lines],
        coverage=Counter(),
        events=1,
        simulated_s=1.0,
        cpu_s=0.1,
        acknowledged=1,
        options="none",
    )


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_seed_is_told_by_whichever_process_ran_it(jobs: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert Simulation("tests.sim.raft", outcome, {}).run(1, 9, jobs) == 1
    told = capsys.readouterr().out
    assert "one leader: seed 5 has two" in told
    assert "--replay 5" in told

"""The cases of `make chaos-convict` name what there is, and its launcher becomes a node."""

import subprocess
import sys

from chaos.planted.cases import CASES
from chaos.planted.launcher import words
from chaos.planted.plants import PLANTS
from ottla.testing.chaos.own_cluster import ALL
from ottla.testing.chaos.schedule import kinds
from ottla.testing.chaos.workloads import WORKLOADS


def test_every_case_names_a_bug_faults_and_workloads_that_exist() -> None:
    for case in CASES:
        assert case.bug in PLANTS
        assert set(kinds(case.faults)) <= ALL.keys()
        assert set(case.workloads) <= WORKLOADS.keys()
    assert len({case.bug for case in CASES}) == len(CASES) >= 6


def test_a_node_that_is_launched_with_a_bug_runs() -> None:
    """It gets as far as its settings, which are none."""
    command = [*words(CASES[0].bug), sys.executable, "-m", "ottla.node", "{}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "parent_pid" in done.stderr

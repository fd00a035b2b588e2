"""How property tests run, here and in CI.

Here each run draws new examples, so that runs add up, and `make soak` draws many. In CI (the variable CI is set) the
examples follow from the tests themselves: the gate judges the change, and not the luck of the draw. A failure prints
the blob that replays it; a database of former examples is not kept, since a test must not depend on what an earlier run
left behind. Nothing is measured by the time that one example takes: the machine may be busy.

The first seeds of the simulations are drawn here, too: of xdist's processes only the first one reads this before the
others are started, which inherit it. In CI they follow from the commit: every change gets histories that no run had
before, and the same ones when it is judged again. The last lines of a run tell them.
"""

import os
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ottla",
    database=None,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ottla")

SIMULATIONS = {  # where the tests are: the variable that holds the first seed
    "tests/sim/raft/test_raft_seeds": "OTTLA_SIM_START",
    "tests/sim/cluster/test_cluster_seeds": "OTTLA_SIM_CLUSTER_START",
}


def _first_seed() -> int:
    """Of the commit, where there is one."""
    if os.environ.get("CI") and shutil.which("git"):
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        if asked.returncode == 0:
            return int(asked.stdout[:10], 16)
    return Random().randrange(0, 1 << 40)


for variable in SIMULATIONS.values():
    if variable not in os.environ:
        os.environ[variable] = str(_first_seed())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ended = [getattr(report, "nodeid", "") for reports in terminalreporter.stats.values() for report in reports]
    for place, name in SIMULATIONS.items():
        if any(one.startswith(place) for one in ended):
            terminalreporter.write_line(f"{place}: from seed {os.environ[name]} on; again: {name}={os.environ[name]}")

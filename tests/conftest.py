"""How property tests run, here and in CI.

Here each run draws new examples, so that runs add up, and `make soak` draws many. In CI (the variable CI is set) the
examples follow from the tests themselves: the gate judges the change, and not the luck of the draw. A failure prints
the blob that replays it; a database of former examples is not kept, since a test must not depend on what an earlier run
left behind. Nothing is measured by the time that one example takes: the machine may be busy.

The first seeds of the simulations are drawn here, too: of xdist's processes only the first one reads this before the
others are started, which inherit it. In CI they are the same ones, for the same reason as above, until what fresh ones
still find is mended (docs/simulation.md); `make sim` draws new ones. The last lines of a run tell them.
"""

import os
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

CI_STARTS = {"OTTLA_SIM_START": 1039857812202, "OTTLA_SIM_CLUSTER_START": 1039857812227}

SIMULATIONS = {  # where the tests are: the variable that holds the first seed
    "tests/sim/raft/test_raft_seeds": "OTTLA_SIM_START",
    "tests/sim/cluster/test_cluster_seeds": "OTTLA_SIM_CLUSTER_START",
}


for variable in SIMULATIONS.values():
    first = CI_STARTS[variable] if os.environ.get("CI") else Random().randrange(0, 1 << 40)
    os.environ.setdefault(variable, str(first))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ended = [getattr(report, "nodeid", "") for reports in terminalreporter.stats.values() for report in reports]
    for place, name in SIMULATIONS.items():
        if any(one.startswith(place) for one in ended):
            terminalreporter.write_line(f"{place}: from seed {os.environ[name]} on; again: {name}={os.environ[name]}")

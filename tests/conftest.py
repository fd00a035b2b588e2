"""How property tests run, here and in CI.

Here each run draws new examples, so that runs add up, and `make soak` draws many. In CI (the variable CI is set) the
examples follow from the tests themselves: the gate judges the change, and not the luck of the draw. A failure prints
the blob that replays it; a database of former examples is not kept, since a test must not depend on what an earlier run
left behind. Nothing is measured by the time that one example takes: the machine may be busy.

The first seed of the quorum's simulations is drawn here, too: of xdist's processes only the first one reads this before
the others are started, which inherit it. The last lines of a run tell it.
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

SIM_START = os.environ.setdefault("OTTLA_SIM_START", str(Random().randrange(0, 1 << 40)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ended = (report for reports in terminalreporter.stats.values() for report in reports)
    if any(getattr(report, "nodeid", "").startswith("tests/sim/raft/test_raft_seeds") for report in ended):
        terminalreporter.write_line(
            f"quorums were simulated from seed {SIM_START} on; again: OTTLA_SIM_START={SIM_START}"
        )

"""How property tests run, here and in CI.

Here each run draws new examples, so that runs add up, and `make soak` draws many. In CI (the variable CI is set) the
examples follow from the tests themselves: the gate judges the change, and not the luck of the draw. A failure prints
the blob that replays it; a database of former examples is not kept, since a test must not depend on what an earlier run
left behind. Nothing is measured by the time that one example takes: the machine may be busy.
"""

import os

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

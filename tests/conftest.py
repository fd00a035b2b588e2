"""How property tests run, here and in CI.

Each run draws new examples, so that runs add up. A failure prints the blob that replays it; a database of former
examples is not kept, since a test must not depend on what an earlier run left behind. Nothing is measured by the time
that one example takes: the machine may be busy.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ottla",
    database=None,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ottla")

"""Each planted bug is convicted; most by one of the first seeds.

`python -m tests.sim.replication --plants` looks for them.
"""

import pytest

from tests.sim.replication.cluster import Cluster
from tests.sim.replication.plants import OF_MIRRORS, PLANTS

TRIES = 40  # seeds, from 0 on
RARE = {"a replica joins without having reached the start of the leader's epoch": 72}  # tried first


@pytest.mark.interpreted
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_convicted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[name](monkeypatch.setattr)
    for seed in (*([RARE[name]] if name in RARE else []), *range(TRIES)):
        try:
            Cluster(seed, mirrored=name in OF_MIRRORS).run()
        except AssertionError:
            return
    pytest.fail(f"no seed below {TRIES} convicts: {name}")

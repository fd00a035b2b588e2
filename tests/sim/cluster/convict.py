"""Plants each bug and counts the seeds until it is found: `python -m tests.sim.cluster.convict [NAME …]`."""

import sys

from tests.sim.cluster.plants import PLANTS
from tests.sim.cluster.scenario import run_seed
from tests.sim.court import Court

COURT = Court("tests.sim.cluster", PLANTS, run_seed)

if __name__ == "__main__":
    sys.exit(COURT.main())

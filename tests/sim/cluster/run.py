"""Runs many seeds on several processes: `python -m tests.sim.cluster.run --seeds 200`.

`--replay SEED` runs one again and prints how it ended, with as much of the trace as is asked for.
"""

import sys

from tests.sim.cluster.coverage import RARE
from tests.sim.cluster.scenario import run_seed
from tests.sim.runner import Simulation

SIMULATION = Simulation("tests.sim.cluster", run_seed, RARE)

if __name__ == "__main__":
    sys.exit(SIMULATION.main())

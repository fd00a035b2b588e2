"""Runs many seeds on several processes: `python -m tests.sim.raft.run --seeds 1000`, or `make sim SEEDS=1000`.

`--replay SEED` runs one again and prints how it ended, with as much of the trace as is asked for.
"""

import sys

from tests.sim.raft.coverage import RARE
from tests.sim.raft.scenario import run_seed
from tests.sim.runner import Simulation

SIMULATION = Simulation("tests.sim.raft", run_seed, RARE)

if __name__ == "__main__":
    sys.exit(SIMULATION.main())

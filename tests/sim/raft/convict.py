"""Plants each bug and counts the seeds until it is found: `python -m tests.sim.raft.convict [NAME …]`."""

import sys

from tests.sim.court import Court
from tests.sim.raft.mutations import MUTATIONS
from tests.sim.raft.scenario import run_seed

COURT = Court("tests.sim.raft", MUTATIONS, run_seed)

if __name__ == "__main__":
    sys.exit(COURT.main())

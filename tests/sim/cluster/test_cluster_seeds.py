"""Fresh seeds in every run of the suite, and those that once found something."""

import os
from pathlib import Path

import pytest

from tests.sim.cluster.scenario import run_seed
from tests.sim.report import failure_text

FRESH_SEEDS = 200
CHUNK = 5
CORPUS = Path(__file__).with_name("corpus.txt")

START = int(os.environ["OTTLA_SIM_CLUSTER_START"])  # drawn in tests/conftest.py


def corpus() -> list[int]:
    """One seed a line; what follows it says what it found."""
    lines = (line.partition("#")[0].strip() for line in CORPUS.read_text().splitlines())
    return [int(line) for line in lines if line]


def run(seed: int) -> None:
    outcome = run_seed(seed)
    if outcome.violation is not None:
        pytest.fail(failure_text("tests.sim.cluster", outcome), pytrace=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunk", range(FRESH_SEEDS // CHUNK))
def test_every_promise_holds_in_histories_that_no_run_had_before(chunk: int) -> None:
    for seed in range(START + chunk * CHUNK, START + (chunk + 1) * CHUNK):
        run(seed)


@pytest.mark.parametrize("seed", corpus())
def test_what_a_seed_once_found_stays_mended(seed: int) -> None:
    run(seed)

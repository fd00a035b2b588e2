"""The simulation finds the bugs of a library that is known to have some, and none in our own core."""

import pytest

from ottla.raft.core import SafetyViolation
from tests.sim.pysyncobj.convict import VARIANTS, judge, replay_command, table
from tests.sim.pysyncobj.core import Core
from tests.sim.pysyncobj.invariants import DIVERGED, LOST
from tests.sim.pysyncobj.scenario import Run, Verdict

CONVICTED = [("network", 3, LOST), ("kill", 21, LOST), ("power", 1, LOST)]


@pytest.mark.parametrize(("variant", "seed", "invariant"), CONVICTED)
def test_pysyncobj_is_convicted(variant: str, seed: int, invariant: str) -> None:
    verdict = judge("pysyncobj", variant, seed)
    assert invariant in verdict.broken, replay_command("pysyncobj", variant, seed)


def test_pysyncobj_serves_well_while_nothing_goes_wrong() -> None:
    for seed in range(3):
        verdict = judge("pysyncobj", "calm", seed)
        assert not verdict.broken, replay_command("pysyncobj", "calm", seed)
        assert verdict.acknowledged > 300


def test_a_seed_replays_its_run() -> None:
    assert judge("pysyncobj", "network", 3) == judge("pysyncobj", "network", 3)


@pytest.mark.parametrize("variant", ["calm", "network", "kill", "power"])
def test_our_own_core_passes(variant: str) -> None:
    for seed in range(3):
        verdict = judge("core", variant, seed)
        assert not verdict.broken, replay_command("core", variant, seed)
        assert verdict.acknowledged > 100


def test_a_core_whose_journal_does_not_sync_is_convicted_too() -> None:
    def is_convicted(seed: int) -> bool:
        try:
            return bool(Run(Core(syncs=False), seed, VARIANTS["power"]).judge().broken)
        except SafetyViolation:  # its own checks noticed
            return True

    assert any(is_convicted(seed) for seed in range(20))


def test_the_table_counts_seeds_by_invariant() -> None:
    verdicts = [Verdict(0, {}, 10), Verdict(1, {DIVERGED: "", LOST: ""}, 5), Verdict(2, {LOST: ""}, 5)]
    assert table(verdicts).splitlines() == [
        "invariant                                               seeds  first",
        "an acknowledged command is lost                             2      1",
        "members applied different commands at one place             1      1",
        "2 of 3 seeds broke an invariant; 20 commands were acknowledged",
    ]

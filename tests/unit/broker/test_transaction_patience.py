"""A request that comes while the transaction before is being ended waits for that, within limits."""

from collections.abc import Callable

import pytest

from ottla.broker.transactions.patience import Patient
from ottla.testing.sim.clock import SimClock


class Rig:
    """`refusals`: how often the coordinator refuses; `ends`: what waits for the markers of "x"."""

    def __init__(self, refusals: int) -> None:
        self.clock = SimClock()
        self.refusals = refusals
        self.attempts: list[float] = []
        self.done: list[bool] = []
        self.under_way = True
        self.ends: list[Callable[[], object]] = []
        self.patient = Patient[bool](
            self.clock,
            self,
            attempt=self.attempt,
            ids=["", "x"],
            is_refused_for_now=lambda accepted: not accepted,
            patience_ms=100,
            done=self.done.append,
        )

    def attempt(self, answered: Callable[[bool], object]) -> None:
        self.attempts.append(self.clock.monotonic_ms())
        self.refusals -= 1
        answered(self.refusals < 0)

    def when_ended(self, transactional_id: str, callback: Callable[[], object]) -> bool:
        if transactional_id == "x" and self.under_way:
            self.ends.append(callback)
            return True
        return False


def test_what_is_accepted_is_answered_at_once() -> None:
    rig = Rig(refusals=0)
    assert (rig.attempts, rig.done) == ([0], [True])


def test_it_goes_on_as_soon_as_the_markers_are_written() -> None:
    rig = Rig(refusals=1)
    rig.clock.run_for(50)
    assert (rig.attempts, rig.done) == ([0], [])
    rig.ends[0]()
    assert (rig.attempts, rig.done) == ([0, 50], [True])
    rig.ends[0]()
    rig.clock.run_for(500)
    assert (rig.attempts, rig.done) == ([0, 50], [True])


def test_between_the_end_and_its_markers_there_are_short_pauses() -> None:
    rig = Rig(refusals=2)
    rig.under_way = False
    rig.ends[0]()
    assert rig.done == []
    rig.clock.run_for(5)
    assert (rig.attempts, rig.done) == ([0, 0, 3], [True])


@pytest.mark.parametrize("under_way", [True, False])
def test_patience_ends(under_way: bool) -> None:
    rig = Rig(refusals=1000)
    rig.under_way = under_way
    rig.ends[0]()
    rig.clock.run_for(95)
    assert rig.done == []
    rig.clock.run_for(10)
    assert rig.done == [False]


@pytest.mark.parametrize("under_way", [True, False])
def test_what_nobody_waits_for_is_not_attempted_again(under_way: bool) -> None:
    rig = Rig(refusals=2)
    rig.under_way = under_way
    rig.ends[0]()
    rig.patient.give_up()
    rig.ends[-1]()
    rig.clock.run_for(500)
    assert (rig.attempts, rig.done) == ([0, 0], [])

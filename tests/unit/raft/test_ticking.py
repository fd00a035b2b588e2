"""A core's time: what is counted, and how seldom a node is woken for it."""

from typing import Any, cast

import pytest

from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Member
from ottla.raft.settings import RaftSettings
from ottla.raft.ticking import Ticking
from ottla.testing.sim.clock import SimClock

SETTINGS = RaftSettings(directory="", member=Member(NodeId(1), Uuid(bytes(16))), tick_ms=50, heartbeat_ticks=4)


class Core:
    """Counts its ticks. The `ticks_until_due`th does something, and then every fourth."""

    def __init__(self) -> None:
        self.ticks, self.ticks_until_due = 0, 4

    def tick(self) -> None:
        self.ticks += 1
        self.ticks_until_due = self.ticks_until_due - 1 or 4


class Case:
    """After one tick: when the node is woken, and how often the core has ticked by then."""

    def __init__(self) -> None:
        self.clock, self.core, self.each = SimClock(), Core(), False
        self.woken: list[tuple[float, int]] = []
        self.ticking = Ticking(cast(Any, self.core), SETTINGS, self.clock, self.wake)
        self.ticking.start()
        self.clock.run_for(50)
        assert self.woken.pop() == (50, 1)

    def wake(self) -> None:
        self.woken.append((self.clock.monotonic_ms(), self.core.ticks))
        self.ticking.wait(each=self.each)

    def becomes_due(self, in_ticks: int) -> None:
        """As by a message, or by a connection that broke."""
        self.ticking.catch_up()
        self.core.ticks_until_due = in_ticks
        self.ticking.wait(each=self.each)


@pytest.fixture
def case() -> Case:
    return Case()


def test_ticks_that_do_nothing_come_together_with_the_next_one_that_does(case: Case) -> None:
    case.clock.run_for(550)
    assert case.woken == [(200, 4), (400, 8), (600, 12)]


def test_what_happens_in_between_finds_the_time_that_has_passed(case: Case) -> None:
    case.clock.run_for(120)
    case.becomes_due(2)
    assert case.core.ticks == 3
    case.clock.run_for(100)
    assert case.woken == [(250, 5)]


def test_who_waits_for_long_is_woken_at_times(case: Case) -> None:
    case.becomes_due(1000)
    case.clock.run_for(500)
    assert case.woken == [(300, 6), (550, 11)]


def test_time_in_which_the_process_stood_still_is_not_counted(case: Case) -> None:
    case.clock._now_ms += 10_000
    case.becomes_due(5)
    assert case.core.ticks == 3
    case.clock.run_for(199)
    assert case.woken == []
    case.clock.run_for(1)
    assert case.woken == [(10_250, 8)]


def test_each_tick_comes_by_itself_while_that_is_asked_for(case: Case) -> None:
    case.each = True
    case.becomes_due(4)
    case.clock.run_for(150)
    assert case.woken == [(100, 2), (150, 3), (200, 4)]

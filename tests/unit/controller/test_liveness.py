from dataclasses import replace

import pytest

from ottla.controller.image import BrokerImage
from ottla.controller.liveness import Liveness
from ottla.core.types import NodeId
from tests.unit.controller.states import brokers

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)


def known(*, fenced: tuple[int, ...] = ()) -> dict[NodeId, BrokerImage]:
    return dict(brokers(fenced=fenced).brokers)


@pytest.fixture
def liveness() -> Liveness:
    """Streams of three brokers, open since 0."""
    liveness = Liveness()
    liveness.new_controller(0, known())
    for node in (ONE, TWO, THREE):
        liveness.stream_opened(node, int(node), 0)
    return liveness


def ticks(liveness: Liveness, first_ms: int, last_ms: int) -> list[tuple[int, list[NodeId]]]:
    """Who is to be fenced when, asked every 50 ms."""
    found = [(now, liveness.tick(now)) for now in range(first_ms, last_ms + 1, 50)]
    return [(now, due) for now, due in found if due]


def hear(liveness: Liveness, now_ms: int, *nodes: int) -> None:
    for node in nodes:
        liveness.heard(NodeId(node), node, now_ms)


def test_a_broken_stream_fences_after_the_grace(liveness: Liveness) -> None:
    liveness.stream_broken(ONE, 1, 100)
    assert liveness.next_deadline_ms() == 400
    assert ticks(liveness, 100, 400) == [(400, [ONE])]


def test_a_process_that_has_ended_is_fenced_at_once_and_named_again_after_a_grace(liveness: Liveness) -> None:
    liveness.process_ended(ONE)  # says nothing: its stream is open
    assert liveness.tick(50) == []
    liveness.stream_broken(ONE, 1, 100)
    liveness.process_ended(ONE)
    assert ticks(liveness, 150, 450) == [(150, [ONE]), (450, [ONE])]


def test_the_process_that_follows_one_that_ended_is_not_fenced(liveness: Liveness) -> None:
    liveness.stream_broken(ONE, 1, 100)
    liveness.process_ended(ONE)
    liveness.stream_opened(ONE, 2, 120)
    assert ticks(liveness, 150, 1500) == []


def test_a_stream_that_comes_back_within_the_grace_is_nothing(liveness: Liveness) -> None:
    liveness.stream_broken(ONE, 1, 100)
    liveness.stream_opened(ONE, 1, 350)
    assert ticks(liveness, 100, 1500) == []


def test_silence_fences_after_the_session(liveness: Liveness) -> None:
    for now in range(0, 1001, 100):
        hear(liveness, now, 1, 2, 3)
        assert liveness.tick(now) == []
    for now in range(1100, 2951, 50):
        hear(liveness, now, 1, 2)
        assert liveness.tick(now) == []
    hear(liveness, 3000, 1, 2)
    assert liveness.tick(3000) == [THREE]


def test_who_was_not_fenced_is_named_again_after_a_grace(liveness: Liveness) -> None:
    liveness.stream_broken(ONE, 1, 0)
    assert ticks(liveness, 0, 950) == [(300, [ONE]), (600, [ONE]), (900, [ONE])]
    liveness.follow(known(fenced=(1,)), 950)
    assert ticks(liveness, 950, 1500) == []


def test_a_new_controller_waits_a_session_for_the_silent_and_a_grace_for_those_that_refuse() -> None:
    liveness = Liveness()
    liveness.new_controller(1000, known())
    liveness.connection_refused(ONE, 1050)
    liveness.stream_opened(TWO, 2, 1100)
    liveness.connection_refused(TWO, 1150)  # says nothing: its stream is open
    found = []
    for now in range(1000, 3001, 50):
        hear(liveness, now, 2)
        if due := liveness.tick(now):
            found.append((now, due))
            fenced = tuple(int(node) for _, nodes in found for node in nodes)
            liveness.follow(known(fenced=fenced), now)
    assert found == [(1350, [ONE]), (3000, [THREE])]


def test_a_restarted_broker_that_was_refused_at_first_is_not_fenced() -> None:
    liveness = Liveness()
    liveness.new_controller(0, known())
    liveness.connection_refused(ONE, 10)
    liveness.stream_opened(ONE, 1, 200)
    hear(liveness, 300, 1, 2, 3)
    assert ticks(liveness, 0, 1950) == []


def test_the_end_of_an_older_incarnations_stream_is_nothing(liveness: Liveness) -> None:
    restarted = known()
    restarted[ONE] = replace(restarted[ONE], epoch=4)
    liveness.follow(restarted, 100)
    liveness.stream_opened(ONE, 4, 110)
    liveness.stream_broken(ONE, 1, 120)
    liveness.heard(ONE, 1, 130, metadata_offset=99)
    liveness.stream_opened(ONE, 1, 140)
    assert ticks(liveness, 100, 1500) == []
    assert liveness.is_live(ONE)
    liveness.stream_broken(ONE, 4, 1500)
    assert not liveness.is_live(ONE)


def test_a_fenced_broker_that_starts_is_live_and_not_fenced_again(liveness: Liveness) -> None:
    liveness.follow(known(fenced=(1,)), 0)
    assert liveness.is_live(ONE)
    hear(liveness, 1000, 2, 3)
    assert ticks(liveness, 0, 2500) == []
    liveness.follow(known(), 2500)  # it became ready; it has been silent for long
    assert liveness.tick(2550) == [ONE]


def test_time_in_which_nobody_asked_counts_against_nobody(liveness: Liveness) -> None:
    hear(liveness, 100, 1, 2, 3)
    assert liveness.tick(100) == []
    assert liveness.tick(10_000) == []  # the process was stopped meanwhile
    hear(liveness, 10_050, 1, 2)
    assert ticks(liveness, 10_050, 11_600) == []
    hear(liveness, 11_650, 1, 2)
    assert ticks(liveness, 11_650, 11_950) == [(11_700, [THREE])]


def test_a_change_is_known_everywhere_when_every_live_broker_said_so(liveness: Liveness) -> None:
    liveness.heard(ONE, 1, 10, metadata_offset=7)
    liveness.heard(TWO, 2, 10, metadata_offset=9)
    assert not liveness.reached(7)
    liveness.follow(known(fenced=(3,)), 20)
    assert liveness.reached(7)
    assert not liveness.reached(8)
    assert liveness.reached(8, but=[ONE])


def test_unregistered_brokers_are_forgotten(liveness: Liveness) -> None:
    left = known()
    del left[ONE]
    liveness.stream_broken(ONE, 1, 0)
    liveness.follow(left, 10)
    assert not liveness.is_live(ONE)
    hear(liveness, 300, 2, 3)
    assert ticks(liveness, 50, 1000) == []


def test_an_incarnation_whose_stream_was_replaced_does_not_keep_the_next_one_out(liveness: Liveness) -> None:
    liveness.stream_ended(ONE)
    assert not liveness.is_live(ONE)
    hear(liveness, 1000, 2, 3)
    assert ticks(liveness, 50, 2100) == [(2000, [ONE])]  # as if it was silent


def test_an_incarnation_that_was_silent_for_a_session_does_not_keep_the_next_one_out(liveness: Liveness) -> None:
    hear(liveness, 1000, 2, 3)
    assert liveness.is_live(ONE)
    assert ticks(liveness, 50, 2000) == [(2000, [ONE])]
    assert not liveness.is_live(ONE)

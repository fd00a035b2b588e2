"""Who seeks to succeed a leader whose connections broke, and when: one after the other."""

import random
from itertools import pairwise

import pytest

from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Config, HardState, Member, Membership, Raft, Snapshot
from ottla.raft.core.messages import Heartbeat, VoteRequest

MEMBERS = [Member(NodeId(n), Uuid(bytes([n]) * 16)) for n in range(1, 6)]


def ticks_until_it_asks(member: Member, leader: Member, *, reset: bool) -> int:
    snapshot = Snapshot(0, 0, Membership(frozenset(MEMBERS)), b"")
    core = Raft(Config(member=member), random.Random(7), HardState(3, None), snapshot)
    core.step(Heartbeat(source=leader, target=member, term=3, round=1, commit=0))
    if reset:
        core.unreachable(leader)
    for ticks in range(1, 100):
        core.tick()
        ready = core.ready()
        if ready is not None and any(isinstance(message, VoteRequest) for message in ready.messages):
            return ticks
        if ready is not None:
            core.persisted(ready.number)
    pytest.fail("it never asked")


def test_voters_take_turns_when_the_leader_is_gone() -> None:
    leader = MEMBERS[1]
    others = [member for member in MEMBERS if member != leader]
    assert [ticks_until_it_asks(member, leader, reset=True) for member in others] == [1, 3, 5, 7]


def test_a_leader_that_is_silent_has_a_whole_time_out() -> None:
    assert 10 <= ticks_until_it_asks(MEMBERS[0], MEMBERS[1], reset=False) <= 20


def test_a_pre_vote_that_nobody_answers_is_asked_again_soon() -> None:
    snapshot = Snapshot(0, 0, Membership(frozenset(MEMBERS)), b"")
    core = Raft(Config(member=MEMBERS[0]), random.Random(7), HardState(3, None), snapshot)
    asked = []
    for tick in range(60):
        core.tick()
        ready = core.ready()
        if ready is not None and any(isinstance(message, VoteRequest) for message in ready.messages):
            asked.append(tick)
    assert core.term == 3
    assert max(later - earlier for earlier, later in pairwise(asked)) <= 7

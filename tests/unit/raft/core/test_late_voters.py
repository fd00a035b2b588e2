"""A voter that starts a moment after the others: its leader was elected without it, and spoke to nobody meanwhile."""

import random

from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Config, HardState, Member, Membership, Raft, Snapshot
from ottla.raft.core.messages import AppendRequest, Message

MEMBERS = [Member(NodeId(n), Uuid(bytes([n]) * 16)) for n in (1, 2, 3)]
FIRST, SECOND, LATE = MEMBERS


class Trio:
    """Messages and syncs are instant; the first one leads, and what is for the third is lost while it is away."""

    def __init__(self) -> None:
        snapshot = Snapshot(0, 0, Membership(frozenset(MEMBERS)), b"")
        self.cores = {m: Raft(Config(member=m), random.Random(1), HardState(0, None), snapshot) for m in MEMBERS}
        self.away = {LATE}
        self.leader = self.cores[FIRST]
        self.leader.campaign()
        self.settle()
        self.leader.propose(b"x")
        self.settle()
        assert self.leader.leader == FIRST
        assert self.leader.log.commit == 2

    def settle(self) -> list[Message]:
        """Until nobody has anything to say; what arrived."""
        arrived = []
        while said := [message for core in self.cores.values() for message in _said(core)]:
            for message in said:
                if message.target not in self.away and message.source not in self.away:
                    self.cores[message.target].step(message)
                    arrived.append(message)
        return arrived


def _said(core: Raft) -> list[Message]:
    said: list[Message] = []
    while (ready := core.ready(tell_commit=True)) is not None:
        core.persisted(ready.number)
        said += ready.messages + ready.messages_after_sync
    return said


def test_a_late_voter_has_the_log_as_soon_as_it_is_connected() -> None:
    trio = Trio()
    trio.away.clear()
    assert trio.settle() == []
    trio.leader.connected(LATE)
    assert trio.cores[LATE].leader is None
    trio.settle()
    late = trio.cores[LATE]
    assert late.leader == FIRST
    assert late.log.commit == trio.leader.log.commit == 2


def test_what_a_broken_connection_carried_is_sent_again_over_the_next_one() -> None:
    trio = Trio()
    trio.away.clear()
    trio.leader.connected(LATE)
    trio.settle()
    trio.away.add(LATE)
    trio.leader.propose(b"y")
    trio.settle()
    trio.away.clear()
    trio.leader.connected(LATE)
    sent = [m for m in trio.settle() if isinstance(m, AppendRequest) and m.target == LATE]
    assert sent
    assert trio.cores[LATE].log.commit == trio.leader.log.commit == 3


def test_only_a_leader_has_something_to_say_to_who_is_connected() -> None:
    trio = Trio()
    trio.cores[SECOND].connected(LATE)
    assert _said(trio.cores[SECOND]) == []
    trio.leader.connected(Member(NodeId(9), Uuid(bytes(16))))
    assert _said(trio.leader) == []

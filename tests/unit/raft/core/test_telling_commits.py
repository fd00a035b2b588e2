"""How followers learn what is committed: by the next entries, or by a message of its own when none follow."""

import random
from collections.abc import Iterator

from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Config, HardState, Member, Membership, Raft, Ready, Snapshot
from ottla.raft.core.messages import AppendRequest, Message

MEMBERS = [Member(NodeId(n), Uuid(bytes([n]) * 16)) for n in (1, 2, 3)]


class Group:
    """Three cores whose messages and syncs are instant; the first one leads."""

    def __init__(self) -> None:
        snapshot = Snapshot(0, 0, Membership(frozenset(MEMBERS)), b"")
        self.cores = {m: Raft(Config(member=m), random.Random(1), HardState(0, None), snapshot) for m in MEMBERS}
        self.leader = self.cores[MEMBERS[0]]
        self.leader.campaign()
        self.settle()
        assert self.leader.leader == MEMBERS[0]

    def settle(self) -> None:
        """Until nobody has anything to say."""
        while sum(len(self.turn(core, tell_commit=True)) for core in self.cores.values()):
            pass

    def turn(self, core: Raft, *, tell_commit: bool) -> list[Message]:
        """One member says what it has to say, and the others hear it."""
        said = [m for ready in readies(core, tell_commit=tell_commit) for m in self.persisted(core, ready)]
        for message in said:
            self.cores[message.target].step(message)
        return said

    def persisted(self, core: Raft, ready: Ready) -> list[Message]:
        core.persisted(ready.number)
        return ready.messages + ready.messages_after_sync

    def owes_commit(self) -> bool:
        return self.leader.owes_commit

    def commit_one(self) -> None:
        """A proposal, up to where the leader knows that it is committed."""
        self.leader.propose(b"x")
        self.turn(self.leader, tell_commit=False)
        for member in MEMBERS[1:]:
            self.turn(self.cores[member], tell_commit=False)


def readies(core: Raft, *, tell_commit: bool) -> Iterator[Ready]:
    while (ready := core.ready(tell_commit=tell_commit)) is not None:
        yield ready


def test_a_commit_is_told_by_the_entries_that_follow_it() -> None:
    group = Group()
    group.commit_one()
    assert group.turn(group.leader, tell_commit=False) == []
    assert group.owes_commit()
    group.leader.propose(b"y")
    said = group.turn(group.leader, tell_commit=False)
    assert [(type(m), len(m.entries), m.commit) for m in said if isinstance(m, AppendRequest)] == [
        (AppendRequest, 1, group.leader.log.commit)
    ] * 2
    assert not group.owes_commit()
    assert {core.log.commit for core in group.cores.values()} == {group.leader.log.commit}


def test_a_commit_that_no_entries_follow_is_told_when_the_driver_asks() -> None:
    group = Group()
    group.commit_one()
    group.turn(group.leader, tell_commit=False)
    said = group.turn(group.leader, tell_commit=True)
    assert [m.entries for m in said if isinstance(m, AppendRequest)] == [(), ()]
    assert not group.owes_commit()
    assert {core.log.commit for core in group.cores.values()} == {group.leader.log.commit}


def test_who_does_not_lead_owes_nothing() -> None:
    group = Group()
    group.commit_one()
    assert not any(group.cores[member].owes_commit for member in MEMBERS[1:])

"""Who belongs to the quorum, and what a majority of it has reached.

A member is a node *and* the directory that it was formatted with: a node that comes back with an emptied disk is
another member, so it can never vote twice in a term, nor claim entries that it lost.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from ottla.core.errors import DecodeError
from ottla.core.types import NodeId, Uuid
from ottla.raft.core.errors import MembershipError
from ottla.raft.core.member import Member

__all__ = ["Member", "Membership"]

_COUNTS = struct.Struct(">HH")
_MEMBER = struct.Struct(">i16s")


@dataclass(frozen=True, slots=True)
class Membership:
    """Voters decide; learners only follow, until they have caught up and are made voters."""

    voters: frozenset[Member]
    learners: frozenset[Member] = frozenset()

    @property
    def members(self) -> frozenset[Member]:
        return self.voters | self.learners

    def reached_by_quorum(self, value: Callable[[Member], int]) -> int:
        """The largest value that a majority of the voters has at least."""
        ordered = sorted((value(voter) for voter in self.voters), reverse=True)
        return ordered[len(ordered) // 2]

    def is_quorum(self, members: set[Member] | frozenset[Member]) -> bool:
        return len(self.voters & members) > len(self.voters) // 2

    # -- one member at a time (dissertation 4.1): any majority of the old and of the new voters overlap

    def with_learner(self, member: Member) -> "Membership":
        """Begin to bring a new member up to date."""
        if any(known.node == member.node for known in self.members):
            raise MembershipError(f"node {member.node} is a member already; remove it first")
        return Membership(self.voters, self.learners | {member})

    def with_promoted(self, member: Member) -> "Membership":
        if member not in self.learners:
            raise MembershipError(f"{member} is not a learner")
        return Membership(self.voters | {member}, self.learners - {member})

    def without(self, member: Member) -> "Membership":
        if member not in self.members:
            raise MembershipError(f"{member} is not a member")
        if self.voters == {member}:
            raise MembershipError(f"{member} is the only voter; add another one first")
        return Membership(self.voters - {member}, self.learners - {member})

    # -- as bytes, in entries and snapshots

    def encode(self) -> bytes:
        parts = [_COUNTS.pack(len(self.voters), len(self.learners))]
        parts += [_MEMBER.pack(m.node, m.directory) for group in (self.voters, self.learners) for m in sorted(group)]
        return b"".join(parts)

    @staticmethod
    def decode(data: bytes) -> "Membership":
        if len(data) < _COUNTS.size:
            raise DecodeError(f"a membership of {len(data)} bytes")
        voters, learners = _COUNTS.unpack_from(data)
        if len(data) != _COUNTS.size + (voters + learners) * _MEMBER.size:
            raise DecodeError(f"a membership of {voters} voters and {learners} learners in {len(data)} bytes")
        members = [Member(NodeId(n), Uuid(d)) for n, d in _MEMBER.iter_unpack(data[_COUNTS.size :])]
        return Membership(frozenset(members[:voters]), frozenset(members[voters:]))

"""Who belongs to the quorum, where each member is reached, and what a majority has.

A member is a node *and* the directory that it was formatted with: a node that comes back with an emptied disk is
another member, so it can never vote twice in a term, nor claim entries that it lost.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ottla.core.errors import DecodeError
from ottla.core.types import NodeId, Uuid
from ottla.raft.core.errors import MembershipError
from ottla.raft.core.member import Member

__all__ = ["Member", "Membership"]

_COUNTS = struct.Struct(">HH")
_MEMBER = struct.Struct(">i16sH")
_NOWHERE: Mapping[Member, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Membership:
    """Voters decide; learners only follow, until they have caught up and are made voters.

    `endpoints`: the transport's address (`host:port`) of each member for which one is known.
    """

    voters: frozenset[Member]
    learners: frozenset[Member] = frozenset()
    endpoints: Mapping[Member, str] = field(default_factory=lambda: _NOWHERE)

    @property
    def members(self) -> frozenset[Member]:
        return self.voters | self.learners

    def member_of(self, node: NodeId) -> Member | None:
        """The member that is this node, if it is one."""
        return next((member for member in self.members if member.node == node), None)

    def reached_by_quorum(self, value: Callable[[Member], int]) -> int:
        """The largest value that a majority of the voters has at least."""
        ordered = sorted((value(voter) for voter in self.voters), reverse=True)
        return ordered[len(ordered) // 2]

    def is_quorum(self, members: set[Member] | frozenset[Member]) -> bool:
        return len(self.voters & members) > len(self.voters) // 2

    # -- one member at a time (dissertation 4.1): any majority of the old and of the new voters overlap

    def with_learner(self, member: Member, endpoint: str = "") -> "Membership":
        """Begin to bring a new member up to date."""
        if any(known.node == member.node for known in self.members):
            raise MembershipError(f"node {member.node} is a member already; remove it first")
        return self._with(self.voters, self.learners | {member}, {member: endpoint} if endpoint else {})

    def with_promoted(self, member: Member) -> "Membership":
        if member not in self.learners:
            raise MembershipError(f"{member} is not a learner")
        return self._with(self.voters | {member}, self.learners - {member})

    def without(self, member: Member) -> "Membership":
        if member not in self.members:
            raise MembershipError(f"{member} is not a member")
        if self.voters == {member}:
            raise MembershipError(f"{member} is the only voter; add another one first")
        return self._with(self.voters - {member}, self.learners - {member})

    def with_endpoint(self, member: Member, endpoint: str) -> "Membership":
        """A member has moved. No majority changes by it."""
        if member not in self.members:
            raise MembershipError(f"{member} is not a member")
        return self._with(self.voters, self.learners, {member: endpoint})

    def _with(
        self, voters: frozenset[Member], learners: frozenset[Member], more: Mapping[Member, str] = _NOWHERE
    ) -> "Membership":
        endpoints = {m: endpoint for m, endpoint in {**self.endpoints, **more}.items() if m in voters | learners}
        return Membership(voters, learners, endpoints)

    # -- as bytes, in entries and snapshots

    def encode(self) -> bytes:
        parts = [_COUNTS.pack(len(self.voters), len(self.learners))]
        for group in (self.voters, self.learners):
            for member in sorted(group):
                endpoint = self.endpoints.get(member, "").encode()
                parts += [_MEMBER.pack(member.node, member.directory, len(endpoint)), endpoint]
        return b"".join(parts)

    @staticmethod
    def decode(data: bytes) -> "Membership":
        """Raises DecodeError for anything but what `encode` makes."""
        if len(data) < _COUNTS.size:
            raise DecodeError(f"a membership of {len(data)} bytes")
        voters, learners = _COUNTS.unpack_from(data)
        position = _COUNTS.size
        members: list[Member] = []
        endpoints: dict[Member, str] = {}
        for _ in range(voters + learners):
            if len(data) - position < _MEMBER.size:
                raise DecodeError(f"a membership of {voters} + {learners} members in {len(data)} bytes")
            node, directory, length = _MEMBER.unpack_from(data, position)
            position += _MEMBER.size
            members.append(member := Member(NodeId(node), Uuid(directory)))
            if len(data) - position < length:
                raise DecodeError(f"an endpoint of {length} bytes where {len(data) - position} are left")
            if length:
                try:
                    endpoints[member] = data[position : position + length].decode()
                except UnicodeDecodeError as error:
                    raise DecodeError(f"the endpoint of {member} is no text") from error
            position += length
        if position != len(data):
            raise DecodeError(f"{len(data) - position} bytes follow a membership")
        return Membership(frozenset(members[:voters]), frozenset(members[voters:]), endpoints)

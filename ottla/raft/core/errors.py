"""Why a member does not do what it is asked.

OttlaError
├── NotLeading        ask the leader
├── Overloaded        too much waits to be committed; try again later
├── MembershipError   a change of members that is not allowed, or not now
└── SafetyViolation   something that Raft proves impossible: the member must not go on
"""

from ottla.core.errors import OttlaError
from ottla.raft.core.member import Member


class NotLeading(OttlaError):
    """Only a leader takes this; `leader` is who that is, as far as this member knows."""

    def __init__(self, leader: Member | None, reason: str = "") -> None:
        super().__init__(reason or (f"{leader} leads" if leader else "nobody is known to lead"))
        self.leader = leader


class Overloaded(OttlaError):
    """Too many bytes of proposals wait to be committed. Nothing was proposed; try again later."""


class MembershipError(OttlaError):
    """A change of members that is not allowed, or not now."""


class SafetyViolation(OttlaError):
    """Something that Raft proves impossible: the member must not go on."""

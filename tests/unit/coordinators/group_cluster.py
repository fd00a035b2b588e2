"""A cluster of one node with all that clients of groups ask of it, and scenes to begin a test with."""

from typing import Any

from tests.unit.coordinators.membership_calls import MembershipCalls
from tests.unit.coordinators.offset_calls import OffsetCalls


class Cluster(MembershipCalls, OffsetCalls):
    """A node with the one partition of the internal topic, and the calls of clients."""

    def joined(self, count: int, **arguments: Any) -> tuple[list[str], int]:
        """That many members in one generation, which waits for its leader: the first of them."""
        ids: list[str] = []
        for _ in range(count):
            newcomer, answer = self.join_new(**arguments)
            for member_id in ids:
                self.join(member_id, **arguments)
            assert answer.code == 0
            ids.append(newcomer)
        return ids, self.generation(arguments.get("group", "g"))

    def stable(self, count: int, **arguments: Any) -> tuple[list[str], int]:
        """As `joined`, and each member has its assignment: its own name."""
        ids, generation = self.joined(count, **arguments)
        group = arguments.get("group", "g")
        followers = [self.sync(member_id, generation, group=group) for member_id in ids[1:]]
        leader = self.sync(ids[0], generation, {member_id: member_id.encode() for member_id in ids}, group=group)
        for member_id, answer in zip(ids, (leader, *followers), strict=True):
            assert answer.take().assignment == member_id.encode()
        return ids, generation

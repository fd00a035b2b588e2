"""Members of one group over random histories: heartbeats and answers get lost, members come, go and expire."""

from collections.abc import Coroutine
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ottla.client.coordination import HeartbeatAnswer, HeartbeatRequest
from ottla.client.errors import ClientError
from ottla.client.membership import Membership, MemberState
from ottla.client.types import TopicPartition
from tests.unit.client.fake_groups import FakeGroups

PARTITIONS = {TopicPartition("t", index) for index in range(5)}
OPERATIONS = (
    "join",
    "beat",
    "beat",
    "settle",
    "settle",
    "hear later",
    "hear later",
    "lose the answer",
    "lose the answer",
    "lose the request",
    "expire",
    "leave",
)


def now(coroutine: Coroutine[Any, Any, HeartbeatAnswer]) -> HeartbeatAnswer:
    """What a coroutine gives that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        answer: HeartbeatAnswer = end.value
        return answer
    raise AssertionError("it waits")


class Group:
    """A coordinator and its members, each driven as `GroupSession` does it."""

    def __init__(self) -> None:
        self.coordinator = FakeGroups({"t": len(PARTITIONS)})
        self.members: list[Membership] = []
        self.under_way: dict[Membership, tuple[HeartbeatRequest, HeartbeatAnswer]] = {}

    def join(self) -> None:
        member = Membership(group_id="g", member_id=f"m{len(self.members)}", rebalance_timeout_ms=1000)
        member.join(["t"])
        self.members.append(member)

    def beat(self, member: Membership, *, lose_answer: bool = False, hear_later: bool = False) -> None:
        """One at a time: the answer that is under way comes first."""
        if member in self.under_way:
            member.answered(*self.under_way.pop(member))
        if not member.is_in:
            return
        request = member.request()
        try:
            answer = now(self.coordinator.heartbeat(1, request))
        except ClientError:
            member.fenced()
            return
        if lose_answer:
            member.failed()
        elif hear_later:
            self.under_way[member] = request, answer
        else:
            member.answered(request, answer)

    def settle(self, member: Membership) -> None:
        if member.lost:
            member.told_lost()
        revoked, added = member.difference()
        if revoked:
            member.gave_up(revoked)
        else:
            member.took(added)

    def leave(self, member: Membership) -> None:
        if member.member_id in self.coordinator.members:
            now(self.coordinator.heartbeat(1, member.leaving()))
        member.left()
        self.under_way.pop(member, None)

    def do(self, operation: str, number: int) -> None:
        if operation == "join" or not self.members:
            self.join()
            return
        member = self.members[number % len(self.members)]
        match operation:
            case "beat":
                self.beat(member)
            case "settle":
                self.settle(member)
            case "hear later":
                self.beat(member, hear_later=True)
            case "lose the answer":
                self.beat(member, lose_answer=True)
            case "lose the request":
                if member not in self.under_way:
                    member.request()
                    member.failed()
            case "expire":
                if member.member_id in self.coordinator.members:
                    self.coordinator.expel(member.member_id)
            case "leave":
                self.leave(member)

    def owned(self) -> list[TopicPartition]:
        """By those whom the coordinator counts: others will hear that they have lost what they think they have."""
        known = self.coordinator.members
        return [one for member in self.members if member.member_id in known for one in member.owned]


NEWS_LOST = [("join", 0), ("beat", 0), ("settle", 0), ("beat", 0), ("join", 0), ("beat", 1), ("lose the answer", 0)]

TARGET_OUTDATED = [
    ("join", 0),
    ("join", 0),
    ("beat", 0),
    ("beat", 1),
    ("lose the answer", 0),
    ("lose the answer", 0),
    ("beat", 1),
    ("settle", 0),
    ("settle", 1),
]


@example(NEWS_LOST)
@example(TARGET_OUTDATED)
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 4)), max_size=60))
def test_no_partition_has_two_readers_and_in_the_end_each_has_one(history: list[tuple[str, int]]) -> None:
    group = Group()
    for operation, number in history:
        group.do(operation, number)
        owned = group.owned()
        assert len(owned) == len(set(owned))
    for _ in range(2 * len(group.members) + 4):
        for member in group.members:
            group.beat(member)
            group.settle(member)
    there = [member for member in group.members if member.is_in]
    assert all(member.state is MemberState.MEMBER and member.is_settled for member in there)
    assert set(group.owned()) == (PARTITIONS if there else set())
    assert all(set(member.owned) == group.coordinator.target(member.member_id) for member in there)
    assert not any(member.has_news for member in there)

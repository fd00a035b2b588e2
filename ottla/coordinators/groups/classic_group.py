"""A classic group: its members, its generation, and the rules that concern nothing else.

Two kinds of state meet here. What the log holds (generation, protocol, leader, members with assignments: one
`GroupMetadataValue`) changes only by `replay`. What a rebalance collects on its way to the next generation (who has
joined, who waits) is volatile by nature: a new coordinator starts with the last generation and lets members rejoin.
"""

from collections import Counter
from collections.abc import Iterable

from ottla.coordinators.groups.member import Member, Protocols
from ottla.coordinators.groups.state import TRANSITIONS, GroupState
from ottla.core.errors import ApiError, DecodeError, ErrorCode
from ottla.protocol.messages.consumer_protocol_subscription import ConsumerProtocolSubscription
from ottla.protocol.messages.group_metadata_value import GroupMetadataValue

CONSUMER_PROTOCOL_TYPE = "consumer"


class ClassicGroup:
    """One group."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.previous_state = GroupState.EMPTY
        self.written: GroupMetadataValue | None = None
        """The last generation that was replayed; None for a group that has only offsets or pending members."""
        self.generation_id = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.leader_id: str | None = None
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        """Member ids by group instance id."""
        self.pending_join: set[str] = set()
        """Ids given out by MEMBER_ID_REQUIRED and not yet used."""
        self.pending_sync: set[str] = set()
        self.new_member_added = False
        """Someone joined during the initial delay, which may be prolonged then."""
        self.subscribed_topics: frozenset[str] | None = None
        """Of all members; None when it is not known (not the consumer protocol)."""

    # --- state

    def transition_to(self, state: GroupState) -> None:
        """Raises ValueError for a step that the table does not have."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"group {self.group_id} cannot go from {self.state.value} to {state.value}")
        self.previous_state, self.state = self.state, state

    def is_in(self, *states: GroupState) -> bool:
        return self.state in states

    @property
    def can_rebalance(self) -> bool:
        return GroupState.PREPARING_REBALANCE in TRANSITIONS[self.state]

    def replay(self, value: GroupMetadataValue) -> None:
        """Become the generation of `value`. Members who are here already keep the calls that they wait for."""
        self.written = value
        self.generation_id = value.generation
        self.protocol_type = value.protocol_type or None
        self.protocol_name = value.protocol
        self.leader_id = value.leader
        kept = {member.member_id for member in value.members}
        for member_id in [member_id for member_id in self.members if member_id not in kept]:
            self._forget(self.members.pop(member_id))
        for stored in value.members:
            member = self.members.get(stored.member_id)
            if member is None:
                member = Member(
                    self.group_id,
                    stored.member_id,
                    group_instance_id=stored.group_instance_id,
                    client_id=stored.client_id,
                    client_host=stored.client_host,
                    rebalance_timeout_ms=(
                        stored.rebalance_timeout if stored.rebalance_timeout >= 0 else stored.session_timeout
                    ),
                    session_timeout_ms=stored.session_timeout,
                    protocols=[(value.protocol, stored.subscription)] if value.protocol is not None else [],
                )
                self._insert(member)
            member.assignment = stored.assignment
        self.subscribed_topics = self._subscribed_topics()
        self.transition_to(GroupState.STABLE if value.members else GroupState.EMPTY)

    # --- members

    def add(self, member: Member, protocol_type: str) -> None:
        """The first member decides the protocol type, and leads."""
        if not self.members:
            self.protocol_type = protocol_type
            self.leader_id = member.member_id
        self._insert(member)

    def remove(self, member_id: str) -> None:
        """Its waiting calls must be answered before. Another member takes over when it was the leader."""
        member = self.members.pop(member_id, None)
        if member is None:
            return
        self._forget(member)
        self.pending_sync.discard(member_id)
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)

    def replace_static_member(self, replacement: Member) -> None:
        """`replacement` takes the place of the member of the same instance id, and its assignment."""
        instance_id = replacement.group_instance_id
        assert instance_id is not None
        old = self.members.pop(self.static_members[instance_id])
        self.pending_sync.discard(old.member_id)
        replacement.assignment = old.assignment
        self._insert(replacement)
        if self.leader_id == old.member_id:
            self.leader_id = replacement.member_id

    def validate_member(self, member_id: str, group_instance_id: str | None) -> Member:
        """The member; raises FENCED_INSTANCE_ID when another one has its place, UNKNOWN_MEMBER_ID when nobody has."""
        if group_instance_id is not None:
            current = self.static_members.get(group_instance_id)
            if current is None:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
            if current != member_id:
                raise ApiError(ErrorCode.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
        return member

    def is_leader(self, member_id: str) -> bool:
        return self.leader_id == member_id

    @property
    def all_members_joined(self) -> bool:
        """Nobody is to be waited for, not even those who were only given an id so far."""
        return not self.pending_join and all(member.awaiting_join is not None for member in self.members.values())

    @property
    def awaiting_join_count(self) -> int:
        return sum(member.awaiting_join is not None for member in self.members.values())

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest of its members."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def elect_joined_leader(self) -> bool:
        """Make sure that a member leads who has joined; False when none has."""
        leader = self.members.get(self.leader_id) if self.leader_id is not None else None
        if leader is not None and leader.awaiting_join is not None:
            return True
        joined = (member.member_id for member in self.members.values() if member.awaiting_join is not None)
        leader_id = next(joined, None)
        if leader_id is None:
            return False
        self.leader_id = leader_id
        return True

    def _insert(self, member: Member) -> None:
        self.members[member.member_id] = member
        if member.group_instance_id is not None:
            self.static_members[member.group_instance_id] = member.member_id

    def _forget(self, member: Member) -> None:
        instance_id = member.group_instance_id
        if instance_id is not None and self.static_members.get(instance_id) == member.member_id:
            del self.static_members[instance_id]

    # --- protocols

    def supports(self, protocol_type: str, names: Iterable[str]) -> bool:
        """Whether a member with these protocols can be a member: one of them must be everyone's."""
        names = set(names)
        if not self.members:
            return bool(protocol_type) and bool(names)
        return self.protocol_type == protocol_type and bool(names & self._common_protocols())

    def select_protocol(self) -> str:
        """Each member votes for the first of its protocols that all support; most votes win."""
        common = self._common_protocols()
        votes = Counter(
            next(name for name, _ in member.protocols if name in common) for member in self.members.values()
        )
        return votes.most_common(1)[0][0]

    def _common_protocols(self) -> set[str]:
        supported = Counter(name for member in self.members.values() for name in {name for name, _ in member.protocols})
        return {name for name, count in supported.items() if count == len(self.members)}

    def start_generation(self) -> None:
        """All who are to be members have joined."""
        self.generation_id += 1
        self.protocol_name = self.select_protocol()
        self.subscribed_topics = self._subscribed_topics()
        self.pending_sync.clear()
        self.transition_to(GroupState.COMPLETING_REBALANCE)

    def _subscribed_topics(self) -> frozenset[str] | None:
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE or (self.members and self.protocol_name is None):
            return None
        topics: set[str] = set()
        for member in self.members.values():
            subscription = decode_subscription(member.metadata(self.protocol_name))
            if subscription is None:
                return None
            topics.update(subscription)
        return frozenset(topics)


def decode_subscription(metadata: bytes) -> list[str] | None:
    """The topics of a consumer's subscription; None when it is not one. A newer version is read as the newest known."""
    if len(metadata) < 2:
        return None
    version = int.from_bytes(metadata[:2], "big", signed=True)
    if version < 0:
        return None
    try:
        subscription, _ = ConsumerProtocolSubscription.decode(
            metadata, min(version, ConsumerProtocolSubscription.MAX_VERSION), 2
        )
    except DecodeError:
        return None
    return subscription.topics


__all__ = ["CONSUMER_PROTOCOL_TYPE", "ClassicGroup", "Member", "Protocols", "decode_subscription"]

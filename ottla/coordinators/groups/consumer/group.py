"""One consumer group: what its records say. Nothing here decides; `heartbeat` and `leaving` do.

A member walks along three epochs, which all come from the group's:

    group epoch ≥ target epoch ≥ epoch of each member

The group's rises with every change that asks for another assignment, the target's follows when that is computed, and
a member's when it has given up what the target does not leave to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ottla.coordinators.groups.consumer import records
from ottla.coordinators.groups.consumer.assignment import Assignment, assignment_of
from ottla.coordinators.groups.consumer.member import NOTHING, ConsumerMember, MemberState
from ottla.core.types import Uuid
from ottla.protocol.messages.consumer_group_current_member_assignment_value import (
    ConsumerGroupCurrentMemberAssignmentValue,
)
from ottla.protocol.messages.consumer_group_member_metadata_value import ConsumerGroupMemberMetadataValue

NO_TARGET: Assignment = {}

Undo = Callable[[], object]


@dataclass(frozen=True, slots=True)
class ResolvedExpression:
    """The topics that a regular expression matched, and when."""

    topics: frozenset[str]
    timestamp_ms: int = -1


class ConsumerGroup:
    """One group. Every `set_…` is the replay of one kind of record, and returns how to take it back."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = 0
        self.metadata_hash = 0
        """Of the subscribed topics, when the epoch was reached."""
        self.target_epoch = 0
        self.targets: dict[str, Assignment] = {}
        self.members: dict[str, ConsumerMember] = {}
        self.static_members: dict[str, str] = {}
        """Member ids by group instance id."""
        self.owners: dict[Uuid, dict[int, str]] = {}
        """Which member has a partition, or has not given it up yet."""
        self.expressions: dict[str, ResolvedExpression] = {}
        self.changed_ms: int | None = None
        """When this coordinator raised the epoch; in no record."""
        self.metadata_checked = False
        """Whether the topics are as in `metadata_hash`: not in any record, and looked at again after loading."""

    # --- looks

    @property
    def state(self) -> str:
        """As administrators see it."""
        if not self.members:
            return "Empty"
        if self.epoch > self.target_epoch:
            return "Assigning"
        if all(member.is_reconciled_to(self.target_epoch) for member in self.members.values()):
            return "Stable"
        return "Reconciling"

    def target(self, member_id: str) -> Assignment:
        return self.targets.get(member_id, NO_TARGET)

    def static_member(self, instance_id: str) -> ConsumerMember | None:
        member_id = self.static_members.get(instance_id)
        return None if member_id is None else self.members.get(member_id)

    def is_free(self, topic_id: Uuid, partition: int, member_id: str) -> bool:
        """Whether `member_id` may have the partition: nobody else has it, or has still to give it up."""
        return self.owners.get(topic_id, {}).get(partition, member_id) == member_id

    def topics_of(self, member: ConsumerMember) -> frozenset[str]:
        """Names that a member subscribes to, by name or by its regular expression as far as it is resolved."""
        return topics_of(member, self.expressions)

    def subscribed_topics(self) -> frozenset[str]:
        """Of all members."""
        return frozenset().union(*{self.topics_of(member) for member in self.members.values()})

    # --- replay

    def set_epoch(self, epoch: int, metadata_hash: int) -> Undo:
        before = self.epoch, self.metadata_hash
        self.epoch, self.metadata_hash = epoch, metadata_hash
        return lambda: self.set_epoch(*before)

    def set_target_epoch(self, epoch: int) -> Undo:
        before = self.target_epoch
        self.target_epoch = epoch
        return lambda: self.set_target_epoch(before)

    def set_target(self, member_id: str, target: Assignment | None) -> Undo:
        return _put(self.targets, member_id, target)

    def set_expression(self, regex: str, resolved: ResolvedExpression | None) -> Undo:
        return _put(self.expressions, regex, resolved)

    def set_metadata(self, member_id: str, value: ConsumerGroupMemberMetadataValue | None) -> Undo:
        if value is None:
            return self._put_member(member_id, None)
        before = self.members.get(member_id) or ConsumerMember(member_id=member_id)
        member = replace(
            before,
            instance_id=value.instance_id,
            rack_id=value.rack_id,
            client_id=value.client_id,
            client_host=value.client_host,
            rebalance_timeout_ms=value.rebalance_timeout_ms,
            subscribed_topics=frozenset(value.subscribed_topic_names),
            subscribed_regex=value.subscribed_topic_regex or "",
            server_assignor=value.server_assignor,
            classic=records.classic_member(value),
        )
        return self._put_member(member_id, member)

    def set_current(self, member_id: str, value: ConsumerGroupCurrentMemberAssignmentValue | None) -> Undo:
        """A tombstone takes a member's partitions; the member itself goes with its metadata."""
        before = self.members.get(member_id)
        if value is None:
            if before is None:
                return _nothing
            member = replace(before, assigned=NOTHING, pending_revocation=NOTHING, state=MemberState.STABLE)
        else:
            member = replace(
                before or ConsumerMember(member_id=member_id),
                epoch=value.member_epoch,
                previous_epoch=value.previous_member_epoch,
                state=records.member_state(value),
                assigned=records.owned_partitions(value.assigned_partitions, value.member_epoch),
                pending_revocation=records.owned_partitions(value.partitions_pending_revocation, value.member_epoch),
            )
        return self._put_member(member_id, member)

    def find_owners(self) -> None:
        """Anew from the members: a compacted log may show partitions in two hands on the way to its end."""
        self.owners.clear()
        for member in self.members.values():
            self._own(member)

    def _put_member(self, member_id: str, member: ConsumerMember | None) -> Undo:
        before = self.members.get(member_id)
        if before is not None:
            self._disown(before)
            if before.instance_id is not None and self.static_members.get(before.instance_id) == member_id:
                del self.static_members[before.instance_id]
        if member is None:
            self.members.pop(member_id, None)
        else:
            self.members[member_id] = member
            self._own(member)
            if member.instance_id is not None:
                self.static_members[member.instance_id] = member_id
        return lambda: self._put_member(member_id, before)

    def _own(self, member: ConsumerMember) -> None:
        for owned in (member.assigned, member.pending_revocation):
            for topic_id, partitions in owned.items():
                self.owners.setdefault(topic_id, {}).update(dict.fromkeys(partitions, member.member_id))

    def _disown(self, member: ConsumerMember) -> None:
        for owned in (member.assigned, member.pending_revocation):
            for topic_id, partitions in owned.items():
                owners = self.owners.get(topic_id, {})
                for partition in partitions:
                    if owners.get(partition) == member.member_id:
                        del owners[partition]
                if not owners:
                    self.owners.pop(topic_id, None)


def topics_of(member: ConsumerMember, expressions: Mapping[str, ResolvedExpression]) -> frozenset[str]:
    """As `ConsumerGroup.topics_of`, with these expressions."""
    resolved = expressions.get(member.subscribed_regex) if member.subscribed_regex else None
    if resolved is None:
        return member.subscribed_topics
    return member.subscribed_topics | resolved.topics if member.subscribed_topics else resolved.topics


def target_of(value: Any) -> Mapping[Uuid, frozenset[int]]:
    """The assignment in a target's record."""
    return assignment_of(value.topic_partitions)


def _put(mapping: dict[str, Any], key: str, value: Any) -> Undo:
    before = mapping.get(key)
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value
    return lambda: _put(mapping, key, before)


def _nothing() -> None:
    """There is nothing to take back."""

"""The consumer groups of one shard: replayed from records, and taken back when a turn fails."""

from typing import Any

from ottla.coordinators.groups.consumer.group import ConsumerGroup, ResolvedExpression, Undo, target_of
from ottla.protocol.messages.consumer_group_current_member_assignment_key import ConsumerGroupCurrentMemberAssignmentKey
from ottla.protocol.messages.consumer_group_member_metadata_key import ConsumerGroupMemberMetadataKey
from ottla.protocol.messages.consumer_group_metadata_key import ConsumerGroupMetadataKey
from ottla.protocol.messages.consumer_group_partition_metadata_key import ConsumerGroupPartitionMetadataKey
from ottla.protocol.messages.consumer_group_regular_expression_key import ConsumerGroupRegularExpressionKey
from ottla.protocol.messages.consumer_group_target_assignment_member_key import ConsumerGroupTargetAssignmentMemberKey
from ottla.protocol.messages.consumer_group_target_assignment_metadata_key import (
    ConsumerGroupTargetAssignmentMetadataKey,
)


class ConsumerGroups:
    """Groups by id. A group begins with the first of its records, whichever that is, and ends with its tombstone."""

    def __init__(self) -> None:
        self.groups: dict[str, ConsumerGroup] = {}
        self._undo: list[tuple[str, Undo]] = []
        """How to take back what the present turn replayed, in order."""

    def replay(self, key: Any, value: Any) -> str:
        """One record of a consumer group; the group's id. A tombstone of what is not there changes nothing."""
        group_id: str = key.group_id
        group = self.groups.get(group_id)
        if group is None:
            if value is None:
                return group_id
            group = self.groups[group_id] = ConsumerGroup(group_id)
            self._undo.append((group_id, lambda: self.groups.pop(group_id)))
        elif value is None and isinstance(key, ConsumerGroupMetadataKey):
            ended = self.groups.pop(group_id)
            self._undo.append((group_id, lambda: self.groups.__setitem__(group_id, ended)))
            return group_id
        undo = apply(group, key, value)
        if undo is not None:
            self._undo.append((group_id, undo))
        return group_id

    def turn_written(self) -> None:
        self._undo.clear()

    def take_back(self) -> set[str]:
        """Undo what was replayed since `turn_written`; the groups that are concerned."""
        undo, self._undo = self._undo, []
        for group_id, take_back in reversed(undo):
            take_back()
            group = self.groups.get(group_id)
            if group is not None:
                group.metadata_checked = False
        return {group_id for group_id, _ in undo}

    def loaded(self) -> None:
        """The whole log is replayed."""
        for group in self.groups.values():
            group.find_owners()


def apply(group: ConsumerGroup, key: Any, value: Any) -> Undo | None:
    """One record, apart from the group's tombstone, to its group."""
    match key:
        case ConsumerGroupMetadataKey():
            return group.set_epoch(value.epoch, value.metadata_hash)
        case ConsumerGroupMemberMetadataKey():
            return group.set_metadata(key.member_id, value)
        case ConsumerGroupTargetAssignmentMetadataKey():
            return group.set_target_epoch(-1 if value is None else value.assignment_epoch)
        case ConsumerGroupTargetAssignmentMemberKey():
            return group.set_target(key.member_id, None if value is None else target_of(value))
        case ConsumerGroupCurrentMemberAssignmentKey():
            return group.set_current(key.member_id, value)
        case ConsumerGroupRegularExpressionKey():
            resolved = None if value is None else ResolvedExpression(frozenset(value.topics), value.timestamp)
            return group.set_expression(key.regular_expression, resolved)
        case ConsumerGroupPartitionMetadataKey():
            return None  # the hash of the group's record took its place
        case _:
            raise TypeError(f"not a record of a consumer group: {type(key).__name__}")

"""The records of consumer groups in `__consumer_offsets`, as Kafka writes them.

A group is many small records, so that a change of one member writes little: the group's epoch; for each member what it
said, its target and its present assignment; the target's epoch; and the topics of each regular expression.
"""

from collections.abc import Mapping
from typing import Any, Final

from ottla.coordinators.groups.consumer.assignment import Assignment, OwnedPartitions
from ottla.coordinators.groups.consumer.member import ClassicMember, ConsumerMember, MemberState
from ottla.coordinators.runtime import CoordinatorRecord
from ottla.core.types import Uuid
from ottla.protocol.messages import consumer_group_current_member_assignment_value as current
from ottla.protocol.messages.consumer_group_current_member_assignment_key import ConsumerGroupCurrentMemberAssignmentKey
from ottla.protocol.messages.consumer_group_current_member_assignment_value import (
    ConsumerGroupCurrentMemberAssignmentValue,
)
from ottla.protocol.messages.consumer_group_member_metadata_key import ConsumerGroupMemberMetadataKey
from ottla.protocol.messages.consumer_group_member_metadata_value import (
    ClassicMemberMetadata,
    ClassicProtocol,
    ConsumerGroupMemberMetadataValue,
)
from ottla.protocol.messages.consumer_group_metadata_key import ConsumerGroupMetadataKey
from ottla.protocol.messages.consumer_group_metadata_value import ConsumerGroupMetadataValue
from ottla.protocol.messages.consumer_group_partition_metadata_key import ConsumerGroupPartitionMetadataKey
from ottla.protocol.messages.consumer_group_partition_metadata_value import ConsumerGroupPartitionMetadataValue
from ottla.protocol.messages.consumer_group_regular_expression_key import ConsumerGroupRegularExpressionKey
from ottla.protocol.messages.consumer_group_regular_expression_value import ConsumerGroupRegularExpressionValue
from ottla.protocol.messages.consumer_group_target_assignment_member_key import ConsumerGroupTargetAssignmentMemberKey
from ottla.protocol.messages.consumer_group_target_assignment_member_value import (
    ConsumerGroupTargetAssignmentMemberValue,
    TopicPartition,
)
from ottla.protocol.messages.consumer_group_target_assignment_metadata_key import (
    ConsumerGroupTargetAssignmentMetadataKey,
)
from ottla.protocol.messages.consumer_group_target_assignment_metadata_value import (
    ConsumerGroupTargetAssignmentMetadataValue,
)

KINDS: Final[Mapping[int, tuple[Any, Any]]] = {
    key.API_KEY: (key, value)
    for key, value in (
        (ConsumerGroupMetadataKey, ConsumerGroupMetadataValue),
        # Written by Kafka before 4.1, and by nobody since the group's record has a hash of it.
        (ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue),
        (ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue),
        (ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue),
        (ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue),
        (ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue),
        (ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue),
    )
}
"""Classes of key and value by the kind that stands before the key."""

KEYS: Final = tuple(key for key, _ in KINDS.values())


# --- to write


def group_epoch(group_id: str, epoch: int, metadata_hash: int) -> CoordinatorRecord:
    """The group's epoch, and the state of its topics in which it was reached."""
    value = ConsumerGroupMetadataValue(epoch=epoch, metadata_hash=metadata_hash)
    return CoordinatorRecord(ConsumerGroupMetadataKey(group_id=group_id), value)


def group_tombstone(group_id: str) -> CoordinatorRecord:
    return CoordinatorRecord(ConsumerGroupMetadataKey(group_id=group_id))


def partition_metadata_tombstone(group_id: str) -> CoordinatorRecord:
    return CoordinatorRecord(ConsumerGroupPartitionMetadataKey(group_id=group_id))


def member(group_id: str, one: ConsumerMember) -> CoordinatorRecord:
    """What a member said of itself."""
    value = ConsumerGroupMemberMetadataValue(
        instance_id=one.instance_id,
        rack_id=one.rack_id,
        client_id=one.client_id,
        client_host=one.client_host,
        subscribed_topic_names=sorted(one.subscribed_topics),
        subscribed_topic_regex=one.subscribed_regex or None,
        rebalance_timeout_ms=one.rebalance_timeout_ms,
        server_assignor=one.server_assignor,
        classic_member_metadata=None
        if one.classic is None
        else ClassicMemberMetadata(
            session_timeout_ms=one.classic.session_timeout_ms,
            supported_protocols=[ClassicProtocol(name=name, metadata=data) for name, data in one.classic.protocols],
        ),
    )
    return CoordinatorRecord(ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=one.member_id), value)


def target_epoch(group_id: str, epoch: int, now_ms: int) -> CoordinatorRecord:
    """All members' targets are those of this epoch."""
    value = ConsumerGroupTargetAssignmentMetadataValue(assignment_epoch=epoch, assignment_timestamp=now_ms)
    return CoordinatorRecord(ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id), value)


def target_epoch_tombstone(group_id: str) -> CoordinatorRecord:
    return CoordinatorRecord(ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id))


def target(group_id: str, member_id: str, assignment: Assignment) -> CoordinatorRecord:
    """What a member shall have."""
    value = ConsumerGroupTargetAssignmentMemberValue(
        topic_partitions=[
            TopicPartition(topic_id=topic_id, partitions=sorted(partitions))
            for topic_id, partitions in assignment.items()
        ]
    )
    return CoordinatorRecord(ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id), value)


def current_assignment(group_id: str, one: ConsumerMember) -> CoordinatorRecord:
    """What a member has, and how far it is."""
    value = ConsumerGroupCurrentMemberAssignmentValue(
        member_epoch=one.epoch,
        previous_member_epoch=one.previous_epoch,
        state=one.state,
        assigned_partitions=_partitions(one.assigned),
        partitions_pending_revocation=_partitions(one.pending_revocation),
    )
    return CoordinatorRecord(ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=one.member_id), value)


def _partitions(owned: OwnedPartitions) -> list[current.TopicPartitions]:
    return [
        current.TopicPartitions(
            topic_id=topic_id, partitions=sorted(epochs), assignment_epochs=[epochs[index] for index in sorted(epochs)]
        )
        for topic_id, epochs in owned.items()
    ]


def member_tombstones(group_id: str, member_id: str) -> list[CoordinatorRecord]:
    """The end of a member: first of what it has, so that no reader sees partitions of nobody."""
    return [
        CoordinatorRecord(ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id)),
        CoordinatorRecord(ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id)),
        CoordinatorRecord(ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member_id)),
    ]


def expression(group_id: str, regex: str, topics: frozenset[str], now_ms: int) -> CoordinatorRecord:
    """The topics that a regular expression stands for."""
    value = ConsumerGroupRegularExpressionValue(topics=sorted(topics), version=0, timestamp=now_ms)
    return CoordinatorRecord(ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=regex), value)


def expression_tombstone(group_id: str, regex: str) -> CoordinatorRecord:
    return CoordinatorRecord(ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=regex))


# --- as stored


def classic_member(value: ConsumerGroupMemberMetadataValue) -> ClassicMember | None:
    stored = value.classic_member_metadata
    if stored is None:
        return None
    protocols = tuple((protocol.name, protocol.metadata) for protocol in stored.supported_protocols)
    return ClassicMember(stored.session_timeout_ms, protocols)


def member_state(value: ConsumerGroupCurrentMemberAssignmentValue) -> MemberState:
    return MemberState(value.state) if value.state in set(MemberState) else MemberState.UNKNOWN


def owned_partitions(lists: list[current.TopicPartitions], member_epoch: int) -> dict[Uuid, dict[int, int]]:
    """Records of older versions have no epochs for partitions: as if all came in the member's epoch."""
    owned: dict[Uuid, dict[int, int]] = {}
    for one in lists:
        epochs = one.assignment_epochs
        if epochs is None or len(epochs) != len(one.partitions):
            epochs = [member_epoch] * len(one.partitions)
        owned[one.topic_id] = dict(zip(one.partitions, epochs, strict=True))
    return owned

"""What consumers put into the classic protocol: their subscriptions and assignments, which name topics and not ids."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ottla.coordinators.groups.topics import Topics
from ottla.core.errors import DecodeError
from ottla.core.types import Uuid
from ottla.protocol.messages.consumer_group_heartbeat_request import TopicPartitions
from ottla.protocol.messages.consumer_protocol_assignment import ConsumerProtocolAssignment, TopicPartition
from ottla.protocol.messages.consumer_protocol_subscription import ConsumerProtocolSubscription


@dataclass(frozen=True, slots=True)
class Subscription:
    """A member's subscription. `owned` is what it has not given up; nothing, when it gives up all before it joins."""

    version: int
    topics: frozenset[str]
    owned: list[TopicPartitions]
    rack_id: str | None


def decode_subscription(metadata: bytes, topics: Topics) -> Subscription:
    """Raises DecodeError. A version that is not known yet is read as the newest known."""
    version = _version(metadata)
    found, _ = ConsumerProtocolSubscription.decode(metadata, min(version, ConsumerProtocolSubscription.MAX_VERSION), 2)
    owned = [
        TopicPartitions(topic_id=topic_id, partitions=list(one.partitions))
        for one in found.owned_partitions
        if (topic_id := topics.topic_id(one.topic)) is not None
    ]
    return Subscription(version, frozenset(found.topics), owned, found.rack_id)


def decode_assignment(assignment: bytes, topics: Topics) -> dict[Uuid, frozenset[int]]:
    """Partitions of topics that still exist; nothing for the empty assignment of a member that had none yet. Raises
    DecodeError.
    """
    if not assignment:
        return {}
    version = min(_version(assignment), ConsumerProtocolAssignment.MAX_VERSION)
    found, _ = ConsumerProtocolAssignment.decode(assignment, version, 2)
    return {
        topic_id: frozenset(one.partitions)
        for one in found.assigned_partitions
        if one.partitions and (topic_id := topics.topic_id(one.topic)) is not None
    }


def encode_assignment(partitions: Mapping[Uuid, Iterable[int]], version: int, topics: Topics) -> bytes:
    """For a member whose subscription had this version; without topics that were deleted meanwhile."""
    version = min(version, ConsumerProtocolAssignment.MAX_VERSION)
    message = ConsumerProtocolAssignment(
        assigned_partitions=[
            TopicPartition(topic=name, partitions=sorted(indices))
            for topic_id, indices in partitions.items()
            if (name := topics.topic_name(topic_id)) is not None
        ]
    )
    out = bytearray(version.to_bytes(2, "big"))
    message.encode_into(out, version)
    return bytes(out)


def _version(data: bytes) -> int:
    if len(data) < 2:
        raise DecodeError("no version before a consumer's part of the classic protocol")
    version = int.from_bytes(data[:2], "big", signed=True)
    if version < 0:
        raise DecodeError(f"version {version} of a consumer's part of the classic protocol")
    return version

"""Finds the replica that a request names, or the protocol's error for why it cannot be served here."""

from collections.abc import Mapping
from typing import Protocol

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.partitions.partition import Partition

TopicKey = str | Uuid
"""A topic as a request names it: by name, or in newer versions by id."""


class NamedTopic(Protocol):
    """What is needed of a topic's image."""

    @property
    def name(self) -> str: ...
    @property
    def id(self) -> Uuid: ...
    @property
    def partitions(self) -> tuple[object, ...]: ...


class Topics(Protocol):
    """What is needed of the metadata image."""

    @property
    def topics(self) -> Mapping[str, NamedTopic]: ...
    @property
    def topics_by_id(self) -> Mapping[Uuid, NamedTopic]: ...


class LocalPartitions(Protocol):
    """The partitions whose replicas are on this node."""

    def get(self, topic: str, index: int) -> Partition | None: ...


class Replicas:
    """The look-up; the owner sets `image` whenever a new one is published."""

    __slots__ = ("_get", "image")

    def __init__(self, image: Topics, partitions: LocalPartitions) -> None:
        self.image = image
        self._get = partitions.get

    def leader(self, topic: TopicKey, index: int) -> Partition:
        """The partition when this node leads it; raises ApiError."""
        if isinstance(topic, str):
            partition = self._get(topic, index)
            if partition is not None and partition.is_leader:
                return partition
            known = self.image.topics.get(topic)
            missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        else:
            known = self.image.topics_by_id.get(topic)
            missing = ErrorCode.UNKNOWN_TOPIC_ID
            if known is not None:
                partition = self._get(known.name, index)
                if partition is not None and partition.is_leader and partition.topic_id == topic:
                    return partition
        if known is None:
            raise ApiError(missing)
        if not 0 <= index < len(known.partitions):
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def fenced_leader(self, topic: TopicKey, index: int, current_leader_epoch: int) -> Partition:
        """As `leader`, for a client that says which epoch it believes in (KIP-320; -1: it does not say).

        Who believes in another epoch is told that first: it learns from it which of the two is behind.
        """
        try:
            partition = self.leader(topic, index)
        except ApiError:
            local = self._local(topic, index)
            if local is not None:
                _check_epoch(local, current_leader_epoch)
            raise
        if current_leader_epoch != partition.leader_epoch:
            _check_epoch(partition, current_leader_epoch)
        return partition

    def readable(self, topic: TopicKey, index: int, current_leader_epoch: int) -> Partition:
        """As `fenced_leader`, for who may also read from a follower (KIP-392)."""
        partition = self._local(topic, index)
        if partition is None or partition.is_aside or not (partition.is_leader or partition.role is not None):
            return self.fenced_leader(topic, index, current_leader_epoch)
        if current_leader_epoch != partition.leader_epoch:
            _check_epoch(partition, current_leader_epoch)
        return partition

    def _local(self, topic: TopicKey, index: int) -> Partition | None:
        """The replica here of exactly that topic."""
        if isinstance(topic, str):
            return self._get(topic, index)
        known = self.image.topics_by_id.get(topic)
        partition = self._get(known.name, index) if known is not None else None
        return partition if partition is not None and partition.topic_id == topic else None


def _check_epoch(partition: Partition, believed: int) -> None:
    if believed >= 0 and believed != partition.leader_epoch:
        fenced = believed < partition.leader_epoch
        raise ApiError(ErrorCode.FENCED_LEADER_EPOCH if fenced else ErrorCode.UNKNOWN_LEADER_EPOCH)

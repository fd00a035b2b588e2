"""Sets of partitions by topic id, as the protocol and the records have them."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ottla.core.types import Uuid

Assignment = Mapping[Uuid, frozenset[int]]
"""Partitions by topic; no topic without partitions."""

OwnedPartitions = Mapping[Uuid, Mapping[int, int]]
"""Partitions by topic, each with the epoch in which its owner got it (KIP-1251)."""


class TopicPartitions(Protocol):
    """What the generated messages have in common."""

    topic_id: Uuid
    partitions: list[Any]


def assignment_of(lists: Iterable[TopicPartitions]) -> dict[Uuid, frozenset[int]]:
    """From a message or a record."""
    return {one.topic_id: frozenset(one.partitions) for one in lists if one.partitions}


def is_subset(claimed: Iterable[TopicPartitions] | None, owned: OwnedPartitions) -> bool:
    """Whether a member claims no more than it has; not when it does not say."""
    if claimed is None:
        return False
    return all(partition in owned.get(one.topic_id, {}) for one in claimed for partition in one.partitions)

"""Committed offsets of the groups of one shard: replayed from records, and taken back when a turn fails.

They are kept as the bytes that `offset_codec` describes.
"""

from collections.abc import Iterator

from ottla.coordinators.groups import records
from ottla.coordinators.groups.classic_group import CONSUMER_PROTOCOL_TYPE, ClassicGroup
from ottla.coordinators.groups.offset_codec import decode_value
from ottla.coordinators.groups.pending_offsets import PendingOffsets
from ottla.coordinators.groups.state import GroupState
from ottla.coordinators.runtime import CoordinatorRecord
from ottla.core.types import ZERO_UUID, Uuid
from ottla.protocol.messages.offset_commit_value import OffsetCommitValue

Partitions = dict[int, bytes]


class OffsetStore:
    """Offsets by group, topic and partition."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, Partitions]] = {}
        self._topic_names: dict[str, str] = {}
        self._replaced: list[tuple[str, str, int, bytes | None]] = []
        """What the present turn replaced, in order."""
        self.count = 0

    # --- changes

    def replay(self, group_id: str, topic: str, partition: int, value: bytes | None) -> None:
        """A record of the log; None is its tombstone."""
        self._replaced.append((group_id, topic, partition, self.put(group_id, topic, partition, value)))

    def turn_written(self) -> None:
        self._replaced.clear()

    def take_back(self) -> set[str]:
        """Undo what was replayed since `turn_written`; the groups that are concerned."""
        concerned = set()
        for group_id, topic, partition, previous in reversed(self._replaced):
            self.put(group_id, topic, partition, previous)
            concerned.add(group_id)
        self._replaced.clear()
        return concerned

    def put(self, group_id: str, topic: str, partition: int, value: bytes | None) -> bytes | None:
        """Change what will not be taken back; the offset before."""
        if value is None:
            return self._remove(group_id, topic, partition)
        topics = self._groups.get(group_id)
        if topics is None:
            topics = self._groups[group_id] = {}
        partitions = topics.get(topic)
        if partitions is None:
            # Thousands of groups read the same topics: one string for all of them.
            partitions = topics[self._topic_names.setdefault(topic, topic)] = {}
        previous = partitions.get(partition)
        partitions[partition] = value
        self.count += previous is None
        return previous

    def _remove(self, group_id: str, topic: str, partition: int) -> bytes | None:
        topics = self._groups.get(group_id, {})
        partitions = topics.get(topic, {})
        previous = partitions.pop(partition, None)
        if previous is None:
            return None
        self.count -= 1
        if not partitions:
            del topics[topic]
            if not topics:
                del self._groups[group_id]
        return previous

    # --- looks

    def get(self, group_id: str, topic: str, partition: int, topic_id: Uuid | None = None) -> OffsetCommitValue | None:
        """With `topic_id`: not the offset of an earlier topic of the same name."""
        stored = self._groups.get(group_id, {}).get(topic, {}).get(partition)
        if stored is None:
            return None
        value = decode_value(stored)
        return value if topic_id is None or value.topic_id in (ZERO_UUID, topic_id) else None

    def has_at(self, group_id: str, topic: str, partition: int) -> bool:
        return partition in self._groups.get(group_id, {}).get(topic, ())

    def topics(self, group_id: str) -> dict[str, Partitions]:
        """Of one group; not to be changed."""
        return self._groups.get(group_id, {})

    def has(self, group_id: str) -> bool:
        return group_id in self._groups

    def entries(self, group_id: str) -> Iterator[tuple[str, int, OffsetCommitValue]]:
        """All offsets of a group."""
        for topic, partitions in self.topics(group_id).items():
            for partition, stored in partitions.items():
                yield topic, partition, decode_value(stored)

    def count_of(self, group_id: str) -> int:
        """How many offsets a group has."""
        return sum(len(partitions) for partitions in self.topics(group_id).values())

    def groups_of_topic(self, topic: str) -> list[str]:
        """Groups that have an offset in this topic."""
        return [group_id for group_id, topics in self._groups.items() if topic in topics]

    def tombstones(self, group_id: str, topic: str | None = None) -> list[CoordinatorRecord]:
        """Records that end the offsets of a group, in one topic or in all."""
        return [
            records.offset_tombstone(group_id, name, partition)
            for name, partitions in self.topics(group_id).items()
            if topic is None or name == topic
            for partition in partitions
        ]


def expired_offsets(
    store: OffsetStore, pending: PendingOffsets, group: ClassicGroup, *, now_ms: int, retention_ms: int
) -> list[tuple[str, int]]:
    """Which of a group's offsets have outlived their retention (KIP-211).

    It counts from the commit when the group has no members of its own, or when they no longer read the topic, and
    otherwise from the moment at which the last member left. What members read does not expire, and neither does an
    offset that an open transaction is about to replace.
    """
    simple = group.protocol_type is None
    empty = group.is_in(GroupState.EMPTY)
    subscribed = group.subscribed_topics
    unsubscribed_expire = (
        group.is_in(GroupState.STABLE) and group.protocol_type == CONSUMER_PROTOCOL_TYPE and subscribed is not None
    )
    if not (simple or empty or unsubscribed_expire):
        return []
    emptied_ms = group.written.current_state_timestamp if group.written is not None else -1
    expired = []
    for topic, partition, value in store.entries(group.group_id):
        if not (simple or empty) and subscribed is not None and topic in subscribed:
            continue
        since_ms = emptied_ms if empty and not simple and emptied_ms >= 0 else value.commit_timestamp
        end_ms = value.expire_timestamp if value.expire_timestamp >= 0 else since_ms + retention_ms
        if now_ms >= end_ms and not pending.has_at(group.group_id, topic, partition):
            expired.append((topic, partition))
    return expired

"""The group's next epoch, and the target assignment that belongs to it."""

from collections import Counter
from collections.abc import Mapping

from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer import records
from ottla.coordinators.groups.consumer.assignment import Assignment
from ottla.coordinators.groups.consumer.assignors import ASSIGNORS, Subscriber
from ottla.coordinators.groups.consumer.group import NO_TARGET, ConsumerGroup, ResolvedExpression, topics_of
from ottla.coordinators.groups.consumer.member import ConsumerMember
from ottla.coordinators.groups.consumer.topics_hash import metadata_hash
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.runtime import Effects
from ottla.core.types import Uuid


class NextGroup:
    """A group as it will be when the records of the running operation are replayed, as far as targets need it."""

    def __init__(
        self,
        group: ConsumerGroup,
        members: Mapping[str, ConsumerMember],
        expressions: Mapping[str, ResolvedExpression],
        targets: Mapping[str, Assignment],
    ) -> None:
        self.group = group
        self.members, self.expressions, self.targets = members, expressions, targets
        self.epoch = group.epoch

    def raise_epoch(self, asked: bool, topics: Topics, effects: Effects) -> None:
        """If it is asked for, or if the subscribed topics are not as they were when it was raised last."""
        sets = {topics_of(member, self.expressions) for member in self.members.values()}
        names: frozenset[str] = frozenset().union(*sets)
        present = metadata_hash(names, topics)
        if asked or present != self.group.metadata_hash:
            self.epoch = self.group.epoch + 1
            self.group.changed_ms = effects.now_ms
            effects.append(records.group_epoch(self.group.group_id, self.epoch, present))
        self.group.metadata_checked = True

    def assign(self, config: GroupConfig, topics: Topics, effects: Effects) -> dict[str, Assignment]:
        """Targets of all members for this epoch; those that change are written."""
        subscribers, partition_counts = self._subscribers(topics)
        assignor = ASSIGNORS[preferred_assignor(self.members, config)]
        targets = assignor(subscribers, partition_counts)
        group_id = self.group.group_id
        for member_id, target in targets.items():
            if target != self.targets.get(member_id, NO_TARGET) or member_id not in self.targets:
                effects.append(records.target(group_id, member_id, target))
        effects.append(records.target_epoch(group_id, self.epoch, effects.now_ms))
        return targets

    def _subscribers(self, topics: Topics) -> tuple[dict[str, Subscriber], dict[Uuid, int]]:
        partition_counts: dict[Uuid, int] = {}
        ids: dict[frozenset[str], frozenset[Uuid]] = {}  # most members subscribe to the same
        subscribers = {}
        for member_id, member in self.members.items():
            names = topics_of(member, self.expressions)
            topic_ids = ids.get(names)
            if topic_ids is None:
                found = set()
                for name in names:
                    topic_id = topics.topic_id(name)
                    if topic_id is not None:
                        found.add(topic_id)
                        partition_counts[topic_id] = topics.partition_count(name)
                topic_ids = ids[names] = frozenset(found)
            target = self.targets.get(member_id, NO_TARGET)
            subscribers[member_id] = Subscriber(topic_ids, target, member.instance_id)
        return subscribers, partition_counts


def preferred_assignor(members: Mapping[str, ConsumerMember], config: GroupConfig) -> str:
    """What most of those members ask for that ask for one; the first configured one when nobody does."""
    asked = Counter(
        member.server_assignor for member in members.values() if member.server_assignor in config.consumer_assignors
    )
    if not asked:
        return config.consumer_assignors[0]
    return max(asked, key=lambda name: (asked[name], name or "")) or config.consumer_assignors[0]

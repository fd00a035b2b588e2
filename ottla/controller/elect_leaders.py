"""The decisions on leaders that are asked for (ElectLeaders, KIP-460), and on those that are merely not preferred.

The preferred leader is the first of the replicas; placement gives each broker as many of those as any other, so that
the load is even when they lead.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from ottla.controller.decision import Decision
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.election import settle
from ottla.controller.image import NO_LEADER, MetadataImage, PartitionImage, TopicImage
from ottla.controller.partition_records import PartitionChanges, difference
from ottla.controller.requests import ElectionType, PartitionError
from ottla.controller.topic_rules import TopicRules
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId

MAX_BALANCED: Final = 1000
"""The most leaders that are moved at once: producers and consumers of each have to find the new one."""


def elect_leaders(
    image: MetadataImage,
    configs: EffectiveConfigs,
    election: ElectionType,
    partitions: Sequence[tuple[str, int]] | None,
) -> Decision[list[PartitionError]]:
    """Each partition succeeds or fails by itself; of all (None), only those are told that an election changed."""
    rules, active = TopicRules(image, configs), image.active_brokers
    changes = PartitionChanges()
    outcome: list[PartitionError] = []
    for name, index in dict.fromkeys(partitions if partitions is not None else _all(image)):
        try:
            topic, partition = _find(image, name, index)
            if election is ElectionType.PREFERRED:
                after = _preferred(partition, active)
            else:
                after = _unclean(partition, rules, name, active)
        except ApiError as error:
            if partitions is not None or error.code is not ErrorCode.ELECTION_NOT_NEEDED:
                outcome.append(PartitionError(topic=name, partition=index, error=error))
            continue
        changes.add(topic, index, difference(partition, after))
        outcome.append(PartitionError(topic=name, partition=index))
    return Decision(outcome, changes.records(), splittable=True)


def balance_leaders(image: MetadataImage, limit: int = MAX_BALANCED) -> Decision[int]:
    """Give partitions back to their preferred leaders where these are in sync (`auto.leader.rebalance.enable`).

    The result: how many. More than `limit` wait for the next call.
    """
    active = image.active_brokers
    changes = PartitionChanges()
    moved = 0
    for topic in image.topics.values():
        for partition in topic.partitions:
            preferred = partition.replicas[0]
            if partition.leader != preferred and preferred in active and preferred in partition.isr:
                changes.add(topic, partition.index, difference(partition, replace(partition, leader=preferred)))
                moved += 1
                if moved == limit:
                    return Decision(moved, changes.records(), splittable=True)
    return Decision(moved, changes.records(), splittable=True)


def _all(image: MetadataImage) -> Iterator[tuple[str, int]]:
    for topic in image.topics.values():
        for partition in topic.partitions:
            yield topic.name, partition.index


def _find(image: MetadataImage, name: str, index: int) -> tuple[TopicImage, PartitionImage]:
    partition = image.partition(name, index)
    if partition is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"There is no partition {name}-{index}.")
    return image.topics[name], partition


def _preferred(partition: PartitionImage, active: frozenset[NodeId]) -> PartitionImage:
    preferred = partition.replicas[0]
    if partition.leader == preferred:
        raise ApiError(ErrorCode.ELECTION_NOT_NEEDED, "The preferred leader leads.")
    if preferred not in active or preferred not in partition.isr:
        raise ApiError(
            ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, f"The preferred leader {preferred} is not there or not in sync."
        )
    return replace(partition, leader=preferred)


def _unclean(partition: PartitionImage, rules: TopicRules, name: str, active: frozenset[NodeId]) -> PartitionImage:
    if partition.leader != NO_LEADER:
        raise ApiError(ErrorCode.ELECTION_NOT_NEEDED, f"Broker {partition.leader} leads.")
    after = settle(partition, rules.of(name), active, unclean=True)
    if after.leader == NO_LEADER:
        raise ApiError(
            ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, f"None of the replicas {list(partition.replicas)} is there."
        )
    return after

"""The decisions on replicas that move to other brokers (KIP-455, KIP-860).

While it goes on a partition has all replicas of the target, followed by those that will go. When all that are added are
in sync, the others go, in the same batch as the ISR change that completes it, and the leader epoch rises.

    replicas 1,2,3 → 4,2,3:   replicas 4,2,3,1, adding 4, removing 1   →   (4 is in sync)   →   replicas 4,2,3

A new target while it goes on: the replicas from before stay until the end, those that were only being added go at once.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ottla.controller.decision import Decision, refuse_duplicates
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.election import settle
from ottla.controller.image import MetadataImage, PartitionImage
from ottla.controller.partition_records import Nodes, PartitionChanges, difference
from ottla.controller.placement import check_assignment
from ottla.controller.requests import OngoingReassignment, PartitionError, Reassignment
from ottla.controller.topic_rules import Rules, TopicRules
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError


def alter_partition_reassignments(
    image: MetadataImage,
    configs: EffectiveConfigs,
    wanted: Sequence[Reassignment],
    *,
    allow_replication_factor_change: bool = True,
) -> Decision[list[PartitionError]]:
    """Start, change or cancel; each partition succeeds or fails by itself."""
    counts = Counter((one.topic, one.partition) for one in wanted)
    rules, active = TopicRules(image, configs), image.active_brokers
    changes = PartitionChanges()
    outcome: list[PartitionError] = []
    for one in wanted:
        try:
            refuse_duplicates(counts[one.topic, one.partition], "partition")
            before = _find(image, one)
            begun = _begin(before, _target(image, before, one, allow_replication_factor_change))
            of_topic = rules.of(one.topic)
            after = settle(completed(begun, of_topic) or begun, of_topic, active)
        except ApiError as error:
            outcome.append(PartitionError(topic=one.topic, partition=one.partition, error=error))
            continue
        leaves = not set(before.replicas) <= set(after.replicas)
        changes.add(image.topics[one.topic], one.partition, difference(before, after, renew=leaves))
        outcome.append(PartitionError(topic=one.topic, partition=one.partition))
    return Decision(outcome, changes.records(), splittable=True)


def list_partition_reassignments(
    image: MetadataImage, wanted: Sequence[tuple[str, int]] | None
) -> list[OngoingReassignment]:
    """What is under way, of these partitions or (None) of all."""
    if wanted is None:
        wanted = [(topic.name, one.index) for topic in image.topics.values() for one in topic.partitions]
    found = [(name, image.partition(name, index)) for name, index in wanted]
    return [
        OngoingReassignment(
            topic=name, partition=one.index, replicas=one.replicas, adding=one.adding, removing=one.removing
        )
        for name, one in found
        if one is not None and one.is_reassigning
    ]


def completed(partition: PartitionImage, rules: Rules) -> PartitionImage | None:
    """The partition after its reassignment, once that can end: every added replica is in sync. Still to be settled.

    As many as are needed must then be in sync: the replicas that would go may be those that hold the records together.
    """
    if not partition.is_reassigning or not set(partition.adding) <= set(partition.isr):
        return None
    target = partition.target_replicas
    isr = tuple([one for one in partition.isr if one in target])
    if not isr or len(isr) < min(len(partition.isr), rules.least_isr(len(target))):
        return None
    return replace(partition, replicas=target, isr=isr, adding=(), removing=())


def _find(image: MetadataImage, wanted: Reassignment) -> PartitionImage:
    found = image.partition(wanted.topic, wanted.partition)
    if found is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
    return found


def _target(image: MetadataImage, partition: PartitionImage, wanted: Reassignment, any_factor: bool) -> Nodes:
    original = _original(partition)
    if wanted.replicas is None:
        if not partition.is_reassigning:
            raise ApiError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "No reassignment of this partition is under way.")
        return original
    target = check_assignment(image, wanted.partition, wanted.replicas)
    if not any_factor and len(target) != len(original):
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The partition has {len(original)} replica(s), and would have {len(target)}, which was not allowed.",
        )
    return target


def _original(partition: PartitionImage) -> Nodes:
    return tuple([one for one in partition.replicas if one not in partition.adding])


def _begin(before: PartitionImage, target: Nodes) -> PartitionImage:
    original = _original(before)
    removing = tuple([one for one in original if one not in target])
    replicas = target + removing
    isr = tuple([one for one in before.isr if one in replicas])
    if not isr:
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Only {list(before.isr)} of the replicas are in sync, and would go: no other one has all records.",
        )
    return replace(
        before,
        replicas=replicas,
        isr=isr,
        adding=tuple([one for one in target if one not in original]),
        removing=removing,
    )

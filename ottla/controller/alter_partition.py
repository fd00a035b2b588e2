"""The decision on in-sync replicas that leaders ask to add and to remove (AlterPartition, KIP-497, KIP-841, KIP-903).

A leader counts a replica that it wants to add at once, and one that it wants to remove until that is committed; so it
may ask for as much as it likes, and a refusal loses nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

from ottla.controller.decision import Decision
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.election import eligible, settle
from ottla.controller.fencing import checked_broker
from ottla.controller.image import LeaderRecovery, MetadataImage, PartitionImage
from ottla.controller.partition_records import UNCHANGED, PartitionChanges, applied, difference
from ottla.controller.reassignment import completed
from ottla.controller.requests import AlteredPartition, IsrChange
from ottla.controller.topic_rules import Rules, TopicRules
from ottla.core.error_codes import ErrorCode
from ottla.core.types import NodeId, Uuid


def alter_partitions(
    image: MetadataImage, configs: EffectiveConfigs, broker_id: NodeId, broker_epoch: int, wanted: Sequence[IsrChange]
) -> Decision[list[AlteredPartition]]:
    """Each partition succeeds or fails by itself. Raises as `checked_broker`."""
    checked_broker(image, broker_id, broker_epoch)
    rules, active = TopicRules(image, configs), image.active_brokers
    changes = PartitionChanges()
    outcome: list[AlteredPartition] = []
    seen: set[tuple[Uuid, int]] = set()
    for one in wanted:
        twice = (one.topic_id, one.partition) in seen
        seen.add((one.topic_id, one.partition))
        error = ErrorCode.INVALID_REQUEST if twice else _refusal(image, broker_id, one)
        if error is not ErrorCode.NONE:
            outcome.append(AlteredPartition(topic_id=one.topic_id, partition=one.partition, error=error))
            continue
        topic = image.topics_by_id[one.topic_id]
        before = topic.partitions[one.partition]
        after, renew = _altered(before, rules.of(topic.name), active, one)
        change = difference(before, after, renew=renew)
        changes.add(topic, one.partition, change)
        outcome.append(_answer(one.topic_id, before if change == UNCHANGED else applied(before, change), broker_id))
    return Decision(outcome, changes.records(), splittable=True)


def _refusal(image: MetadataImage, broker_id: NodeId, wanted: IsrChange) -> ErrorCode:
    """In Kafka's order: a leader learns first that it leads no more."""
    topic = image.topics_by_id.get(wanted.topic_id)
    if topic is None:
        return ErrorCode.UNKNOWN_TOPIC_ID
    if not 0 <= wanted.partition < len(topic.partitions):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    partition = topic.partitions[wanted.partition]
    if wanted.leader_epoch > partition.leader_epoch or wanted.partition_epoch > partition.partition_epoch:
        return ErrorCode.NOT_CONTROLLER  # the leader knows a later state: another node decides by now
    if wanted.leader_epoch < partition.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if broker_id != partition.leader:
        return ErrorCode.INVALID_REQUEST
    if wanted.partition_epoch < partition.partition_epoch:
        return ErrorCode.INVALID_UPDATE_VERSION
    isr = [broker for broker, _ in wanted.isr]
    if len(set(isr)) != len(isr) or not set(isr) <= set(partition.replicas) or broker_id not in isr:
        return ErrorCode.INVALID_REQUEST
    if wanted.recovery is LeaderRecovery.RECOVERING and (
        len(isr) > 1 or partition.recovery is LeaderRecovery.RECOVERED
    ):
        return ErrorCode.INVALID_REQUEST
    return ErrorCode.NONE if all(_may_join(image, *one) for one in wanted.isr) else ErrorCode.INELIGIBLE_REPLICA


def _may_join(image: MetadataImage, broker_id: NodeId, epoch: int) -> bool:
    """Whether a replica may be in sync: there, and still the incarnation whose offsets the leader knows."""
    broker = image.brokers.get(broker_id)
    return broker is not None and broker.is_active and epoch in (-1, broker.epoch)


def _altered(
    before: PartitionImage, rules: Rules, active: frozenset[NodeId], wanted: IsrChange
) -> tuple[PartitionImage, bool]:
    isr = tuple([broker for broker, _ in wanted.isr])
    elr, last_known = eligible(before, isr, rules)
    after = replace(before, isr=isr, elr=elr, last_known_elr=last_known, recovery=wanted.recovery)
    moved = completed(after, rules)
    if moved is None:
        return after, False
    # The replicas that leave hear no more; they must not serve under the epoch that goes on.
    return settle(moved, rules, active), True


def _answer(topic_id: Uuid, partition: PartitionImage, asked: NodeId) -> AlteredPartition:
    return AlteredPartition(
        topic_id=topic_id,
        partition=partition.index,
        error=ErrorCode.NONE if partition.leader == asked else ErrorCode.NEW_LEADER_ELECTED,
        leader=partition.leader,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        isr=partition.isr,
        recovery=partition.recovery,
    )

"""Who leads a partition, who counts as in sync, who may be elected: from who is there to the partition's next state.

The choice, in this order (KIP-966):

1. the leader that there is, while it is active and in sync;
2. the first of the replicas, so the preferred one if possible, that is in sync and active;
3. the first active one of the eligible leader replicas (ELR): out of sync, but with everything that was committed;
4. where `unclean.leader.election.enable` allows it, any active replica: records may be lost, and the leader recovers;
5. none, until one of 2 or 3 comes back.

Replicas that are not active leave the ISR while an active one is in it, so that the partition goes on. When none is,
all stay: without a leader nothing is committed that one of them would lack, so whoever returns first leads. (Kafka
keeps the last of them only; after a loss of power everybody would then wait for that one.) The ISR is never empty.

A replica that *may have lost* records leaves both ISR and ELR while there is another one in them, active or not: those
are elected before it. Only where it is the last does it stay, as nobody has more.

ELR: whoever leaves an ISR that is then below `min.insync.replicas` is eligible, because from that change on nothing is
committed until the ISR has grown again; then the ELR is empty.
"""

from collections.abc import Callable, Set
from dataclasses import replace
from typing import Final

from ottla.controller.image import NO_LEADER, LeaderRecovery, MetadataImage, PartitionImage, TopicImage
from ottla.controller.partition_records import UNCHANGED, Change, Nodes, PartitionChanges, difference
from ottla.controller.topic_rules import Rules, TopicRules
from ottla.core.types import NodeId

NOBODY: Final[frozenset[NodeId]] = frozenset()


def settle(
    partition: PartitionImage,
    rules: Rules,
    active: Set[NodeId],
    *,
    isr: Nodes | None = None,
    lost: Set[NodeId] = NOBODY,
    unclean: bool = False,
) -> PartitionImage:
    """What becomes of the partition when these brokers are active; its epochs are left to the replay.

    `isr`: who is in sync, when that changes too. `lost`: replicas that may have lost records. `unclean`: allowed for
    this once.
    """
    in_sync = _in_sync(partition, partition.isr if isr is None else isr, active, lost)
    leader = partition.leader
    if leader not in active or leader not in in_sync:
        leader = _first(partition.replicas, in_sync, active)
    if leader == NO_LEADER:
        leader = _first(partition.replicas, [one for one in partition.elr if one not in lost], active)
        if leader != NO_LEADER:
            in_sync = (leader,)
    if leader == NO_LEADER and (unclean or rules.unclean):
        last = sorted(partition.replicas, key=lambda one: one in lost)
        leader = _first(last, partition.replicas, active)
        if leader != NO_LEADER:
            return replace(
                partition, leader=leader, isr=(leader,), elr=(), last_known_elr=(), recovery=LeaderRecovery.RECOVERING
            )
    elr, last_known = eligible(partition, in_sync, rules, lost)
    return replace(partition, leader=leader, isr=in_sync, elr=elr, last_known_elr=last_known)


def eligible(partition: PartitionImage, isr: Nodes, rules: Rules, lost: Set[NodeId] = NOBODY) -> tuple[Nodes, Nodes]:
    """ELR and last known ELR once the ISR is this."""
    if len(isr) >= rules.least_isr(partition.replication_factor):
        return (), ()
    complete = {*partition.isr, *partition.elr} - lost
    known = {*partition.isr, *partition.elr, *partition.last_known_elr}
    elr = tuple([one for one in partition.replicas if one in complete and one not in isr])
    return elr, tuple([one for one in partition.replicas if one in known and one not in isr and one not in elr])


def _in_sync(partition: PartitionImage, wanted: Nodes, active: Set[NodeId], lost: Set[NodeId]) -> Nodes:
    sound = tuple([one for one in wanted if one not in lost])
    there = tuple([one for one in sound if one in active])
    if there or sound:
        return there or sound
    if spare := [one for one in partition.elr if one not in lost]:
        return (next((one for one in spare if one in active), spare[0]),)
    return tuple([one for one in wanted if one in active]) or wanted


def _first(order: "Nodes | list[NodeId]", among: "Nodes | list[NodeId]", active: Set[NodeId]) -> NodeId:
    return next((one for one in order if one in among and one in active), NO_LEADER)


def settle_all(
    image: MetadataImage,
    rules: TopicRules,
    active: Set[NodeId],
    concerns: Callable[[PartitionImage], bool],
    *,
    lost: Callable[[TopicImage, PartitionImage, Rules], Set[NodeId]] | None = None,
) -> PartitionChanges:
    """`settle` for every partition that `concerns` picks.

    Thousands of partitions are in a few situations: each of those is settled once.
    """
    changes = PartitionChanges()
    outcomes: dict[tuple[object, ...], Change] = {}
    for topic in image.topics.values():
        of_topic: Rules | None = None
        for partition in topic.partitions:
            if not concerns(partition):
                continue
            if of_topic is None:
                of_topic = rules.of(topic.name)
            gone = NOBODY if lost is None else lost(topic, partition, of_topic)
            situation = (
                partition.leader,
                partition.replicas,
                partition.isr,
                partition.elr,
                partition.last_known_elr,
                partition.recovery,
                id(of_topic),
                gone,
            )
            change = outcomes.get(situation)
            if change is None:
                after = settle(partition, of_topic, active, lost=gone)
                change = outcomes[situation] = difference(partition, after)
            if change is not UNCHANGED and change != UNCHANGED:
                changes.group(change).setdefault(topic.id, []).append(partition.index)
    return changes

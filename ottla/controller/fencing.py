"""The decisions on brokers that come, go, and ask to go (KIP-631): fence, unfence, controlled shutdown, resignation.

A fenced broker leads nothing and is in no ISR in which an active one remains. Whoever decides that a broker is gone
(`liveness`) need not be right: a broker that lives and is fenced only has to become ready again.
"""

from collections.abc import Collection, Set

from ottla.controller.broker_records import broker_change
from ottla.controller.decision import Decision
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.election import NOBODY, settle_all
from ottla.controller.image import NO_LEADER, BrokerImage, MetadataImage, PartitionImage, TopicImage
from ottla.controller.partition_records import PartitionChanges
from ottla.controller.requests import BrokerHeartbeat, HeartbeatAnswer
from ottla.controller.topic_rules import Rules, TopicRules
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId, Uuid


def checked_broker(image: MetadataImage, broker_id: NodeId, broker_epoch: int) -> BrokerImage:
    """The broker that speaks. Raises ApiError: BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH for an old incarnation."""
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker {broker_id} is not registered.")
    if broker.epoch != broker_epoch:
        raise ApiError(
            ErrorCode.STALE_BROKER_EPOCH,
            f"Broker {broker_id} speaks under the epoch {broker_epoch}; registered is {broker.epoch}.",
        )
    return broker


def fence(image: MetadataImage, configs: EffectiveConfigs, brokers: Collection[NodeId]) -> Decision[list[NodeId]]:
    """These are gone. The result: those that were not fenced before."""
    gone = sorted({one for one in brokers if one in image.brokers and not image.brokers[one].fenced})
    if not gone:
        return Decision([])
    # The partitions first: so no broker is ever fenced that leads, not even between two batches.
    changes = without(image, configs, frozenset(gone)).records()
    return Decision(gone, [*changes, *(broker_change(one, fenced=True) for one in gone)], splittable=True)


def without(image: MetadataImage, configs: EffectiveConfigs, gone: Set[NodeId]) -> PartitionChanges:
    """What becomes of partitions when these brokers are not active any more."""
    return settle_all(
        image,
        TopicRules(image, configs),
        image.active_brokers - gone,
        lambda partition: not gone.isdisjoint(partition.isr),
    )


def heartbeat(
    image: MetadataImage, configs: EffectiveConfigs, beat: BrokerHeartbeat, *, registered_at: int
) -> Decision[HeartbeatAnswer]:
    """A broker says how it is. It is unfenced when it is ready and knows the log up to `registered_at`.

    Raises as `checked_broker`.
    """
    broker = checked_broker(image, beat.broker_id, beat.broker_epoch)
    if beat.stop:
        return _stop(image, configs, broker)
    if broker.fenced and beat.ready and beat.metadata_offset >= registered_at:
        return _unfence(image, configs, broker, beat)
    return Decision(_answer(broker))


def _answer(broker: BrokerImage) -> HeartbeatAnswer:
    return HeartbeatAnswer(fenced=broker.fenced, in_controlled_shutdown=broker.in_controlled_shutdown)


def _unfence(
    image: MetadataImage, configs: EffectiveConfigs, broker: BrokerImage, beat: BrokerHeartbeat
) -> Decision[HeartbeatAnswer]:
    """It may lead from here on, what it has lost aside; whatever waited for it has a leader again."""
    cut = set(beat.truncated)
    doubted = frozenset({broker.id})

    def lost(topic: TopicImage, partition: PartitionImage, rules: Rules) -> Set[NodeId]:
        return doubted if cut and (topic.id, partition.index) in cut else NOBODY

    def concerns(partition: PartitionImage) -> bool:
        return partition.leader == NO_LEADER or (
            bool(cut) and (broker.id in partition.isr or broker.id in partition.elr)
        )

    active = image.active_brokers | doubted
    changes = settle_all(image, TopicRules(image, configs), active, concerns, lost=lost)
    unfenced = broker_change(broker.id, fenced=False, in_controlled_shutdown=False)
    return Decision(HeartbeatAnswer(fenced=False), [unfenced, *changes.records()], splittable=True)


def _stop(image: MetadataImage, configs: EffectiveConfigs, broker: BrokerImage) -> Decision[HeartbeatAnswer]:
    """Controlled shutdown: its leaderships go to others, in sync, while it still serves."""
    stopping = HeartbeatAnswer(fenced=broker.fenced, in_controlled_shutdown=True)
    if broker.in_controlled_shutdown:
        return Decision(stopping)
    changes = without(image, configs, frozenset({broker.id})).records()
    return Decision(stopping, [*changes, broker_change(broker.id, in_controlled_shutdown=True)], splittable=True)


def give_up(
    image: MetadataImage,
    configs: EffectiveConfigs,
    broker_id: NodeId,
    broker_epoch: int,
    offline: Set[tuple[Uuid, int]],
) -> Decision[None]:
    """The files of these replicas failed, and the broker goes on without them: they leave ISRs, ELRs and leaderships.

    Where it is the last that has everything it stays: nobody could go on, and a repaired disk can. A replica is in sync
    again as any other, when the broker was started anew. `offline`: topic ids and indexes. Raises as `checked_broker`.
    """
    broker = checked_broker(image, broker_id, broker_epoch)
    gone = frozenset({broker.id})

    def lost(topic: TopicImage, partition: PartitionImage, rules: Rules) -> Set[NodeId]:
        last = not (set(partition.isr) - gone or set(partition.elr) - gone)
        return NOBODY if last or (topic.id, partition.index) not in offline else gone

    def concerns(partition: PartitionImage) -> bool:
        return broker.id in partition.isr or broker.id in partition.elr

    changes = settle_all(image, TopicRules(image, configs), image.active_brokers, concerns, lost=lost)
    return Decision(None, changes.records(), splittable=True)


def resign(
    image: MetadataImage,
    configs: EffectiveConfigs,
    broker_id: NodeId,
    broker_epoch: int,
    stalled: Set[NodeId] = NOBODY,
) -> Decision[int]:
    """A broker whose disk stalls asks out of ISRs and leaderships where another active replica is in sync.

    It stays where it is the last one, or the others are `stalled` too (they may share the disk): nobody could go on
    better. The result: how many partitions it still leads. Raises as `checked_broker`.
    """
    broker = checked_broker(image, broker_id, broker_epoch)
    others = image.active_brokers - {broker.id} - stalled

    def concerns(partition: PartitionImage) -> bool:
        return broker.id in partition.isr and not others.isdisjoint(partition.isr)

    changes = settle_all(image, TopicRules(image, configs), others, concerns)
    remaining = sum(
        partition.leader == broker.id and not concerns(partition)
        for topic in image.topics.values()
        for partition in topic.partitions
    )
    return Decision(remaining, changes.records(), splittable=True)

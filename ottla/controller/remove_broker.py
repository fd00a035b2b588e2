"""The decisions on brokers that do not come back: unregistered, or come back with an empty disk."""

from collections.abc import Set

from ottla.controller.broker_records import broker_change
from ottla.controller.decision import Decision
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.election import settle_all
from ottla.controller.fencing import without
from ottla.controller.image import MetadataImage, PartitionImage, TopicImage
from ottla.controller.topic_rules import Rules, TopicRules
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import ZERO_UUID, NodeId
from ottla.v1 import metadata_pb2 as pb

_NAMED_PARTITIONS = 5  # in a message


def unregister_broker(image: MetadataImage, configs: EffectiveConfigs, broker_id: NodeId) -> Decision[None]:
    """The broker is gone for good (UnregisterBroker). Replicas that were not moved elsewhere stay assigned to it.

    Raises ApiError(BROKER_ID_NOT_REGISTERED).
    """
    if broker_id not in image.brokers:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker {broker_id} is not registered.")
    changes = without(image, configs, frozenset({broker_id})).records()
    gone = pb.MetadataRecord(unregister_broker=pb.UnregisterBrokerRecord(broker_id=broker_id))
    return Decision(None, [*changes, gone], splittable=True)


def replace_broker(
    image: MetadataImage, configs: EffectiveConfigs, broker_id: NodeId, *, accept_loss: bool = False
) -> Decision[list[tuple[str, int]]]:
    """The broker's disk is lost: it leaves ISRs and ELRs, and may register once with another directory.

    The result: the partitions of which it holds the last in-sync replica, so that nobody else has what is lost. Unless
    `accept_loss` they are refused (INVALID_REQUEST); else it will lead them, with nothing in them. Raises ApiError:
    BROKER_ID_NOT_REGISTERED, INVALID_REQUEST while the broker is alive.
    """
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker {broker_id} is not registered.")
    if not broker.fenced:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Broker {broker_id} is alive: stop it before it is replaced.")
    emptied = frozenset({broker_id})

    def lost(topic: TopicImage, partition: PartitionImage, rules: Rules) -> Set[NodeId]:
        return emptied

    def concerns(partition: PartitionImage) -> bool:
        return broker_id in partition.isr or broker_id in partition.elr

    last = [
        (topic.name, partition.index)
        for topic in image.topics.values()
        for partition in topic.partitions
        if partition.isr == (broker_id,) and not partition.elr
    ]
    if last and not accept_loss:
        some = ", ".join(f"{name}-{index}" for name, index in last[:_NAMED_PARTITIONS])
        more = f" and {len(last) - _NAMED_PARTITIONS} more" if len(last) > _NAMED_PARTITIONS else ""
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"Broker {broker_id} holds the last in-sync replica of {some}{more}: bring another replica back first, or "
            "accept that their records are lost.",
        )
    changes = settle_all(image, TopicRules(image, configs), image.active_brokers, concerns, lost=lost)
    return Decision(last, [*changes.records(), broker_change(broker_id, directory_id=ZERO_UUID)], splittable=True)

"""The decision on a broker that has started (KIP-631).

A start is a new incarnation. What the one before it left behind, and why:

- **Its leaderships end**, also where it is elected again at once: it may have shown records under the old epoch that
  were not synced, and its log may now go on differently from there. The leader epoch rises in the same batch.
- **It is fenced** until it says that it is ready (`fencing.heartbeat`): it recovers its logs first, and must know the
  metadata log up to here, or it would go on as the leader that it was. The exception is the node that is alone: its
  image is the newest that there is, and a commit more would only make its start slower.
- **It leaves ISRs in which another active replica remains**, as when it is fenced, because it follows nobody until it
  is ready. Its log is not doubted by that: what it acknowledged was on stable storage (`ottla.flush.on.ack`), and a
  crash of the process alone does not even touch the page cache. So where it was the last in sync it stays, and where
  the ISR falls below `min.insync.replicas` it is an eligible leader replica.
- **With `ottla.flush.on.ack=false` it leaves ISR and ELR after a crash of the operating system**: acknowledged records
  were perhaps in the page cache only. The boot id tells of such a crash; a stop in order, after which everything was
  synced, is told by the broker epoch that was written down then (KIP-966). A boot id that is not known counts as
  another one.
- **An end of a log that it has to cut off** is found by recovery, later: it is said with `ready`.

An emptied disk under a known id would be taken for a replica that has everything. So the directory is part of what is
registered, and another one is refused until `replace_broker` has taken the old one out of ISRs and ELRs.
"""

from collections.abc import Set

from ottla.controller.broker_records import registration_record
from ottla.controller.decision import Decision
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.election import NOBODY, settle_all
from ottla.controller.image import NO_LEADER, BrokerImage, MetadataImage, PartitionImage, TopicImage
from ottla.controller.requests import BrokerRegistration
from ottla.controller.topic_rules import Rules, TopicRules
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import ZERO_UUID, NodeId, format_uuid
from ottla.v1 import metadata_pb2 as pb


def register_broker(
    image: MetadataImage,
    configs: EffectiveConfigs,
    registration: BrokerRegistration,
    *,
    previous_is_live: bool = False,
    ready: bool = False,
) -> Decision[int]:
    """Registers it under a new broker epoch, which is the result.

    The same incarnation may register again, e.g. when the first answer was lost; nothing else changes by that.
    `previous_is_live`: the incarnation that is registered is still heard of. `ready`: the broker alone is the cluster.

    Raises ApiError: DUPLICATE_BROKER_REGISTRATION, INVALID_REGISTRATION for another directory, UNSUPPORTED_VERSION when
    it does not support a finalised feature.
    """
    known = image.brokers.get(registration.broker_id)
    _check_features(image, registration)
    if known is not None:
        _check_directory(known, registration)
        if known.incarnation_id == registration.incarnation_id:
            return _again(known, registration)
        if previous_is_live:
            raise ApiError(
                ErrorCode.DUPLICATE_BROKER_REGISTRATION,
                f"Another broker with the id {known.id} is running: give this one another node id, or stop that one.",
            )
    epoch = image.last_broker_epoch + 1
    record = registration_record(registration, epoch=epoch, fenced=not ready)
    registered = [pb.MetadataRecord(register_broker=record)]
    if known is None and not ready:
        return Decision(epoch, registered)
    return Decision(epoch, _consequences(image, configs, registration, known, registered, ready))


def _consequences(
    image: MetadataImage,
    configs: EffectiveConfigs,
    registration: BrokerRegistration,
    known: BrokerImage | None,
    registered: list[pb.MetadataRecord],
    ready: bool,
) -> list[pb.MetadataRecord]:
    broker = registration.broker_id
    active = image.active_brokers | {broker} if ready else image.active_brokers - {broker}
    suspect = frozenset({broker}) if known is not None and may_have_lost(known, registration) else NOBODY

    def lost(topic: TopicImage, partition: PartitionImage, rules: Rules) -> Set[NodeId]:
        return NOBODY if rules.durable else suspect

    def concerns(partition: PartitionImage) -> bool:
        if ready and not suspect:
            return partition.leader == NO_LEADER
        return partition.leader == NO_LEADER or broker in partition.isr or broker in partition.elr

    changes = settle_all(image, TopicRules(image, configs), active, concerns, lost=lost).records()
    if ready:
        # One record for all that it goes on leading, however many they are.
        renewed = pb.MetadataRecord(renew_leaderships=pb.RenewLeadershipsRecord(broker_id=broker))
        return [*registered, *([renewed] if known is not None else []), *changes]
    return [*changes, *registered]


def may_have_lost(known: BrokerImage, registration: BrokerRegistration) -> bool:
    """Whether what was only in the page cache may be gone since this incarnation."""
    in_order = registration.previous_broker_epoch == known.epoch
    same_boot = registration.boot_id == known.boot_id != ""
    return not in_order and not same_boot


def _again(known: BrokerImage, registration: BrokerRegistration) -> Decision[int]:
    record = registration_record(
        registration,
        epoch=known.epoch,
        fenced=known.fenced,
        in_controlled_shutdown=known.in_controlled_shutdown,
    )
    return Decision(known.epoch, [pb.MetadataRecord(register_broker=record)])


def _check_directory(known: BrokerImage, registration: BrokerRegistration) -> None:
    if known.directory_id in (ZERO_UUID, registration.directory_id):
        return
    raise ApiError(
        ErrorCode.INVALID_REGISTRATION,
        f"Broker {known.id} is known with the data directory {format_uuid(known.directory_id)}, and comes with "
        f"{format_uuid(registration.directory_id)}: mount its old disk, or replace the broker explicitly.",
    )


def _check_features(image: MetadataImage, registration: BrokerRegistration) -> None:
    for name, level in image.features.items():
        lowest, highest = registration.features.get(name, (0, 0))
        if level and not lowest <= level <= highest:
            raise ApiError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"The cluster's {name} is {level}, and broker {registration.broker_id} supports {lowest} to {highest}.",
            )

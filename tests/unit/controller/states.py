"""Clusters of several brokers in a given state, and what decisions change of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ottla.controller.broker_records import broker_change
from ottla.controller.decision import Decision
from ottla.controller.image import LeaderRecovery, MetadataImage, PartitionImage
from ottla.controller.partition_records import partition_record
from ottla.core.types import NodeId, Uuid
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import image_of, register, registration, uuid

TOPIC = "a"
TOPIC_ID = uuid(1)


def nodes(*ids: int) -> tuple[NodeId, ...]:
    return tuple(map(NodeId, ids))


def partition(
    leader: int,
    isr: Sequence[int],
    replicas: Sequence[int] = (1, 2, 3),
    *,
    index: int = 0,
    elr: Sequence[int] = (),
    last_known_elr: Sequence[int] = (),
    adding: Sequence[int] = (),
    removing: Sequence[int] = (),
    recovery: LeaderRecovery = LeaderRecovery.RECOVERED,
    epoch: int = 5,
    partition_epoch: int = 7,
) -> PartitionImage:
    return PartitionImage(
        index,
        NodeId(leader),
        epoch,
        nodes(*replicas),
        nodes(*isr),
        partition_epoch,
        nodes(*elr),
        nodes(*last_known_elr),
        nodes(*adding),
        nodes(*removing),
        recovery,
    )


def brokers(
    count: int = 3, *, fenced: Iterable[int] = (), stopping: Iterable[int] = (), racks: Sequence[str | None] = ()
) -> MetadataImage:
    """Brokers 1, 2, 3 …, each with its number as its epoch."""
    image = MetadataImage()
    for node in range(1, count + 1):
        rack = racks[node - 1] if racks else None
        image = image_of(register(image, registration(node, rack=rack)).records, base=image)
    changes = [broker_change(NodeId(one), fenced=True) for one in fenced]
    changes += [broker_change(NodeId(one), in_controlled_shutdown=True) for one in stopping]
    return image_of(changes, base=image)


def holding(
    image: MetadataImage,
    *partitions: PartitionImage,
    configs: Mapping[str, str] | None = None,
    name: str = TOPIC,
    topic_id: Uuid = TOPIC_ID,
) -> MetadataImage:
    """With a topic of these partitions."""
    records = [pb.MetadataRecord(topic=pb.TopicRecord(name=name, topic_id=topic_id))]
    records += [partition_record(topic_id, one) for one in partitions]
    records += [
        pb.MetadataRecord(config=pb.ConfigRecord(resource_type=2, resource_name=name, name=key, value=value))
        for key, value in (configs or {"min.insync.replicas": "2"}).items()
    ]
    return image_of(records, base=image)


def change(index: int = 0, **fields: object) -> pb.MetadataRecord:
    """The record of a change of one partition: `leader=2`, `isr=[2]`, `elr=[1]` …"""
    return pb.MetadataRecord(partition_change=_change(topic_id=TOPIC_ID, partition=index, **fields))


def changes(indexes: Mapping[Uuid, Sequence[int]], **fields: object) -> pb.MetadataRecord:
    """The same change of several."""
    return pb.MetadataRecord(
        partition_changes=pb.PartitionChangesRecord(
            change=_change(**fields),
            topics=[pb.PartitionsOfTopic(topic_id=one, partitions=those) for one, those in indexes.items()],
        )
    )


def _change(**fields: object) -> pb.PartitionChangeRecord:
    lists = ("elr", "last_known_elr", "adding", "removing")
    values = {key: pb.NodeIds(ids=value) if key in lists else value for key, value in fields.items()}  # type: ignore[arg-type]
    return pb.PartitionChangeRecord(**values)  # type: ignore[arg-type]


def fenced(node: int, is_fenced: bool = True) -> pb.MetadataRecord:
    return pb.MetadataRecord(broker_change=pb.BrokerChangeRecord(broker_id=node, fenced=is_fenced))


def the_partition(image: MetadataImage, decision: Decision[Any], index: int = 0) -> PartitionImage:
    """After the decision."""
    found = image_of(decision.records, base=image).partition(TOPIC, index)
    assert found is not None
    return found

"""Tells leaders of partitions what became part of a transaction, before its producer writes there (KIP-890).

Who adds partitions to a transaction writes to them next, and their leaders would ask whether it is under way: in every
transaction a question to the coordinator for each of them, and its answer. So the coordinator tells them as soon as the
addition is committed. Little depends on it: when it is lost, or comes too late, the leader asks.

But it must not count when the transaction is over, for nobody would end a second time what begins then. What one
coordinator tells and the markers that it sends stand in one order (`control.asking`), so a grant goes out at once and
is never gathered; those of another coordinator, or for another leadership, `Partition.grant` tells apart.
"""

from collections.abc import Iterable, Set
from typing import TYPE_CHECKING

from ottla.controller.image import NO_LEADER
from ottla.coordinators.transactions.ports import TopicPartition
from ottla.core.errors import ApiError
from ottla.core.types import NodeId, Uuid
from ottla.v1.control_pb2 import ControlGrant

if TYPE_CHECKING:
    from ottla.broker.broker import Broker


def grant(
    broker: "Broker",
    producer_id: int,
    producer_epoch: int,
    coordinator_epoch: int,
    partitions: Set[TopicPartition],
) -> None:
    """The port `Grants`: tells this node and others."""
    by_node: dict[NodeId, dict[Uuid, ControlGrant]] = {}
    for name, index in partitions:
        topic = broker.image.topics.get(name)
        if topic is None or index >= len(topic.partitions):
            continue
        leader, leader_epoch = topic.partitions[index].leader, topic.partitions[index].leader_epoch
        if leader == broker.settings.node_id:
            _take(broker, producer_id, producer_epoch, coordinator_epoch, topic.id, index, leader_epoch)
        elif leader != NO_LEADER:
            by_topic = by_node.setdefault(leader, {})
            found = by_topic.get(topic.id)
            if found is None:
                found = by_topic[topic.id] = ControlGrant(
                    producer_id=producer_id,
                    producer_epoch=producer_epoch,
                    coordinator_epoch=coordinator_epoch,
                    topic_id=topic.id,
                )
            found.partitions.append(index)
            found.leader_epochs.append(leader_epoch)
    for node, grants in by_node.items():
        broker.control.asking.grant(node, list(grants.values()))


def take(broker: "Broker", grants: Iterable[ControlGrant]) -> None:
    """What a coordinator on another node tells."""
    for one in grants:
        producer_id, producer_epoch, coordinator_epoch = one.producer_id, one.producer_epoch, one.coordinator_epoch
        for index, leader_epoch in zip(one.partitions, one.leader_epochs, strict=False):
            _take(broker, producer_id, producer_epoch, coordinator_epoch, Uuid(one.topic_id), index, leader_epoch)


def _take(
    broker: "Broker",
    producer_id: int,
    producer_epoch: int,
    coordinator_epoch: int,
    topic_id: Uuid,
    index: int,
    leader_epoch: int,
) -> None:
    try:
        partition = broker.replicas.leader(topic_id, index)
    except ApiError:  # it is led elsewhere: who leads it asks
        return
    partition.grant(producer_id, producer_epoch, coordinator_epoch=coordinator_epoch, leader_epoch=leader_epoch)

"""Committed records → the next image and what changed.

Nothing is decided here: a record says what becomes of what it names, so that every node comes to the same. A batch
costs as much as the records in it, plus one shallow copy of each mapping that it touches: never a step per topic for
each record.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from ottla.controller.broker_records import broker_of
from ottla.controller.image import (
    INTERNAL_TOPICS,
    BrokerImage,
    MetadataDelta,
    MetadataImage,
    PartitionImage,
    ResourceKey,
    ResourceType,
    TopicImage,
)
from ottla.controller.partition_records import Change, applied, change_of, difference, partition_of
from ottla.core.errors import OttlaError
from ottla.core.types import ZERO_UUID, NodeId, Uuid
from ottla.v1 import metadata_pb2 as pb

BATCH_VERSION: Final = 1
"""What records mean is counted, so that a node stops at what it would misread. Raise it when the replay changes."""


class InvalidMetadata(OttlaError):
    """A committed record that does not fit the state before it."""


class NewerMetadata(InvalidMetadata):
    """A record that this version does not know: the node must not go on, as others understand more of the log."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the metadata log holds {what} that this version does not know: it was written by a newer version of "
            "Ottla; start that version"
        )


def batch_of(data: bytes) -> pb.MetadataBatch:
    """A committed entry or a snapshot. Raises NewerMetadata."""
    batch = pb.MetadataBatch.FromString(data)
    if batch.version > BATCH_VERSION:
        raise NewerMetadata(f"records of version {batch.version}")
    return batch


class ImageBuilder:
    """Replays records on top of `base`; `build` gives the outcome."""

    def __init__(self, base: MetadataImage) -> None:
        self._base = base
        self._topics: dict[str, TopicImage] | None = None
        self._topics_by_id: dict[Uuid, TopicImage] = {}
        self._brokers: dict[NodeId, BrokerImage] | None = None
        self._configs: dict[ResourceKey, dict[str, str]] = {}
        self._features: dict[str, int] | None = None
        self._default_configs: dict[str, str] | None = None
        self._next_producer_id = base.next_producer_id
        self._last_broker_epoch = base.last_broker_epoch
        self._open: dict[Uuid, list[PartitionImage]] = {}  # partitions of topics under change
        self._changed_topics: set[str] = set()
        self._changed_brokers: set[NodeId] = set()
        self._node_tuples: dict[tuple[int, ...], tuple[NodeId, ...]] = {}

    def replay(self, records: Iterable[pb.MetadataRecord]) -> "ImageBuilder":
        """Apply `records` in order. Raises InvalidMetadata."""
        for record in records:
            kind = record.WhichOneof("record")
            if kind is None:
                raise NewerMetadata("a record of a kind")
            _HANDLERS[kind](self, getattr(record, kind))
        return self

    def build(self, offset: int, epoch: int) -> tuple[MetadataImage, MetadataDelta]:
        """The image after the log's entry `offset` of term `epoch`, and what differs from the base."""
        for topic_id, partitions in self._open.items():
            topic = self._topics_by_id[topic_id]
            self._put_topic(TopicImage(topic.name, topic_id, tuple(partitions), topic.internal))
        base = self._base
        image = MetadataImage(
            offset=offset,
            epoch=epoch,
            topics=base.topics if self._topics is None else self._topics,
            topics_by_id=base.topics_by_id if self._topics is None else self._topics_by_id,
            brokers=base.brokers if self._brokers is None else self._brokers,
            resource_configs=self._merged_configs(),
            features=base.features if self._features is None else self._features,
            next_producer_id=self._next_producer_id,
            last_broker_epoch=self._last_broker_epoch,
            default_configs=base.default_configs if self._default_configs is None else self._default_configs,
        )
        return image, self._delta(image)

    def _delta(self, image: MetadataImage) -> MetadataDelta:
        before, after = self._base.topics, image.topics
        return MetadataDelta(
            topics={
                name: (before.get(name), after.get(name))
                for name in sorted(self._changed_topics)
                if before.get(name) is not after.get(name)
            },
            brokers=frozenset(self._changed_brokers),
            configs=frozenset(self._configs),
            features=self._features is not None,
            default_configs=self._default_configs is not None,
        )

    # Topics

    def _own_topics(self) -> dict[str, TopicImage]:
        if self._topics is None:
            self._topics = dict(self._base.topics)
            self._topics_by_id = dict(self._base.topics_by_id)
        return self._topics

    def _put_topic(self, topic: TopicImage) -> None:
        self._own_topics()[topic.name] = topic
        self._topics_by_id[topic.id] = topic
        self._changed_topics.add(topic.name)

    def _partitions(self, topic_id: bytes) -> list[PartitionImage]:
        partitions = self._open.get(Uuid(topic_id))
        if partitions is None:
            self._own_topics()
            topic = self._topics_by_id.get(Uuid(topic_id))
            if topic is None:
                raise InvalidMetadata(f"a record names the topic id {topic_id.hex()}, which does not exist")
            partitions = self._open[topic.id] = list(topic.partitions)
            self._changed_topics.add(topic.name)
        return partitions

    def _topic(self, record: pb.TopicRecord) -> None:
        if record.name in self._own_topics() or record.topic_id in self._topics_by_id:
            raise InvalidMetadata(f"the topic {record.name!r} is created twice")
        self._put_topic(TopicImage(record.name, Uuid(record.topic_id), (), record.name in INTERNAL_TOPICS))

    def _partition(self, record: pb.PartitionRecord) -> None:
        partitions = self._partitions(record.topic_id)
        if record.partition != len(partitions):
            raise InvalidMetadata(f"partition {record.partition} is created as number {len(partitions)} of its topic")
        partitions.append(partition_of(record, self._nodes))

    def _partition_change(self, record: pb.PartitionChangeRecord) -> None:
        self._change(record.topic_id, (record.partition,), change_of(record, self._nodes))

    def _partition_changes(self, record: pb.PartitionChangesRecord) -> None:
        change = change_of(record.change, self._nodes)
        for topic in record.topics:
            self._change(topic.topic_id, topic.partitions, change)

    def _change(self, topic_id: bytes, indexes: Iterable[int], change: Change) -> None:
        partitions = self._partitions(topic_id)
        for index in indexes:
            if not 0 <= index < len(partitions):
                raise InvalidMetadata(f"partition {index} is changed, of {len(partitions)} that exist")
            partitions[index] = applied(partitions[index], change)

    def _remove_topic(self, record: pb.RemoveTopicRecord) -> None:
        topics = self._own_topics()
        topic = self._topics_by_id.pop(Uuid(record.topic_id), None)
        if topic is None:
            raise InvalidMetadata(f"a removed topic id {record.topic_id.hex()} does not exist")
        del topics[topic.name]
        self._open.pop(topic.id, None)
        self._changed_topics.add(topic.name)
        key = (ResourceType.TOPIC, topic.name)
        if key in self._configs or key in self._base.resource_configs:
            self._configs[key] = {}

    def _renew_leaderships(self, record: pb.RenewLeadershipsRecord) -> None:
        led = [
            topic
            for topic in self._own_topics().values()
            if topic.id not in self._open and any(p.leader == record.broker_id for p in topic.partitions)
        ]
        for partitions in [*self._open.values(), *(self._partitions(topic.id) for topic in led)]:
            for position, partition in enumerate(partitions):
                if partition.leader == record.broker_id:
                    partitions[position] = applied(partition, difference(partition, partition, renew=True))

    def _nodes(self, ids: Iterable[int]) -> tuple[NodeId, ...]:
        # Thousands of partitions have the same few replica sets: one tuple for each set.
        key = tuple(ids)
        return self._node_tuples.setdefault(key, tuple(map(NodeId, key)))

    # Everything else

    def _own_brokers(self) -> dict[NodeId, BrokerImage]:
        if self._brokers is None:
            self._brokers = dict(self._base.brokers)
        return self._brokers

    def _register_broker(self, record: pb.RegisterBrokerRecord) -> None:
        broker = broker_of(record)
        self._own_brokers()[broker.id] = broker
        self._last_broker_epoch = max(self._last_broker_epoch, broker.epoch)
        self._changed_brokers.add(broker.id)

    def _broker_change(self, record: pb.BrokerChangeRecord) -> None:
        before = self._own_brokers().get(NodeId(record.broker_id))
        if before is None:
            raise InvalidMetadata(f"a changed broker {record.broker_id} does not exist")
        after = before
        if record.HasField("fenced"):
            after = replace(after, fenced=record.fenced)
        if record.HasField("in_controlled_shutdown"):
            after = replace(after, in_controlled_shutdown=record.in_controlled_shutdown)
        if record.HasField("directory_id"):
            after = replace(after, directory_id=Uuid(record.directory_id or ZERO_UUID))
        self._own_brokers()[before.id] = after
        self._changed_brokers.add(before.id)

    def _broker_epoch(self, record: pb.BrokerEpochRecord) -> None:
        self._last_broker_epoch = max(self._last_broker_epoch, record.last_broker_epoch)

    def _unregister_broker(self, record: pb.UnregisterBrokerRecord) -> None:
        if self._own_brokers().pop(NodeId(record.broker_id), None) is None:
            raise InvalidMetadata(f"a removed broker {record.broker_id} does not exist")
        self._changed_brokers.add(NodeId(record.broker_id))

    def _config(self, record: pb.ConfigRecord) -> None:
        key = (ResourceType(record.resource_type), record.resource_name)
        configs = self._configs.get(key)
        if configs is None:
            configs = self._configs[key] = dict(self._base.configs(*key))
        if record.HasField("value"):
            configs[record.name] = record.value
        else:
            configs.pop(record.name, None)

    def _default_config(self, record: pb.DefaultConfigRecord) -> None:
        if self._default_configs is None:
            self._default_configs = dict(self._base.default_configs)
        self._default_configs[record.name] = record.value

    def _merged_configs(self) -> Mapping[ResourceKey, Mapping[str, str]]:
        if not self._configs:
            return self._base.resource_configs
        merged: dict[ResourceKey, Mapping[str, str]] = {**self._base.resource_configs, **self._configs}
        for key, configs in self._configs.items():
            if not configs:
                del merged[key]
        return merged

    def _producer_ids(self, record: pb.ProducerIdsRecord) -> None:
        self._next_producer_id = record.next_producer_id

    def _feature_level(self, record: pb.FeatureLevelRecord) -> None:
        if self._features is None:
            self._features = dict(self._base.features)
        self._features[record.name] = record.level


_HANDLERS: Final[Mapping[str, Callable[[ImageBuilder, Any], None]]] = {
    "topic": ImageBuilder._topic,
    "partition": ImageBuilder._partition,
    "partition_change": ImageBuilder._partition_change,
    "remove_topic": ImageBuilder._remove_topic,
    "config": ImageBuilder._config,
    "register_broker": ImageBuilder._register_broker,
    "unregister_broker": ImageBuilder._unregister_broker,
    "renew_leaderships": ImageBuilder._renew_leaderships,
    "producer_ids": ImageBuilder._producer_ids,
    "feature_level": ImageBuilder._feature_level,
    "partition_changes": ImageBuilder._partition_changes,
    "broker_change": ImageBuilder._broker_change,
    "broker_epoch": ImageBuilder._broker_epoch,
    "default_config": ImageBuilder._default_config,
}

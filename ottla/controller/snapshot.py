"""An image as the records that lead to it, and the difference of two images that no records connect."""

from collections.abc import Iterator

from ottla.controller.broker_records import broker_record
from ottla.controller.image import MetadataDelta, MetadataImage
from ottla.controller.partition_records import partition_record
from ottla.v1 import metadata_pb2 as pb


def snapshot_records(image: MetadataImage) -> Iterator[pb.MetadataRecord]:
    """Replayed on an empty image, they give `image`."""
    for broker in image.brokers.values():
        yield broker_record(broker)
    if image.last_broker_epoch > max((broker.epoch for broker in image.brokers.values()), default=0):
        yield pb.MetadataRecord(broker_epoch=pb.BrokerEpochRecord(last_broker_epoch=image.last_broker_epoch))
    for topic in image.topics.values():
        yield pb.MetadataRecord(topic=pb.TopicRecord(name=topic.name, topic_id=topic.id))
        for partition in topic.partitions:
            yield partition_record(topic.id, partition)
    for name, value in image.default_configs.items():
        yield pb.MetadataRecord(default_config=pb.DefaultConfigRecord(name=name, value=value))
    for (resource_type, resource_name), configs in image.resource_configs.items():
        for name, value in configs.items():
            yield pb.MetadataRecord(
                config=pb.ConfigRecord(resource_type=resource_type, resource_name=resource_name, name=name, value=value)
            )
    for name, level in image.features.items():
        yield pb.MetadataRecord(feature_level=pb.FeatureLevelRecord(name=name, level=level))
    if image.next_producer_id:
        yield pb.MetadataRecord(
            producer_ids=pb.ProducerIdsRecord(broker_id=-1, next_producer_id=image.next_producer_id)
        )


def delta_between(before: MetadataImage, after: MetadataImage) -> MetadataDelta:
    """What a subscriber that knows `before` must learn to know `after`."""
    topics = {
        name: (before.topics.get(name), after.topics.get(name))
        for name in sorted({*before.topics, *after.topics})
        if before.topics.get(name) is not after.topics.get(name)
    }
    brokers = {*before.brokers, *after.brokers}
    keys = {*before.resource_configs, *after.resource_configs}
    return MetadataDelta(
        topics=topics,
        brokers=frozenset(b for b in brokers if before.brokers.get(b) != after.brokers.get(b)),
        configs=frozenset(k for k in keys if before.configs(*k) != after.configs(*k)),
        features=before.features != after.features,
        default_configs=before.default_configs != after.default_configs,
    )

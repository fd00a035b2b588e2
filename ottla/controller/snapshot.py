"""An image as the records that lead to it, and the difference of two images that no records connect."""

from collections.abc import Iterator

from ottla.controller.image import MetadataDelta, MetadataImage
from ottla.v1 import metadata_pb2 as pb


def snapshot_records(image: MetadataImage) -> Iterator[pb.MetadataRecord]:
    """Replayed on an empty image, they give `image`."""
    for broker in image.brokers.values():
        yield pb.MetadataRecord(
            register_broker=pb.RegisterBrokerRecord(
                broker_id=broker.id,
                incarnation_id=broker.incarnation_id,
                broker_epoch=broker.epoch,
                rack=broker.rack or "",
                endpoints=[
                    pb.BrokerEndpoint(listener=name, host=endpoint.host, port=endpoint.port)
                    for name, endpoint in broker.listeners.items()
                ],
                grpc_host=broker.grpc.host if broker.grpc else "",
                grpc_port=broker.grpc.port if broker.grpc else 0,
            )
        )
    for topic in image.topics.values():
        yield pb.MetadataRecord(topic=pb.TopicRecord(name=topic.name, topic_id=topic.id))
        for partition in topic.partitions:
            yield pb.MetadataRecord(
                partition=pb.PartitionRecord(
                    topic_id=topic.id,
                    partition=partition.index,
                    leader=partition.leader,
                    leader_epoch=partition.leader_epoch,
                    partition_epoch=partition.partition_epoch,
                    replicas=partition.replicas,
                    isr=partition.isr,
                )
            )
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
    )

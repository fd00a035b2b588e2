import itertools
from dataclasses import replace

import pytest

from ottla.controller.create_topics import create_topics
from ottla.controller.found_cluster import found_cluster
from ottla.controller.image import LeaderRecovery, MetadataDelta, MetadataImage, PartitionImage, ResourceType
from ottla.controller.producer_ids import ProducerIdBlock, allocate_producer_ids, first_producer_id
from ottla.controller.replay import ImageBuilder, InvalidMetadata
from ottla.controller.requests import NewTopic
from ottla.controller.snapshot import delta_between, snapshot_records
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import ZERO_UUID, NodeId, Uuid
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import IdSource, configs, image_of, register, registration, uuid

ONE = NodeId(1)


def full_image() -> MetadataImage:
    image = image_of(register(MetadataImage(), registration(rack="r")).records)
    topics = [NewTopic(name="a", partitions=2, configs={"flush.ms": "1"}), NewTopic(name="b")]
    image = image_of(create_topics(image, configs(image), topics, IdSource()).records, base=image)
    image = image_of(allocate_producer_ids(image, ONE).records, base=image)
    return image_of(
        [
            pb.MetadataRecord(feature_level=pb.FeatureLevelRecord(name="metadata.version", level=25)),
            pb.MetadataRecord(config=pb.ConfigRecord(resource_type=4, name="num.partitions", value="3")),
        ],
        base=image,
    )


def shape(image: MetadataImage) -> tuple[object, ...]:
    return (
        {name: (topic.id, topic.partitions, topic.internal) for name, topic in image.topics.items()},
        set(image.topics_by_id),
        dict(image.brokers),
        {key: dict(value) for key, value in image.resource_configs.items()},
        dict(image.features),
        image.next_producer_id,
    )


def test_what_a_batch_does_not_touch_stays_the_identical_object() -> None:
    before = full_image()
    change = pb.PartitionChangeRecord(topic_id=uuid(1), partition=1, leader=1)
    after, delta = ImageBuilder(before).replay([pb.MetadataRecord(partition_change=change)]).build(9, 2)
    assert after.topics["a"].partitions == (
        before.topics["a"].partitions[0],
        PartitionImage(1, ONE, 1, (ONE,), (ONE,), 1),
    )
    assert after.topics["b"] is before.topics["b"]
    assert after.brokers is before.brokers
    assert after.resource_configs is before.resource_configs
    assert delta == MetadataDelta(topics={"a": (before.topics["a"], after.topics["a"])})
    assert (after.offset, after.epoch) == (9, 2)


def test_an_image_is_never_changed_by_what_follows_it() -> None:
    image = full_image()
    kept = shape(image)
    records = [
        pb.MetadataRecord(remove_topic=pb.RemoveTopicRecord(topic_id=uuid(1))),
        pb.MetadataRecord(config=pb.ConfigRecord(resource_type=4, name="num.partitions")),
        pb.MetadataRecord(unregister_broker=pb.UnregisterBrokerRecord(broker_id=1)),
        pb.MetadataRecord(feature_level=pb.FeatureLevelRecord(name="metadata.version", level=26)),
    ]
    after, delta = ImageBuilder(image).replay(records).build(9, 1)
    assert shape(image) == kept
    assert set(after.topics) == {"b"}
    assert delta.deleted == [image.topics["a"]]
    assert delta.configs == {(ResourceType.TOPIC, "a"), (ResourceType.BROKER, "")}
    assert (dict(after.resource_configs), dict(after.brokers), delta.features) == ({}, {}, True)


def test_a_topic_deleted_and_created_again_in_one_batch_is_both() -> None:
    before = full_image()
    records = [
        pb.MetadataRecord(remove_topic=pb.RemoveTopicRecord(topic_id=uuid(1))),
        pb.MetadataRecord(topic=pb.TopicRecord(name="a", topic_id=uuid(7))),
    ]
    after, delta = ImageBuilder(before).replay(records).build(9, 1)
    assert (delta.deleted, delta.created) == ([before.topics["a"]], [after.topics["a"]])
    assert after.configs(ResourceType.TOPIC, "a") == {}


def test_a_snapshot_leads_to_the_same_image() -> None:
    image = full_image()
    again = image_of(list(snapshot_records(image)))
    assert shape(again) == shape(image)
    delta = delta_between(MetadataImage(), again)
    assert delta.created == [again.topics["a"], again.topics["b"]]
    assert delta.brokers == {ONE}


def test_a_broker_that_comes_back_leads_in_the_next_epoch_in_one_record() -> None:
    image = full_image()
    decision = register(image, registration(incarnation=2))
    assert [record.WhichOneof("record") for record in decision.records] == ["register_broker", "renew_leaderships"]
    after = image_of(decision.records, base=image)
    epochs = [(p.leader_epoch, p.partition_epoch) for topic in after.topics.values() for p in topic.partitions]
    assert epochs == [(1, 1)] * 3
    assert (decision.result, after.brokers[ONE].incarnation_id) == (2, uuid(2))


def test_the_same_incarnation_may_register_again_and_keeps_its_epochs() -> None:
    image = full_image()
    decision = register(image, registration())
    assert [record.WhichOneof("record") for record in decision.records] == ["register_broker"]
    assert image_of(decision.records, base=image).topics == image.topics


def test_producer_id_blocks_follow_each_other() -> None:
    image = image_of(register(MetadataImage(), registration()).records)
    first = allocate_producer_ids(image, ONE)
    second = allocate_producer_ids(image_of(first.records, base=image), ONE)
    assert (first.result, second.result) == (ProducerIdBlock(0, 1000), ProducerIdBlock(1000, 1000))
    with pytest.raises(ApiError) as caught:
        allocate_producer_ids(image, NodeId(9))
    assert caught.value.code is ErrorCode.BROKER_ID_NOT_REGISTERED


@pytest.mark.parametrize(
    "record",
    [
        pb.MetadataRecord(),
        pb.MetadataRecord(topic=pb.TopicRecord(name="a", topic_id=uuid(9))),
        pb.MetadataRecord(topic=pb.TopicRecord(name="new", topic_id=uuid(1))),
        pb.MetadataRecord(partition=pb.PartitionRecord(topic_id=uuid(9), partition=0)),
        pb.MetadataRecord(partition=pb.PartitionRecord(topic_id=uuid(1), partition=5)),
        pb.MetadataRecord(partition_change=pb.PartitionChangeRecord(topic_id=uuid(1), partition=2)),
        pb.MetadataRecord(
            partition_changes=pb.PartitionChangesRecord(
                topics=[pb.PartitionsOfTopic(topic_id=uuid(1), partitions=[0, 2])]
            )
        ),
        pb.MetadataRecord(
            partition_changes=pb.PartitionChangesRecord(topics=[pb.PartitionsOfTopic(topic_id=uuid(9), partitions=[0])])
        ),
        pb.MetadataRecord(broker_change=pb.BrokerChangeRecord(broker_id=9, fenced=True)),
        pb.MetadataRecord(remove_topic=pb.RemoveTopicRecord(topic_id=uuid(9))),
        pb.MetadataRecord(unregister_broker=pb.UnregisterBrokerRecord(broker_id=9)),
    ],
)
def test_records_that_do_not_fit_are_refused(record: pb.MetadataRecord) -> None:
    with pytest.raises(InvalidMetadata):
        ImageBuilder(full_image()).replay([record])


def test_one_record_changes_many_partitions_and_only_what_it_names() -> None:
    before = full_image()
    record = pb.PartitionChangesRecord(
        change=pb.PartitionChangeRecord(
            leader=-1,
            elr=pb.NodeIds(ids=[2]),
            last_known_elr=pb.NodeIds(ids=[3]),
            adding=pb.NodeIds(ids=[4]),
            removing=pb.NodeIds(ids=[5]),
            leader_recovery_state=1,
        ),
        topics=[
            pb.PartitionsOfTopic(topic_id=uuid(1), partitions=[1]),
            pb.PartitionsOfTopic(topic_id=uuid(2), partitions=[0]),
        ],
    )
    after = image_of([pb.MetadataRecord(partition_changes=record)], base=before)
    changed = PartitionImage(
        1,
        NodeId(-1),
        1,
        (ONE,),
        (ONE,),
        1,
        (NodeId(2),),
        (NodeId(3),),
        (NodeId(4),),
        (NodeId(5),),
        LeaderRecovery.RECOVERING,
    )
    assert after.topics["a"].partitions == (before.topics["a"].partitions[0], changed)
    assert after.topics["b"].partitions == (replace(changed, index=0),)
    emptied = pb.PartitionChangeRecord(topic_id=uuid(1), partition=1, elr=pb.NodeIds(), leader_recovery_state=0)
    after = image_of([pb.MetadataRecord(partition_change=emptied)], base=after)
    assert after.topics["a"].partitions[1] == replace(
        changed, partition_epoch=2, elr=(), recovery=LeaderRecovery.RECOVERED
    )
    again = image_of(list(snapshot_records(after)))
    assert shape(again) == shape(after)


def test_a_snapshot_keeps_the_clusters_defaults_and_epochs_that_were_given_out() -> None:
    image = image_of(
        found_cluster(MetadataImage(), 3, ZERO_UUID).records,
        register(MetadataImage(), registration()).records,
        [pb.MetadataRecord(unregister_broker=pb.UnregisterBrokerRecord(broker_id=1))],
    )
    again = image_of(list(snapshot_records(image)))
    assert (dict(again.default_configs), again.last_broker_epoch) == (dict(image.default_configs), 1)
    assert again.default_configs["min.insync.replicas"] == "2"
    assert delta_between(MetadataImage(), again).default_configs


def test_brokers_and_partitions_of_the_first_version_are_read_as_what_they_were() -> None:
    broker = pb.RegisterBrokerRecord(broker_id=1, incarnation_id=uuid(1), broker_epoch=3)
    topic = pb.TopicRecord(name="a", topic_id=uuid(1))
    partition = pb.PartitionRecord(topic_id=uuid(1), partition=0, leader=1, replicas=[1], isr=[1])
    image = image_of(
        [pb.MetadataRecord(register_broker=broker)],
        [pb.MetadataRecord(topic=topic), pb.MetadataRecord(partition=partition)],
    )
    assert image.brokers[ONE].is_active
    assert image.topics["a"].partitions == (PartitionImage(0, ONE, 0, (ONE,), (ONE,)),)


def test_clusters_have_producer_ids_of_their_own_that_are_exact_as_floating_point_numbers() -> None:
    clusters = [Uuid(number.to_bytes(16)) for number in range(200)]
    firsts = sorted(first_producer_id(cluster) for cluster in clusters)
    assert min(b - a for a, b in itertools.pairwise(firsts)) >= 1 << 32
    assert firsts[0] >= 1 << 32
    assert firsts[-1] + (1 << 32) <= 1 << 53
    image = image_of(found_cluster(MetadataImage(), 1, clusters[7]).records)
    image = image_of(register(image, registration()).records, base=image)
    assert allocate_producer_ids(image, ONE).result.first == first_producer_id(clusters[7])

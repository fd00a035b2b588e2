from collections.abc import Sequence

import pytest

from ottla.controller.create_partitions import create_partitions
from ottla.controller.create_topics import create_topics
from ottla.controller.decision import Decision
from ottla.controller.delete_topics import delete_topics
from ottla.controller.image import MetadataImage
from ottla.controller.requests import CreatedTopic, MorePartitions, NewTopic, TopicRef
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import ZERO_UUID
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import IdSource, configs, image_of, register, registration, uuid


@pytest.fixture
def image() -> MetadataImage:
    return image_of(register(MetadataImage(), registration()).records)


@pytest.fixture
def three_brokers(image: MetadataImage) -> MetadataImage:
    for node in (2, 3):
        image = image_of(register(image, registration(node)).records, base=image)
    return image


def create(
    image: MetadataImage, *topics: NewTopic, static: dict[str, str] | None = None
) -> Decision[list[CreatedTopic]]:
    return create_topics(image, configs(image, static), topics, IdSource())


def with_topic(image: MetadataImage, topic: NewTopic) -> MetadataImage:
    return image_of(create(image, topic).records, base=image)


def partition(index: int, replicas: Sequence[int] = (1,)) -> pb.MetadataRecord:
    return pb.MetadataRecord(
        partition=pb.PartitionRecord(
            topic_id=uuid(1), partition=index, leader=replicas[0], replicas=replicas, isr=replicas
        )
    )


def code(image: MetadataImage, topic: NewTopic) -> ErrorCode:
    (created,) = create(image, topic).result
    assert created.error is not None
    return created.error.code


def test_a_topic_becomes_one_record_and_one_for_each_partition_and_config(image: MetadataImage) -> None:
    decision = create(image, NewTopic(name="a", partitions=2, configs={"retention.ms": " 5 "}))
    assert decision.records == [
        pb.MetadataRecord(topic=pb.TopicRecord(name="a", topic_id=uuid(1))),
        partition(0),
        partition(1),
        pb.MetadataRecord(config=pb.ConfigRecord(resource_type=2, resource_name="a", name="retention.ms", value="5")),
    ]
    (created,) = decision.result
    assert (created.error, created.id, created.partitions, created.replication_factor) == (None, uuid(1), 2, 1)


def test_minus_one_means_the_clusters_defaults(three_brokers: MetadataImage) -> None:
    (created,) = create(
        three_brokers, NewTopic(name="a"), static={"num.partitions": "4", "default.replication.factor": "2"}
    ).result
    assert (created.partitions, created.replication_factor) == (4, 2)


def test_leaders_take_turns_and_followers_come_after_them(three_brokers: MetadataImage) -> None:
    records = create(three_brokers, NewTopic(name="a", partitions=4, replication_factor=2)).records
    assert records[1:] == [partition(0, (1, 2)), partition(1, (2, 3)), partition(2, (3, 1)), partition(3, (1, 3))]


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 250, "a b", "ä", "a/b", "a\n"])
def test_names_that_kafka_refuses_are_refused(image: MetadataImage, name: str) -> None:
    assert code(image, NewTopic(name=name, partitions=1)) is ErrorCode.INVALID_TOPIC_EXCEPTION


@pytest.mark.parametrize("name", ["a" * 249, "a.b-c_D9", "..."])
def test_names_that_kafka_takes_are_taken(image: MetadataImage, name: str) -> None:
    assert create(image, NewTopic(name=name)).result[0].error is None


@pytest.mark.parametrize(("first", "second"), [("a.b", "a_b"), ("a_b.c", "a.b_c")])
def test_dot_and_underscore_collide(image: MetadataImage, first: str, second: str) -> None:
    assert code(with_topic(image, NewTopic(name=first)), NewTopic(name=second)) is ErrorCode.INVALID_TOPIC_EXCEPTION
    one, two = create(image, NewTopic(name=first), NewTopic(name=second)).result
    assert one.error is None
    assert two.error is not None
    assert two.error.code is ErrorCode.INVALID_TOPIC_EXCEPTION


def test_an_existing_name_is_refused_and_the_rest_of_the_request_goes_on(image: MetadataImage) -> None:
    existing = with_topic(image, NewTopic(name="a"))
    decision = create(existing, NewTopic(name="a"), NewTopic(name="b"))
    assert [topic.error and topic.error.code for topic in decision.result] == [ErrorCode.TOPIC_ALREADY_EXISTS, None]
    assert [record.topic.name for record in decision.records if record.HasField("topic")] == ["b"]


def test_a_name_that_stands_twice_is_not_created(image: MetadataImage) -> None:
    decision = create(image, NewTopic(name="a"), NewTopic(name="b"), NewTopic(name="a"))
    assert [(topic.name, topic.error and topic.error.code) for topic in decision.result] == [
        ("a", ErrorCode.INVALID_REQUEST),
        ("b", None),
    ]


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (NewTopic(name="__cluster_metadata"), ErrorCode.TOPIC_AUTHORIZATION_FAILED),
        (NewTopic(name="a", partitions=0), ErrorCode.INVALID_PARTITIONS),
        (NewTopic(name="a", partitions=-2), ErrorCode.INVALID_PARTITIONS),
        (NewTopic(name="a", partitions=10_001), ErrorCode.INVALID_PARTITIONS),
        (NewTopic(name="a", replication_factor=0), ErrorCode.INVALID_REPLICATION_FACTOR),
        (NewTopic(name="a", replication_factor=2), ErrorCode.INVALID_REPLICATION_FACTOR),
        (NewTopic(name="a", partitions=1, assignments=[(0, [1])]), ErrorCode.INVALID_REQUEST),
        (NewTopic(name="a", replication_factor=1, assignments=[(0, [1])]), ErrorCode.INVALID_REQUEST),
        (NewTopic(name="a", assignments=[(0, [])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="a", assignments=[(0, [1, 1])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="a", assignments=[(0, [9])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="a", assignments=[(1, [1])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="a", assignments=[(0, [1]), (0, [1])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="a", configs={"retention.ms": None}), ErrorCode.INVALID_CONFIG),
        (NewTopic(name="a", configs={"retention.msec": "1"}), ErrorCode.INVALID_CONFIG),
        (NewTopic(name="a", configs={"segment.bytes": "1"}), ErrorCode.INVALID_CONFIG),
        (
            NewTopic(name="a", configs={"min.compaction.lag.ms": "2", "max.compaction.lag.ms": "1"}),
            ErrorCode.INVALID_CONFIG,
        ),
    ],
)
def test_what_is_refused(image: MetadataImage, topic: NewTopic, expected: ErrorCode) -> None:
    assert code(image, topic) is expected
    assert create(image, topic).records == []


def test_a_manual_assignment_is_taken_as_it_is(three_brokers: MetadataImage) -> None:
    records = create(three_brokers, NewTopic(name="a", assignments=[(1, [3, 1]), (0, [2, 3])])).records
    assert records[1:] == [partition(0, (2, 3)), partition(1, (3, 1))]


def test_a_request_for_too_many_partitions_is_refused_whole(image: MetadataImage) -> None:
    topics = [NewTopic(name=f"t{n}", partitions=1000) for n in range(11)]
    with pytest.raises(ApiError) as caught:
        create(image, *topics)
    assert caught.value.code is ErrorCode.POLICY_VIOLATION


def test_ten_thousand_partitions_fit_into_one_request(image: MetadataImage) -> None:
    topics = [NewTopic(name=f"t{n}", partitions=1000) for n in range(10)]
    decision = create(image, *topics)
    assert image_of(decision.records, base=image).partition_count == 10_000


def test_topics_are_deleted_by_name_or_id_with_their_configs(image: MetadataImage) -> None:
    image = with_topic(image, NewTopic(name="a", configs={"retention.ms": "5"}))
    for ref in (TopicRef(name="a"), TopicRef(id=uuid(1))):
        decision = delete_topics(image, configs(image), [ref])
        assert decision.records == [pb.MetadataRecord(remove_topic=pb.RemoveTopicRecord(topic_id=uuid(1)))]
        assert [(topic.name, topic.id, topic.error) for topic in decision.result] == [("a", uuid(1), None)]
        gone = image_of(decision.records, base=image)
        assert (dict(gone.topics), dict(gone.topics_by_id), dict(gone.resource_configs)) == ({}, {}, {})


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        (TopicRef(name="b"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TopicRef(id=uuid(9)), ErrorCode.UNKNOWN_TOPIC_ID),
        (TopicRef(name="a", id=uuid(1)), ErrorCode.INVALID_REQUEST),
        (TopicRef(), ErrorCode.INVALID_REQUEST),
        (TopicRef(id=ZERO_UUID), ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_cannot_be_deleted(image: MetadataImage, ref: TopicRef, expected: ErrorCode) -> None:
    image = with_topic(image, NewTopic(name="a"))
    decision = delete_topics(image, configs(image), [ref])
    assert [topic.error and topic.error.code for topic in decision.result] == [expected]
    assert decision.records == []


def test_a_topic_named_twice_is_deleted_once(image: MetadataImage) -> None:
    image = with_topic(image, NewTopic(name="a"))
    decision = delete_topics(image, configs(image), [TopicRef(name="a"), TopicRef(id=uuid(1))])
    assert [topic.error and topic.error.code for topic in decision.result] == [None, ErrorCode.INVALID_REQUEST]
    assert len(decision.records) == 1


def test_deletion_can_be_disabled(image: MetadataImage) -> None:
    with pytest.raises(ApiError) as caught:
        delete_topics(image, configs(image, {"delete.topic.enable": "false"}), [TopicRef(name="a")])
    assert caught.value.code is ErrorCode.TOPIC_DELETION_DISABLED


def test_new_partitions_continue_the_turns_of_leaders(three_brokers: MetadataImage) -> None:
    image = with_topic(three_brokers, NewTopic(name="a", partitions=2))
    decision = create_partitions(image, [MorePartitions(topic="a", count=4)])
    assert decision.result == [("a", None)]
    assert decision.records == [partition(2, (3,)), partition(3, (1,))]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (MorePartitions(topic="b", count=3), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (MorePartitions(topic="a", count=2), ErrorCode.INVALID_PARTITIONS),
        (MorePartitions(topic="a", count=1), ErrorCode.INVALID_PARTITIONS),
        (MorePartitions(topic="a", count=20_000), ErrorCode.INVALID_PARTITIONS),
        (MorePartitions(topic="a", count=3, assignments=[]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (MorePartitions(topic="a", count=3, assignments=[[9]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (MorePartitions(topic="a", count=3, assignments=[[1, 2]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_partitions_that_cannot_be_added(
    three_brokers: MetadataImage, request_: MorePartitions, expected: ErrorCode
) -> None:
    image = with_topic(three_brokers, NewTopic(name="a", partitions=2))
    decision = create_partitions(image, [request_])
    assert [error and error.code for _, error in decision.result] == [expected]
    assert decision.records == []


@pytest.mark.parametrize("name", ["__consumer_offsets", "__transaction_state"])
def test_a_coordinators_topic_keeps_its_number_of_partitions(three_brokers: MetadataImage, name: str) -> None:
    """By it groups and transactional ids find their partition: with another one their offsets would seem gone."""
    image = with_topic(three_brokers, NewTopic(name=name, partitions=2))
    decision = create_partitions(image, [MorePartitions(topic=name, count=3)])
    assert [error and error.code for _, error in decision.result] == [ErrorCode.INVALID_PARTITIONS]
    assert decision.records == []

import pytest

from ottla.controller.alter_configs import alter_configs
from ottla.controller.create_topics import create_topics
from ottla.controller.effective import ConfigSource, SourcedValue
from ottla.controller.image import MetadataImage, ResourceType
from ottla.controller.requests import AlterResource, ConfigChange, ConfigOperation, NewTopic
from ottla.core.error_codes import ErrorCode
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import IdSource, configs, image_of, register, registration

SET, DELETE, APPEND, SUBTRACT = ConfigOperation
TOPIC, BROKER = ResourceType.TOPIC, ResourceType.BROKER


@pytest.fixture
def image() -> MetadataImage:
    image = image_of(register(MetadataImage(), registration()).records)
    topic = NewTopic(name="a", configs={"retention.ms": "5", "segment.ms": "7"})
    return image_of(create_topics(image, configs(image), [topic], IdSource()).records, base=image)


def resource(
    *changes: tuple[str, ConfigOperation, str | None],
    kind: ResourceType = TOPIC,
    name: str = "a",
    replace_all: bool = False,
) -> AlterResource:
    return AlterResource(
        type=kind,
        name=name,
        changes=[ConfigChange(name=key, operation=operation, value=value) for key, operation, value in changes],
        replace_all=replace_all,
    )


def record(key: str, value: str | None, kind: ResourceType = TOPIC, name: str = "a") -> pb.MetadataRecord:
    return pb.MetadataRecord(config=pb.ConfigRecord(resource_type=kind, resource_name=name, name=key, value=value))


def altered(image: MetadataImage, *resources: AlterResource) -> list[pb.MetadataRecord]:
    decision = alter_configs(image, configs(image), resources)
    assert decision.result == [None] * len(resources)
    return decision.records


def test_only_what_differs_is_written(image: MetadataImage) -> None:
    assert altered(image, resource(("retention.ms", SET, "5"), ("flush.ms", SET, "9"))) == [record("flush.ms", "9")]


def test_replacing_all_deletes_what_is_not_named(image: MetadataImage) -> None:
    records = altered(image, resource(("retention.ms", SET, "6"), replace_all=True))
    assert records == [record("segment.ms", None), record("retention.ms", "6")]
    assert image_of(records, base=image).configs(TOPIC, "a") == {"retention.ms": "6"}


def test_deleting_takes_the_default_back(image: MetadataImage) -> None:
    assert altered(image, resource(("retention.ms", DELETE, None))) == [record("retention.ms", None)]
    assert altered(image, resource(("flush.ms", DELETE, None))) == []


def test_lists_are_appended_to_and_subtracted_from_starting_with_the_inherited_value(image: MetadataImage) -> None:
    records = altered(image, resource(("cleanup.policy", APPEND, "compact,delete")))
    assert records == [record("cleanup.policy", "delete,compact")]
    image = image_of(records, base=image)
    assert altered(image, resource(("cleanup.policy", SUBTRACT, "delete"))) == [record("cleanup.policy", "compact")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (resource(("retention.msec", SET, "5")), ErrorCode.INVALID_CONFIG),
        (resource(("retention.ms", SET, "soon")), ErrorCode.INVALID_CONFIG),
        (resource(("retention.ms", APPEND, "5")), ErrorCode.INVALID_CONFIG),
        (resource(("cleanup.policy", APPEND, "shred")), ErrorCode.INVALID_CONFIG),
        (resource(("retention.ms", SET, None)), ErrorCode.INVALID_REQUEST),
        (resource(("retention.ms", SET, "5"), ("retention.ms", SET, "6")), ErrorCode.INVALID_REQUEST),
        (resource(("", SET, "5")), ErrorCode.INVALID_REQUEST),
        (resource(name="b"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (resource(name="b b"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (resource(kind=BROKER, name="7"), ErrorCode.INVALID_REQUEST),
        (resource(("node.id", SET, "2"), kind=BROKER, name="1"), ErrorCode.INVALID_REQUEST),
        (resource(("retention.ms", SET, "2"), kind=BROKER, name="1"), ErrorCode.INVALID_CONFIG),
        (resource(kind=ResourceType.CLIENT_METRICS, name="x"), ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_refused(image: MetadataImage, change: AlterResource, expected: ErrorCode) -> None:
    decision = alter_configs(image, configs(image), [change, resource(("flush.ms", SET, "1"), name="a")][:1])
    assert [error and error.code for error in decision.result] == [expected]
    assert decision.records == []


def test_one_wrong_key_leaves_the_whole_resource_and_no_other_unchanged(image: MetadataImage) -> None:
    wrong = resource(("flush.ms", SET, "9"), ("flush.messages", SET, "0"))
    decision = alter_configs(
        image, configs(image), [wrong, resource(("num.partitions", SET, "3"), kind=BROKER, name="")]
    )
    assert [error and error.message for error in decision.result] == [
        "Invalid value '0' for configuration flush.messages: allowed is a whole number (records) at least 1.",
        None,
    ]
    assert decision.records == [record("num.partitions", "3", BROKER, "")]


def test_a_resource_that_stands_twice_is_not_changed(image: MetadataImage) -> None:
    decision = alter_configs(image, configs(image), [resource(("flush.ms", SET, "9"))] * 2)
    assert [error and error.code for error in decision.result] == [ErrorCode.INVALID_REQUEST] * 2
    assert decision.records == []


def test_the_order_of_sources(image: MetadataImage) -> None:
    image = image_of(
        [record("log.retention.ms", "30", BROKER, ""), record("log.retention.ms", "20", BROKER, "1")], base=image
    )
    values = configs(image, {"log.retention.hours": "2"}).topic_candidates("a", "retention.ms")
    assert values == [
        SourcedValue("retention.ms", "5", ConfigSource.DYNAMIC_TOPIC, "5"),
        SourcedValue("log.retention.ms", "20", ConfigSource.DYNAMIC_BROKER, "20"),
        SourcedValue("log.retention.ms", "30", ConfigSource.DYNAMIC_DEFAULT_BROKER, "30"),
        SourcedValue("log.retention.hours", "2", ConfigSource.STATIC_BROKER, "7200000"),
        SourcedValue("log.retention.hours", "168", ConfigSource.DEFAULT, "604800000"),
    ]


def test_brokers_defaults_reach_topics_in_the_topics_unit(image: MetadataImage) -> None:
    effective = configs(image, {"log.retention.minutes": "3", "log.roll.hours": "1", "ottla.flush.on.ack": "false"})
    assert effective.topic_configs("a") == {"retention.ms": "5", "segment.ms": "7", "ottla.flush.on.ack": "false"}
    assert effective.topic_configs("b") == {
        "retention.ms": "180000",
        "segment.ms": "3600000",
        "ottla.flush.on.ack": "false",
    }


def test_replacing_all_leaves_a_mirror_a_mirror(image: MetadataImage) -> None:
    source = "ottla.mirror.source"
    image = image_of(altered(image, resource((source, SET, "cluster/topic/a"))), base=image)
    image = image_of(altered(image, resource(("retention.ms", SET, "6"), replace_all=True)), base=image)
    assert image.configs(TOPIC, "a") == {source: "cluster/topic/a", "retention.ms": "6"}


SOURCE, STATE, NOTE = "ottla.mirror.source", "ottla.mirror.state", "ottla.mirror.promoted"
COPY, ENDS, LATER = "cluster/topic/a", "cluster/topic/a@5,7", "cluster/topic/a@6,7"
Step = tuple[str, ConfigOperation, str | None]


@pytest.mark.parametrize(
    ("before", "changes", "why_not"),
    [
        ({SOURCE: COPY}, [(STATE, SET, "promoting"), (NOTE, DELETE, None)], None),
        ({SOURCE: COPY, NOTE: LATER}, [(STATE, SET, "promoting"), (NOTE, DELETE, None)], None),  # it was taken back
        ({SOURCE: COPY, STATE: "promoting"}, [(NOTE, SET, ENDS)], None),
        ({SOURCE: COPY, STATE: "promoting", NOTE: ENDS}, [(NOTE, SET, ENDS)], None),
        ({SOURCE: COPY, STATE: "promoting", NOTE: ENDS}, [(SOURCE, DELETE, None), (STATE, DELETE, None)], None),
        ({SOURCE: COPY, STATE: "promoting"}, [(STATE, SET, "copying")], None),
        ({NOTE: ENDS}, [(SOURCE, SET, "other/topic/a"), (NOTE, DELETE, None)], None),  # the way back
        # What a promotion does that another one has overtaken:
        ({NOTE: ENDS}, [(STATE, SET, "promoting"), (NOTE, DELETE, None)], "it is no mirror topic"),
        ({SOURCE: COPY, STATE: "promoting", NOTE: ENDS}, [(NOTE, DELETE, None)], "promoted already, and ends at 5,7"),
        ({SOURCE: COPY, STATE: "promoting", NOTE: ENDS}, [(NOTE, SET, LATER)], "promoted already, and ends at 5,7"),
        ({NOTE: ENDS}, [(NOTE, SET, LATER)], "not being promoted as a mirror of cluster/topic/a"),
        ({SOURCE: "other/topic/a", STATE: "promoting"}, [(NOTE, SET, ENDS)], "not being promoted as a mirror of"),
        ({SOURCE: COPY}, [(SOURCE, DELETE, None), (STATE, DELETE, None)], "`ottla mirror promote`"),
    ],
)
def test_of_promotions_at_once_the_first_notes_where_the_mirror_ends(
    image: MetadataImage, before: dict[str, str], changes: list[Step], why_not: str | None
) -> None:
    image = image_of([record(name, value) for name, value in before.items()], base=image)
    decision = alter_configs(image, configs(image), [resource(*changes)])
    if why_not is None:
        assert decision.result == [None]
    else:
        [error] = decision.result
        assert error is not None
        assert error.code is ErrorCode.POLICY_VIOLATION
        assert why_not in str(error)
        assert decision.records == []

"""The decision on new topics."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ottla.controller.decision import Decision, refuse_duplicates
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import MetadataImage, ResourceType
from ottla.controller.placement import check_assignment, place
from ottla.controller.requests import CreatedTopic, NewTopic
from ottla.controller.topic_names import collision_key, why_invalid
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, ConfigError
from ottla.core.topic_configs import TOPIC_CONFIGS, check_together
from ottla.core.types import NodeId, Uuid
from ottla.v1 import metadata_pb2 as pb

MAX_PARTITIONS_PER_BATCH = 10_000
METADATA_TOPIC = "__cluster_metadata"  # how Kafka's tools call the metadata log


def create_topics(
    image: MetadataImage,
    defaults: EffectiveConfigs,
    topics: Sequence[NewTopic],
    new_id: Callable[[], Uuid],
    start: int = 0,
) -> Decision[list[CreatedTopic]]:
    """Each topic succeeds or fails by itself; a name that stands twice in one request fails.

    Brokers lead in turn, from turn `start` on. A topic's records stay in one batch.

    Raises ApiError(POLICY_VIOLATION) when the whole request asks for more than a batch may hold.
    """
    names = Counter(topic.name for topic in topics)
    decision: Decision[list[CreatedTopic]] = Decision([])
    taken = _Names(image)
    partitions = 0
    for topic in {topic.name: topic for topic in topics}.values():
        try:
            refuse_duplicates(names[topic.name], "topic")
            taken.check(topic.name)
            created, records = _create(image, defaults, topic, new_id, start + partitions)
            taken.add(topic.name)
        except ApiError as error:
            decision.result.append(CreatedTopic(name=topic.name, error=error))
            continue
        partitions += created.partitions
        decision.result.append(created)
        decision.records += records
        decision.breaks.append(len(decision.records))
        if partitions > MAX_PARTITIONS_PER_BATCH:
            raise ApiError(
                ErrorCode.POLICY_VIOLATION,
                f"Excessively large number of partitions per request: more than {MAX_PARTITIONS_PER_BATCH}.",
            )
    return decision


class _Names:
    """The names that exist and those that this request adds."""

    def __init__(self, image: MetadataImage) -> None:
        self._image = image
        self._by_key: dict[str, str] | None = None

    def check(self, name: str) -> None:
        if reason := why_invalid(name):
            raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, reason)
        if name == METADATA_TOPIC:
            raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED, f"The name {name} is the metadata log's own.")
        if name in self._image.topics:
            raise ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        if "." not in name and "_" not in name:
            return
        if self._by_key is None:
            self._by_key = {collision_key(n): n for n in self._image.topics if "." in n or "_" in n}
        other = self._by_key.get(collision_key(name))
        if other is not None:
            raise ApiError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"Topic '{name}' collides with the existing topic '{other}': '.' and '_' count as the same.",
            )

    def add(self, name: str) -> None:
        if self._by_key is not None:
            self._by_key[collision_key(name)] = name


def _create(
    image: MetadataImage, defaults: EffectiveConfigs, topic: NewTopic, new_id: Callable[[], Uuid], start: int
) -> tuple[CreatedTopic, list[pb.MetadataRecord]]:
    assignments = _assignments(image, defaults, topic, start)
    configs = _configs(defaults, topic.configs)
    topic_id = new_id()
    records = [pb.MetadataRecord(topic=pb.TopicRecord(name=topic.name, topic_id=topic_id))]
    records += partition_records(image, topic_id, 0, assignments)
    records += [
        pb.MetadataRecord(
            config=pb.ConfigRecord(resource_type=ResourceType.TOPIC, resource_name=topic.name, name=name, value=value)
        )
        for name, value in configs.items()
    ]
    created = CreatedTopic(
        name=topic.name,
        id=topic_id,
        partitions=len(assignments),
        replication_factor=len(assignments[0]),
        configs=configs,
    )
    return created, records


def partition_records(
    image: MetadataImage, topic_id: Uuid, first: int, assignments: Sequence[tuple[NodeId, ...]]
) -> list[pb.MetadataRecord]:
    """New partitions: every active replica is in sync, as there is nothing to copy yet; the first of them leads.

    Raises ApiError(INVALID_REPLICA_ASSIGNMENT) when none is active.
    """
    active = image.active_brokers
    records = []
    for index, replicas in enumerate(assignments, first):
        isr = tuple([replica for replica in replicas if replica in active])
        if not isr:
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Partition {index}: all of its brokers {list(replicas)} are fenced or in controlled shutdown.",
            )
        record = pb.PartitionRecord(topic_id=topic_id, partition=index, leader=isr[0], replicas=replicas, isr=isr)
        records.append(pb.MetadataRecord(partition=record))
    return records


def _assignments(
    image: MetadataImage, defaults: EffectiveConfigs, topic: NewTopic, start: int
) -> list[tuple[NodeId, ...]]:
    if topic.assignments:
        return _manual(image, topic)
    partitions = topic.partitions
    if partitions == -1:
        partitions = defaults.integer("num.partitions")
    elif partitions < 1:
        raise ApiError(
            ErrorCode.INVALID_PARTITIONS, f"Number of partitions was {partitions}; set it to 1 or more, or -1."
        )
    factor = topic.replication_factor
    if factor == -1:
        factor = defaults.integer("default.replication.factor")
    elif factor < 1:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR, f"Replication factor was {factor}; set it to 1 or more, or -1."
        )
    if partitions > MAX_PARTITIONS_PER_BATCH:
        raise ApiError(
            ErrorCode.INVALID_PARTITIONS,
            f"{partitions} partitions are more than the {MAX_PARTITIONS_PER_BATCH} that one request may create.",
        )
    return place(image, start, partitions, factor)


def _manual(image: MetadataImage, topic: NewTopic) -> list[tuple[NodeId, ...]]:
    if topic.partitions != -1:
        raise ApiError(ErrorCode.INVALID_REQUEST, "With a manual assignment the number of partitions must be -1.")
    if topic.replication_factor != -1:
        raise ApiError(ErrorCode.INVALID_REQUEST, "With a manual assignment the replication factor must be -1.")
    by_index: dict[int, tuple[NodeId, ...]] = {}
    for index, replicas in topic.assignments:
        if index in by_index:
            raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"Partition {index} is assigned twice.")
        by_index[index] = check_assignment(image, index, replicas)
        if len(by_index[index]) != len(next(iter(by_index.values()))):
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT, "All partitions of a topic need the same number of replicas."
            )
    if sorted(by_index) != list(range(len(by_index))):
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "The partitions must be numbered from 0 on, without a gap."
        )
    return [by_index[index] for index in range(len(by_index))]


def _configs(defaults: EffectiveConfigs, configs: Mapping[str, str | None]) -> dict[str, str]:
    checked = {}
    for name, value in configs.items():
        if value is None:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"{name}: a value is needed; leave the key out for the default.")
        checked[name] = value.strip()
    try:
        TOPIC_CONFIGS.validate(checked)
        check_together({**defaults.topic_defaults(), **checked})
    except ConfigError as error:
        raise ApiError(ErrorCode.INVALID_CONFIG, str(error)) from error
    return checked

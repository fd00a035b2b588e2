"""The decision on more partitions for topics that exist."""

from collections import Counter
from collections.abc import Sequence

from ottla.controller.create_topics import MAX_PARTITIONS_PER_BATCH, partition_records
from ottla.controller.decision import Decision, refuse_duplicates
from ottla.controller.image import MetadataImage
from ottla.controller.placement import check_assignment, place
from ottla.controller.requests import MorePartitions
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.v1 import metadata_pb2 as pb


def create_partitions(
    image: MetadataImage, topics: Sequence[MorePartitions], start: int = 0
) -> Decision[list[tuple[str, ApiError | None]]]:
    """Each topic succeeds or fails by itself; one that stands twice in the request fails.

    Brokers lead in turn, from turn `start` and the topic's number of partitions on.
    """
    counts = Counter(topic.topic for topic in topics)
    decision: Decision[list[tuple[str, ApiError | None]]] = Decision([])
    for request in {topic.topic: topic for topic in topics}.values():
        try:
            refuse_duplicates(counts[request.topic], "topic")
            records = _add(image, request, start)
        except ApiError as error:
            decision.result.append((request.topic, error))
            continue
        decision.records += records
        decision.breaks.append(len(decision.records))
        if len(decision.records) > MAX_PARTITIONS_PER_BATCH:
            raise ApiError(
                ErrorCode.POLICY_VIOLATION,
                f"Excessively large number of partitions per request: more than {MAX_PARTITIONS_PER_BATCH}.",
            )
        decision.result.append((request.topic, None))
    return decision


def _add(image: MetadataImage, request: MorePartitions, start: int) -> list[pb.MetadataRecord]:
    topic = image.topics.get(request.topic)
    if topic is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    current = len(topic.partitions)
    if topic.internal:
        raise ApiError(
            ErrorCode.INVALID_PARTITIONS,
            f"The number of partitions of {topic.name} stays as it is: by it groups and transactional ids find the one "
            "that has their records.",
        )
    if request.count == current:
        raise ApiError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {current} partition(s).")
    if request.count < current:
        raise ApiError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {topic.name} has {current} partition(s); {request.count} would not be an increase.",
        )
    added = request.count - current
    factor = len(topic.partitions[0].target_replicas)
    if request.assignments is None:
        if added > MAX_PARTITIONS_PER_BATCH:
            raise ApiError(
                ErrorCode.INVALID_PARTITIONS,
                f"{added} partitions are more than the {MAX_PARTITIONS_PER_BATCH} that one request may create.",
            )
        return partition_records(image, topic.id, current, place(image, start + current, added, factor))
    if len(request.assignments) != added:
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"{added} partition(s) are to be added, but {len(request.assignments)} are assigned.",
        )
    assignments = [
        check_assignment(image, current + position, replicas) for position, replicas in enumerate(request.assignments)
    ]
    if any(len(replicas) != factor for replicas in assignments):
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"The topic's other partitions have {factor} replica(s); the new ones must have as many.",
        )
    return partition_records(image, topic.id, current, assignments)

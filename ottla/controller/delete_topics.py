"""The decision on topics to delete."""

from collections.abc import Sequence

from ottla.controller.decision import Decision, refuse_duplicates
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import MetadataImage, TopicImage
from ottla.controller.requests import DeletedTopic, TopicRef
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import ZERO_UUID, Uuid
from ottla.v1 import metadata_pb2 as pb


def delete_topics(
    image: MetadataImage, defaults: EffectiveConfigs, topics: Sequence[TopicRef]
) -> Decision[list[DeletedTopic]]:
    """Each topic succeeds or fails by itself. Raises ApiError(TOPIC_DELETION_DISABLED)."""
    if not defaults.boolean("delete.topic.enable"):
        raise ApiError(ErrorCode.TOPIC_DELETION_DISABLED, "delete.topic.enable is false.")
    decision: Decision[list[DeletedTopic]] = Decision([])
    deleted: set[Uuid] = set()
    for ref in topics:
        try:
            topic = _find(image, ref)
            refuse_duplicates(1 + (topic.id in deleted), "topic")
        except ApiError as error:
            decision.result.append(DeletedTopic(name=ref.name, id=ref.id or ZERO_UUID, error=error))
            continue
        deleted.add(topic.id)
        decision.result.append(DeletedTopic(name=topic.name, id=topic.id))
        decision.records.append(pb.MetadataRecord(remove_topic=pb.RemoveTopicRecord(topic_id=topic.id)))
    return decision


def _find(image: MetadataImage, ref: TopicRef) -> TopicImage:
    if ref.name is not None and ref.id is not None:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Name a topic by its name or by its id, not by both.")
    if ref.name is not None:
        topic = image.topics.get(ref.name)
        if topic is None:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return topic
    if ref.id is None or ref.id == ZERO_UUID:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Neither a topic's name nor its id was given.")
    topic = image.topics_by_id.get(ref.id)
    if topic is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_ID)
    return topic

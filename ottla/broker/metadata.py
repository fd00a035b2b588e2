"""Metadata: which topics there are and who leads their partitions; missing topics are created when that is allowed.

A client that asks for a missing topic waits until it exists: that costs it one commit, where an answer of
LEADER_NOT_AVAILABLE would cost it a back-off and another request.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from ottla.broker.authorized_operations import CLUSTER_OPERATIONS, NOT_ASKED_FOR, TOPIC_OPERATIONS
from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.broker.metadata_answer import MetadataAnswer
from ottla.controller.image import INTERNAL_TOPICS, TopicImage
from ottla.controller.requests import NewTopic
from ottla.controller.topic_names import why_invalid
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import ZERO_UUID, NodeId, Uuid, format_uuid
from ottla.protocol.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.metadata_response import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponseTopic,
)

CONTENT_MS: Final = 1_000.0
NEWS_S: Final = 0.03
"""For the news that a broker is gone; what other clients ask every few minutes may take so long, too."""

_EMPTY_MEANS_NONE_SINCE: Final = 1
_TOPICS_BY_ID_SINCE: Final = 12

Described = TopicImage | MetadataResponseTopic


async def metadata(broker: Broker, request: MetadataRequest, context: RequestContext) -> MetadataAnswer:
    """The decision: topics stand in it as their images, which a door encodes."""
    if _was_content(broker, context):
        await asyncio.sleep(NEWS_S)
    wanted = request.topics
    if wanted is None or (not wanted and context.api_version < _EMPTY_MEANS_NONE_SINCE):
        topics: list[Described] = list(broker.image.topics.values())
    else:
        if request.allow_auto_topic_creation and broker.configs.boolean("auto.create.topics.enable"):
            refused = await _create_missing(broker, wanted)
        else:
            refused = {}
        topics = [_describe(broker, topic, refused, context) for topic in _unique(wanted)]
    image = broker.image
    include_operations = request.include_topic_authorized_operations
    return MetadataAnswer(
        response=MetadataResponse(
            brokers=_brokers(broker, context.listener),
            cluster_id=format_uuid(broker.settings.cluster_id),
            controller_id=_asked_as_controller(broker, context.listener),
            cluster_authorized_operations=(
                CLUSTER_OPERATIONS if request.include_cluster_authorized_operations else NOT_ASKED_FOR
            ),
        ),
        topics=topics,
        live_brokers=frozenset(
            one.id for one in image.brokers.values() if not one.fenced and not broker.departures.is_doubtful(one.id)
        ),
        topic_authorized_operations=TOPIC_OPERATIONS if include_operations else NOT_ASKED_FOR,
    )


def _asked_as_controller(broker: Broker, listener: str) -> NodeId:
    """Any broker passes on what is the controller's to decide (KIP-590).

    librdkafka's admin client goes on asking the one that is named, also when that is gone: so it is not the active
    controller but this broker, to which the client has a connection; or another one when this one is about to stop,
    of those that the client is told how to reach.
    """
    this = broker.settings.node_id
    brokers = broker.image.brokers
    if (known := brokers.get(this)) is None or known.is_active:
        return this
    others = (
        one.id
        for one in brokers.values()
        if one.is_active and listener in one.listeners and not broker.departures.is_doubtful(one.id)
    )
    return next(others, this)


def _was_content(broker: Broker, context: RequestContext) -> bool:
    """Whether a client asks that had no questions for a while.

    It may have lost the connection to a broker some milliseconds before this node does, and a client that is told the
    dead leader once more (`departures`) loses a second by it.
    """
    if context.content_since_ms is None:
        return False
    now_ms, since_ms = broker.clock.monotonic_ms(), context.content_since_ms
    context.content_since_ms = now_ms
    brokers = broker.image.brokers
    return (
        now_ms - since_ms > CONTENT_MS
        and len(brokers) > 1
        and not any(broker.departures.is_doubtful(node) for node in brokers)
    )


def _brokers(broker: Broker, listener: str) -> list[MetadataResponseBroker]:
    """Those that can be reached through the listener that the client came in on, or could a moment ago."""
    return [
        MetadataResponseBroker(node_id=one.id, host=endpoint.host, port=endpoint.port, rack=one.rack)
        for one in broker.image.brokers.values()
        if (not one.fenced or broker.departures.is_recent(one.id))
        and (endpoint := one.listeners.get(listener)) is not None
    ]


def _unique(topics: Iterable[MetadataRequestTopic]) -> list[MetadataRequestTopic]:
    return list({(topic.name, topic.topic_id): topic for topic in topics}.values())


async def _create_missing(broker: Broker, wanted: Iterable[MetadataRequestTopic]) -> dict[str, ErrorCode]:
    """Create what does not exist; the errors of those that could not be created."""
    existing = broker.image.topics
    names = dict.fromkeys(t.name for t in wanted if t.name is not None and t.name not in existing)
    # Coordinators create their topics themselves, with the configs that these need.
    new = [NewTopic(name=name) for name in names if name not in INTERNAL_TOPICS and why_invalid(name) is None]
    if not new:
        return {}
    try:
        created = await broker.controller.create_topics(new)
    except ApiError as error:
        code = ErrorCode.LEADER_NOT_AVAILABLE if error.code is ErrorCode.NOT_CONTROLLER else error.code
        return {topic.name: code for topic in new}
    if any(one.error is not None and one.error.code is ErrorCode.TOPIC_ALREADY_EXISTS for one in created):
        await broker.controller.barrier()  # somebody else's creation of the same topic was under way
    return {one.name: one.error.code for one in created if one.error is not None}


def _describe(
    broker: Broker, wanted: MetadataRequestTopic, refused: dict[str, ErrorCode], context: RequestContext
) -> Described:
    name, topic_id = wanted.name, wanted.topic_id
    if context.api_version < _TOPICS_BY_ID_SINCE and (name is None or topic_id != ZERO_UUID):
        return _error(ErrorCode.INVALID_REQUEST, name or "", topic_id)
    if name is None:
        by_id = broker.image.topics_by_id.get(topic_id)
        return _error(ErrorCode.UNKNOWN_TOPIC_ID, None, topic_id) if by_id is None else by_id
    topic = broker.image.topics.get(name)
    if topic is not None:
        return topic
    if why_invalid(name) is not None:
        return _error(ErrorCode.INVALID_TOPIC_EXCEPTION, name)
    return _error(refused.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), name)


def _error(code: ErrorCode, name: str | None, topic_id: Uuid = ZERO_UUID) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=code, name=name, topic_id=topic_id, is_internal=name in INTERNAL_TOPICS, partitions=[]
    )

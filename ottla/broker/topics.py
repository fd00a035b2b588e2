"""CreateTopics, DeleteTopics, CreatePartitions: from the protocol's messages to the controller and back."""

from collections.abc import Mapping
from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.controller.effective import ConfigSource
from ottla.controller.requests import CreatedTopic, MorePartitions, NewTopic, TopicRef
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.topic_configs import TOPIC_CONFIGS
from ottla.core.types import ZERO_UUID
from ottla.protocol.messages.create_partitions_request import CreatePartitionsRequest
from ottla.protocol.messages.create_partitions_response import (
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)
from ottla.protocol.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from ottla.protocol.messages.create_topics_response import (
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsResponse,
)
from ottla.protocol.messages.delete_topics_request import DeleteTopicsRequest
from ottla.protocol.messages.delete_topics_response import DeletableTopicResult, DeleteTopicsResponse

_DETAILS_SINCE: Final = 5  # CreateTopics: counts and configs in the answer
_TOPICS_BY_ID_SINCE: Final = 6  # DeleteTopics


async def create_topics(broker: Broker, request: CreateTopicsRequest, context: RequestContext) -> CreateTopicsResponse:
    """Answered when the topics exist and this broker knows them."""
    try:
        created = await broker.controller.local.create_topics(
            [_new_topic(topic) for topic in request.topics], validate_only=request.validate_only
        )
    except ApiError as error:
        created = [CreatedTopic(name=name, error=error) for name in dict.fromkeys(t.name for t in request.topics)]
    details = context.api_version >= _DETAILS_SINCE
    return CreateTopicsResponse(topics=[_created(broker, topic, details) for topic in created])


def _new_topic(topic: CreatableTopic) -> NewTopic:
    return NewTopic(
        name=topic.name,
        partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        assignments=[(one.partition_index, one.broker_ids) for one in topic.assignments],
        configs={config.name: config.value for config in topic.configs},
    )


def _created(broker: Broker, topic: CreatedTopic, details: bool) -> CreatableTopicResult:
    if topic.error is not None:
        return CreatableTopicResult(
            name=topic.name,
            error_code=topic.error.code,
            error_message=topic.error.message or None,
            num_partitions=-1,
            replication_factor=-1,
            configs=[],
        )
    return CreatableTopicResult(
        name=topic.name,
        topic_id=topic.id,
        num_partitions=topic.partitions,
        replication_factor=topic.replication_factor,
        configs=_configs(broker, topic.configs) if details else [],
    )


def _configs(broker: Broker, own: Mapping[str, str]) -> list[CreatableTopicConfigs]:
    result = []
    for name in TOPIC_CONFIGS:
        if name in own:
            value, source = own[name], ConfigSource.DYNAMIC_TOPIC
        else:
            inherited = broker.configs.inherited(name)
            value, source = inherited.value or "", inherited.source
        result.append(CreatableTopicConfigs(name=name, value=value, config_source=source))
    return result


async def delete_topics(broker: Broker, request: DeleteTopicsRequest, context: RequestContext) -> DeleteTopicsResponse:
    """Answered when the topics are gone from the metadata; their files go afterwards."""
    if context.api_version >= _TOPICS_BY_ID_SINCE:
        refs = [
            TopicRef(name=topic.name, id=None if topic.topic_id == ZERO_UUID else topic.topic_id)
            for topic in request.topics
        ]
    else:
        refs = [TopicRef(name=name) for name in request.topic_names]
    try:
        deleted = await broker.controller.local.delete_topics(refs)
    except ApiError as error:
        return DeleteTopicsResponse(
            responses=[
                DeletableTopicResult(
                    name=ref.name, topic_id=ref.id or ZERO_UUID, error_code=error.code, error_message=error.message
                )
                for ref in refs
            ]
        )
    return DeleteTopicsResponse(
        responses=[
            DeletableTopicResult(
                name=topic.name,
                topic_id=topic.id,
                error_code=topic.error.code if topic.error else ErrorCode.NONE,
                error_message=(topic.error.message or None) if topic.error else None,
            )
            for topic in deleted
        ]
    )


async def create_partitions(
    broker: Broker, request: CreatePartitionsRequest, context: RequestContext
) -> CreatePartitionsResponse:
    """Answered when the partitions exist and this broker knows them."""
    wanted = [
        MorePartitions(
            topic=topic.name,
            count=topic.count,
            assignments=None if topic.assignments is None else [one.broker_ids for one in topic.assignments],
        )
        for topic in request.topics
    ]
    results: list[tuple[str, ApiError | None]]
    try:
        results = await broker.controller.local.create_partitions(wanted, validate_only=request.validate_only)
    except ApiError as error:
        results = [(name, error) for name in dict.fromkeys(topic.topic for topic in wanted)]
    return CreatePartitionsResponse(
        results=[
            CreatePartitionsTopicResult(
                name=name,
                error_code=error.code if error else ErrorCode.NONE,
                error_message=(error.message or None) if error else None,
            )
            for name, error in results
        ]
    )

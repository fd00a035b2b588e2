"""DescribeConfigs and ListConfigResources: what configs are in force, and where their values come from."""

from collections.abc import Iterator, Sequence

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.controller.effective import ConfigSource, SourcedValue
from ottla.controller.image import ALL_BROKERS, ResourceType
from ottla.controller.topic_names import why_invalid
from ottla.core.broker_configs import BROKER_CONFIGS
from ottla.core.config_fields import ConfigField, UpdateMode
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.topic_configs import TOPIC_CONFIGS
from ottla.protocol.messages.describe_configs_request import DescribeConfigsRequest, DescribeConfigsResource
from ottla.protocol.messages.describe_configs_response import (
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from ottla.protocol.messages.list_config_resources_request import ListConfigResourcesRequest
from ottla.protocol.messages.list_config_resources_response import ConfigResource, ListConfigResourcesResponse

Described = tuple[ConfigField, Sequence[SourcedValue], bool]  # the key, its values, whether it is read-only


async def describe_configs(
    broker: Broker, request: DescribeConfigsRequest, context: RequestContext
) -> DescribeConfigsResponse:
    """Each resource succeeds or fails by itself."""
    return DescribeConfigsResponse(results=[_describe(broker, request, one) for one in request.resources])


def _describe(
    broker: Broker, request: DescribeConfigsRequest, resource: DescribeConfigsResource
) -> DescribeConfigsResult:
    result = DescribeConfigsResult(
        resource_type=resource.resource_type, resource_name=resource.resource_name, configs=[]
    )
    try:
        configs = list(_resource_configs(broker, resource.resource_type, resource.resource_name))
    except ApiError as error:
        result.error_code, result.error_message = error.code, error.message
        return result
    wanted = resource.configuration_keys
    result.configs = [
        _config(field, values, read_only, request)
        for field, values, read_only in configs
        if not wanted or field.name in wanted
    ]
    return result


def _resource_configs(broker: Broker, resource_type: int, name: str) -> Iterator[Described]:
    match resource_type:
        case ResourceType.TOPIC:
            return _topic_configs(broker, name)
        case ResourceType.BROKER if name == ALL_BROKERS:
            return _cluster_wide_configs(broker)
        case ResourceType.BROKER if name == str(broker.settings.node_id):
            return _broker_configs(broker)
        case ResourceType.BROKER:
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                f"Unexpected broker id {name!r}: this broker describes {broker.settings.node_id}, or all when empty.",
            )
        case _:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Configs of resource type {resource_type} are not supported.")


def _topic_configs(broker: Broker, topic: str) -> Iterator[Described]:
    if reason := why_invalid(topic):
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, reason)
    if topic not in broker.image.topics:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{topic}' does not exist.")
    return ((field, broker.configs.topic_candidates(topic, name), False) for name, field in TOPIC_CONFIGS.items())


def _broker_configs(broker: Broker) -> Iterator[Described]:
    return (
        (field, broker.configs.broker_candidates(name), field.update_mode is UpdateMode.READ_ONLY)
        for name, field in BROKER_CONFIGS.items()
    )


def _cluster_wide_configs(broker: Broker) -> Iterator[Described]:
    """Only what is set: there is no one default for all brokers."""
    configs = broker.image.configs(ResourceType.BROKER, ALL_BROKERS)
    return (
        (BROKER_CONFIGS[name], [SourcedValue(name, value, ConfigSource.DYNAMIC_DEFAULT_BROKER, value)], False)
        for name, value in configs.items()
    )


def _config(
    field: ConfigField, values: Sequence[SourcedValue], read_only: bool, request: DescribeConfigsRequest
) -> DescribeConfigsResourceResult:
    current = values[0]
    return DescribeConfigsResourceResult(
        name=field.name,
        value=None if field.sensitive else current.value,
        read_only=read_only,
        config_source=current.source,
        is_sensitive=field.sensitive,
        synonyms=[
            DescribeConfigsSynonym(name=one.name, value=None if field.sensitive else one.raw, source=one.source)
            for one in values
            if one.raw is not None
        ]
        if request.include_synonyms
        else [],
        config_type=field.type,
        documentation=field.doc if request.include_documentation else None,
    )


async def list_config_resources(
    broker: Broker, request: ListConfigResourcesRequest, context: RequestContext
) -> ListConfigResourcesResponse:
    """The names of all resources of the types asked for (version 0: client metrics, of which there are none)."""
    if context.api_version == 0:
        return ListConfigResourcesResponse()
    supported: dict[int, Sequence[str]] = {
        ResourceType.TOPIC: list(broker.image.topics),
        ResourceType.BROKER: [str(one) for one in broker.image.brokers],
        ResourceType.BROKER_LOGGER: [],
        ResourceType.CLIENT_METRICS: [],
        ResourceType.GROUP: [],
    }
    types = request.resource_types or list(supported)
    if any(one not in supported for one in types):
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_name=name, resource_type=one)
            for one in dict.fromkeys(types)
            for name in supported[one]
        ]
    )

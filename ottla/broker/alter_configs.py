"""AlterConfigs (replaces all configs of a resource) and IncrementalAlterConfigs (changes single keys)."""

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.controller.image import ResourceType
from ottla.controller.requests import AlterResource, ConfigChange, ConfigOperation
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.protocol.messages import alter_configs_response, incremental_alter_configs_response
from ottla.protocol.messages.alter_configs_request import AlterConfigsRequest
from ottla.protocol.messages.alter_configs_response import AlterConfigsResponse
from ottla.protocol.messages.incremental_alter_configs_request import IncrementalAlterConfigsRequest
from ottla.protocol.messages.incremental_alter_configs_response import IncrementalAlterConfigsResponse


async def alter_configs(broker: Broker, request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
    """What is not named is deleted; a key without a value likewise."""
    resources = [
        AlterResource(
            type=_type(one.resource_type),
            name=one.resource_name,
            changes=[
                ConfigChange(
                    name=config.name,
                    operation=ConfigOperation.DELETE if config.value is None else ConfigOperation.SET,
                    value=config.value,
                )
                for config in one.configs
            ],
            replace_all=True,
        )
        for one in request.resources
    ]
    errors = await _alter(broker, resources, request.validate_only)
    return AlterConfigsResponse(
        responses=[
            alter_configs_response.AlterConfigsResourceResponse(
                error_code=error.code if error else ErrorCode.NONE,
                error_message=error.message if error else None,
                resource_type=one.resource_type,
                resource_name=one.resource_name,
            )
            for one, error in zip(request.resources, errors, strict=True)
        ]
    )


async def incremental_alter_configs(
    broker: Broker, request: IncrementalAlterConfigsRequest, context: RequestContext
) -> IncrementalAlterConfigsResponse:
    """Set, delete, append to a list, subtract from a list."""
    errors: list[ApiError | None] = [None] * len(request.resources)
    resources: list[tuple[int, AlterResource]] = []
    for position, one in enumerate(request.resources):
        try:
            changes = [
                ConfigChange(name=c.name, operation=_operation(c.config_operation), value=c.value) for c in one.configs
            ]
        except ApiError as error:
            errors[position] = error
            continue
        resources.append(
            (position, AlterResource(type=_type(one.resource_type), name=one.resource_name, changes=changes))
        )
    outcome = await _alter(broker, [resource for _, resource in resources], request.validate_only)
    for (position, _), error_or_none in zip(resources, outcome, strict=True):
        errors[position] = error_or_none
    return IncrementalAlterConfigsResponse(
        responses=[
            incremental_alter_configs_response.AlterConfigsResourceResponse(
                error_code=error.code if error else ErrorCode.NONE,
                error_message=error.message if error else None,
                resource_type=one.resource_type,
                resource_name=one.resource_name,
            )
            for one, error in zip(request.resources, errors, strict=True)
        ]
    )


async def _alter(broker: Broker, resources: list[AlterResource], validate_only: bool) -> list[ApiError | None]:
    try:
        return await broker.controller.local.alter_configs(resources, validate_only=validate_only)
    except ApiError as error:
        return [error] * len(resources)


def _type(number: int) -> ResourceType:
    try:
        return ResourceType(number)
    except ValueError:
        return ResourceType.UNKNOWN


def _operation(number: int) -> ConfigOperation:
    try:
        return ConfigOperation(number)
    except ValueError:
        message = f"Unknown config operation {number}: use 0 (set) to 3 (subtract)."
        raise ApiError(ErrorCode.INVALID_REQUEST, message) from None

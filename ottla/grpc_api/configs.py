"""The Configs service."""

from ottla.broker.broker import Broker
from ottla.core.errors import ApiError, ErrorCode
from ottla.grpc_api.calls import ask
from ottla.grpc_api.errors import Context, detail, telling_errors
from ottla.protocol.apis import ApiKey
from ottla.v1 import configs_pb2
from ottla.v1.configs_pb2_grpc import ConfigsServicer

_KAFKA_TYPES = {
    configs_pb2.RESOURCE_TYPE_TOPIC: 2,
    configs_pb2.RESOURCE_TYPE_BROKER: 4,
    configs_pb2.RESOURCE_TYPE_BROKER_LOGGER: 8,
    configs_pb2.RESOURCE_TYPE_GROUP: 32,
}
_TYPES = {kafka: ours for ours, kafka in _KAFKA_TYPES.items()}


class Configs(ConfigsServicer):
    """Handlers of the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @telling_errors
    async def DescribeConfigs(
        self, request: configs_pb2.DescribeConfigsRequest, context: Context
    ) -> configs_pb2.DescribeConfigsResponse:
        """DescribeConfigs."""
        from ottla.protocol.messages import describe_configs_request as messages

        answer = await ask(
            self._broker,
            ApiKey.DESCRIBE_CONFIGS,
            messages.DescribeConfigsRequest(
                resources=[
                    messages.DescribeConfigsResource(
                        resource_type=_kafka_type(wanted.resource),
                        resource_name=wanted.resource.name,
                        configuration_keys=list(wanted.keys) or None,
                    )
                    for wanted in request.resources
                ],
                include_synonyms=request.include_synonyms,
                include_documentation=request.include_documentation,
            ),
            context,
        )
        return configs_pb2.DescribeConfigsResponse(
            resources=[
                configs_pb2.DescribeConfigsResult(
                    resource=_resource(result.resource_type, result.resource_name),
                    error=detail(result.error_code, result.error_message),
                    entries=[
                        configs_pb2.ConfigEntry(
                            key=config.name,
                            value=config.value,
                            source=max(config.config_source, 0),
                            read_only=config.read_only,
                            sensitive=config.is_sensitive,
                            type=config.config_type,
                            documentation=config.documentation if request.include_documentation else None,
                            synonyms=[
                                configs_pb2.ConfigSynonym(
                                    key=synonym.name, value=synonym.value, source=max(synonym.source, 0)
                                )
                                for synonym in config.synonyms
                            ],
                        )
                        for config in result.configs
                    ],
                )
                for result in answer.results
            ]
        )

    @telling_errors
    async def IncrementalAlterConfigs(
        self, request: configs_pb2.IncrementalAlterConfigsRequest, context: Context
    ) -> configs_pb2.IncrementalAlterConfigsResponse:
        """IncrementalAlterConfigs."""
        from ottla.protocol.messages import incremental_alter_configs_request as messages

        answer = await ask(
            self._broker,
            ApiKey.INCREMENTAL_ALTER_CONFIGS,
            messages.IncrementalAlterConfigsRequest(
                resources=[
                    messages.AlterConfigsResource(
                        resource_type=_kafka_type(changed.resource),
                        resource_name=changed.resource.name,
                        configs=[
                            messages.AlterableConfig(
                                name=config.key,
                                config_operation=config.operation,  # the numbers are Kafka's
                                value=config.value if config.HasField("value") else None,
                            )
                            for config in changed.configs
                        ],
                    )
                    for changed in request.resources
                ],
                validate_only=request.validate_only,
            ),
            context,
        )
        return configs_pb2.IncrementalAlterConfigsResponse(
            resources=[
                configs_pb2.AlterConfigsResult(
                    resource=_resource(result.resource_type, result.resource_name),
                    error=detail(result.error_code, result.error_message),
                )
                for result in answer.responses
            ]
        )


def _kafka_type(resource: configs_pb2.ConfigResource) -> int:
    kafka_type = _KAFKA_TYPES.get(resource.type)
    if kafka_type is None:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"resource {resource.name!r}: say its type, e.g. RESOURCE_TYPE_TOPIC")
    return kafka_type


def _resource(kafka_type: int, name: str) -> configs_pb2.ConfigResource:
    return configs_pb2.ConfigResource(type=_TYPES.get(kafka_type, configs_pb2.RESOURCE_TYPE_UNSPECIFIED), name=name)

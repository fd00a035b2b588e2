"""What the services of groups and transactions have in common: partitions by topic, refusals, where to ask instead."""

from collections.abc import Iterable

from ottla.broker.broker import Broker
from ottla.core.errors import ApiError, ErrorCode
from ottla.grpc_api.calls import ask
from ottla.grpc_api.errors import Context, detail
from ottla.protocol.apis import ApiKey
from ottla.v1 import cluster_pb2, replicas_pb2

GROUP, TRANSACTION = 0, 1  # the protocol's key types; `ottla.v1.CoordinatorType` has the same numbers


async def find_coordinators(
    broker: Broker, key_type: int, keys: Iterable[str], context: Context
) -> list[cluster_pb2.FoundCoordinator]:
    """FindCoordinator."""
    from ottla.protocol.messages.find_coordinator_request import FindCoordinatorRequest

    request = FindCoordinatorRequest(key_type=key_type, coordinator_keys=list(keys))
    answer = await ask(broker, ApiKey.FIND_COORDINATOR, request, context)
    return [
        cluster_pb2.FoundCoordinator(
            key=one.key,
            error=detail(one.error_code, one.error_message),
            node_id=one.node_id,
            host=one.host,
            port=max(one.port, 0),
        )
        for one in answer.coordinators
    ]


async def raise_refusal(
    broker: Broker, code: int, key_type: int, key: str, context: Context, message: str | None = None
) -> None:
    """Raises ApiError when `code` is an error; NOT_COORDINATOR says who coordinates `key`."""
    if not code:
        return
    error = ErrorCode(code)
    if error is ErrorCode.NOT_COORDINATOR and message is None:
        [found] = await find_coordinators(broker, key_type, [key], context)
        if not found.HasField("error"):
            message = f"ask node {found.node_id} at {found.host}:{found.port}, which coordinates {key}"
    raise ApiError(error, message or "")


def by_topic(partitions: Iterable[replicas_pb2.TopicPartition]) -> dict[str, list[int]]:
    """Partition indexes by topic."""
    topics: dict[str, list[int]] = {}
    for one in partitions:
        topics.setdefault(one.topic, []).append(one.partition)
    return topics


def outcome(topic: str, partition: int, code: int) -> replicas_pb2.PartitionOutcome:
    """What became of one partition."""
    return replicas_pb2.PartitionOutcome(
        partition=replicas_pb2.TopicPartition(topic=topic, partition=partition),
        error=detail(code, None, topic, partition),
    )

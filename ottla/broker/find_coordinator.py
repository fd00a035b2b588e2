"""FindCoordinator: which broker coordinates a group or a transactional id (KIP-699: several keys in one request).

Who asks while a coordinator has no leader waits a moment for it. It is told sooner so, and librdkafka is told at all:
it asks three times within half a second, and what it wanted the coordinator for may then wait for ever.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.context import GRPC_LISTENER, RequestContext
from ottla.broker.groups import group_coordinator
from ottla.broker.transactions.verification import TRANSACTION_STATE
from ottla.controller.image import NO_LEADER, Endpoint, TopicImage
from ottla.coordinators.groups.service import CONSUMER_OFFSETS
from ottla.coordinators.partitioning import coordinator_partition
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.protocol.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.protocol.messages.find_coordinator_response import Coordinator, FindCoordinatorResponse

SEVERAL_KEYS_SINCE: Final = 4
NOWHERE = Endpoint("", -1)
PATIENCE_S: Final = 1.0
"""For a leader; a new one is elected sooner, unless most of the cluster is gone."""
_LOOK_EVERY_S: Final = 0.05


class KeyType(IntEnum):
    """What is coordinated."""

    GROUP = 0
    TRANSACTION = 1
    SHARE = 2


@dataclass(frozen=True, slots=True)
class Found:
    """A broker, or why there is none."""

    node_id: NodeId = NO_LEADER
    endpoint: Endpoint = NOWHERE
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


async def find_coordinator(
    broker: Broker, request: FindCoordinatorRequest, context: RequestContext
) -> FindCoordinatorResponse:
    """Creates the coordinator's topic when it is asked for the first time."""
    several = context.api_version >= SEVERAL_KEYS_SINCE
    keys = request.coordinator_keys if several else [request.key]
    try:
        topic = await _topic(broker, request.key_type)
    except ApiError as error:
        code = error.code
        if code in (ErrorCode.INVALID_REPLICATION_FACTOR, ErrorCode.NOT_CONTROLLER):
            code = ErrorCode.COORDINATOR_NOT_AVAILABLE  # until there are enough brokers, or a controller
        found = {key: Found(error=code, message=error.message) for key in keys}
    else:
        found = await _found(broker, topic, keys, context.listener)
    if several:
        return FindCoordinatorResponse(coordinators=[_coordinator(key, found[key]) for key in keys])
    (one,) = found.values()
    return FindCoordinatorResponse(
        error_code=one.error,
        error_message=one.message,
        node_id=one.node_id,
        host=one.endpoint.host,
        port=one.endpoint.port,
    )


async def _topic(broker: Broker, key_type: int) -> TopicImage:
    integer = broker.configs.integer
    if key_type == KeyType.GROUP:
        group_coordinator(broker)  # loads what this broker leads while the client is on its way
        return await broker.controller.ensure_internal_topic(
            CONSUMER_OFFSETS,
            partitions=integer("offsets.topic.num.partitions"),
            replication_factor=integer("offsets.topic.replication.factor"),
            configs={
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(integer("offsets.topic.segment.bytes")),
            },
        )
    if key_type == KeyType.TRANSACTION:
        return await broker.controller.ensure_internal_topic(
            TRANSACTION_STATE,
            partitions=integer("transaction.state.log.num.partitions"),
            replication_factor=integer("transaction.state.log.replication.factor"),
            configs={
                "cleanup.policy": "compact",
                "compression.type": "uncompressed",
                "min.insync.replicas": str(integer("transaction.state.log.min.isr")),
                "segment.bytes": str(integer("transaction.state.log.segment.bytes")),
                "unclean.leader.election.enable": "false",
            },
        )
    raise ApiError(ErrorCode.INVALID_REQUEST, f"Nothing is coordinated for keys of type {key_type}.")


async def _found(broker: Broker, topic: TopicImage, keys: Sequence[str], listener: str) -> dict[str, Found]:
    """For each key; complete, or as it stands when patience is at its end."""
    until = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        found = {key: _leader(broker, topic, key, listener) for key in keys}
        has_all = not any(one.error for one in found.values())
        if has_all or asyncio.get_running_loop().time() >= until:
            return found
        await asyncio.sleep(_LOOK_EVERY_S)
        topic = broker.image.topics.get(topic.name, topic)


def _leader(broker: Broker, topic: TopicImage, key: str, listener: str) -> Found:
    partition = topic.partitions[coordinator_partition(key, len(topic.partitions))]
    leader = broker.image.brokers.get(partition.leader)
    endpoint = None
    if leader is not None and not leader.fenced:
        endpoint = leader.grpc if listener == GRPC_LISTENER else leader.listeners.get(listener)
    if endpoint is None:
        return Found(error=ErrorCode.COORDINATOR_NOT_AVAILABLE, message="The coordinator has no leader now.")
    return Found(partition.leader, endpoint)


def _coordinator(key: str, found: Found) -> Coordinator:
    return Coordinator(
        key=key,
        node_id=found.node_id,
        host=found.endpoint.host,
        port=found.endpoint.port,
        error_code=found.error,
        error_message=found.message,
    )

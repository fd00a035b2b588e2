"""Requests about groups: finds the coordinator of a group, and hands the rest to the coordinator on this node.

A broker's coordinator starts with the first of these requests: a node without groups does not pay for them.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from ottla.broker.authorized_operations import GROUP_OPERATIONS
from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.broker.leaderships import Leaderships
from ottla.controller.features import GROUP_VERSION
from ottla.controller.image import MetadataDelta, MetadataImage, TopicImage
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.service import CONSUMER_OFFSETS, GroupCoordinator
from ottla.core.error_codes import ErrorCode
from ottla.core.types import Uuid
from ottla.protocol.messages.consumer_group_describe_request import ConsumerGroupDescribeRequest
from ottla.protocol.messages.consumer_group_describe_response import ConsumerGroupDescribeResponse
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from ottla.protocol.messages.consumer_group_heartbeat_response import ConsumerGroupHeartbeatResponse
from ottla.protocol.messages.delete_groups_request import DeleteGroupsRequest
from ottla.protocol.messages.delete_groups_response import DeleteGroupsResponse
from ottla.protocol.messages.describe_groups_request import DescribeGroupsRequest
from ottla.protocol.messages.describe_groups_response import DescribeGroupsResponse
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.heartbeat_response import HeartbeatResponse
from ottla.protocol.messages.join_group_request import JoinGroupRequest
from ottla.protocol.messages.join_group_response import JoinGroupResponse
from ottla.protocol.messages.leave_group_request import LeaveGroupRequest
from ottla.protocol.messages.leave_group_response import LeaveGroupResponse
from ottla.protocol.messages.list_groups_request import ListGroupsRequest
from ottla.protocol.messages.list_groups_response import ListGroupsResponse
from ottla.protocol.messages.offset_commit_request import OffsetCommitRequest
from ottla.protocol.messages.offset_commit_response import OffsetCommitResponse
from ottla.protocol.messages.offset_delete_request import OffsetDeleteRequest
from ottla.protocol.messages.offset_delete_response import OffsetDeleteResponse
from ottla.protocol.messages.offset_fetch_request import OffsetFetchRequest
from ottla.protocol.messages.offset_fetch_response import OffsetFetchResponse
from ottla.protocol.messages.sync_group_request import SyncGroupRequest
from ottla.protocol.messages.sync_group_response import SyncGroupResponse
from ottla.protocol.messages.txn_offset_commit_request import TxnOffsetCommitRequest
from ottla.protocol.messages.txn_offset_commit_response import TxnOffsetCommitResponse

Q = TypeVar("Q")
R = TypeVar("R")

logger: Final = structlog.get_logger(__name__)


async def join_group(broker: Broker, request: JoinGroupRequest, context: RequestContext) -> JoinGroupResponse:
    return await _ask(group_coordinator(broker).join_group, request, context)


async def sync_group(broker: Broker, request: SyncGroupRequest, context: RequestContext) -> SyncGroupResponse:
    return await _ask(group_coordinator(broker).sync_group, request, context)


async def heartbeat(broker: Broker, request: HeartbeatRequest, context: RequestContext) -> HeartbeatResponse:
    return await _ask(group_coordinator(broker).heartbeat, request, context)


async def leave_group(broker: Broker, request: LeaveGroupRequest, context: RequestContext) -> LeaveGroupResponse:
    return await _ask(group_coordinator(broker).leave_group, request, context)


async def offset_commit(broker: Broker, request: OffsetCommitRequest, context: RequestContext) -> OffsetCommitResponse:
    return await _ask(group_coordinator(broker).commit_offsets, request, context)


def take_offset_commit(
    broker: Broker, request: OffsetCommitRequest, context: RequestContext, done: Callable[[OffsetCommitResponse], None]
) -> None:
    group_coordinator(broker).commit_offsets(request, _caller(context), done)


async def offset_fetch(broker: Broker, request: OffsetFetchRequest, context: RequestContext) -> OffsetFetchResponse:
    return await _ask(group_coordinator(broker).fetch_offsets, request, context)


async def offset_delete(broker: Broker, request: OffsetDeleteRequest, context: RequestContext) -> OffsetDeleteResponse:
    return await _ask(group_coordinator(broker).delete_offsets, request, context)


async def txn_offset_commit(
    broker: Broker, request: TxnOffsetCommitRequest, context: RequestContext
) -> TxnOffsetCommitResponse:
    return await _ask(group_coordinator(broker).commit_transactional_offsets, request, context)


async def list_groups(broker: Broker, request: ListGroupsRequest, context: RequestContext) -> ListGroupsResponse:
    return await _ask(group_coordinator(broker).list_groups, request, context)


async def describe_groups(
    broker: Broker, request: DescribeGroupsRequest, context: RequestContext
) -> DescribeGroupsResponse:
    response: DescribeGroupsResponse = await _ask(group_coordinator(broker).describe_groups, request, context)
    if request.include_authorized_operations:
        for group in response.groups:
            if not group.error_code:
                group.authorized_operations = GROUP_OPERATIONS
    return response


async def consumer_group_heartbeat(
    broker: Broker, request: ConsumerGroupHeartbeatRequest, context: RequestContext
) -> ConsumerGroupHeartbeatResponse:
    return await _ask(partial(_beat, broker), request, context)


def take_consumer_group_heartbeat(
    broker: Broker,
    request: ConsumerGroupHeartbeatRequest,
    context: RequestContext,
    done: Callable[[ConsumerGroupHeartbeatResponse], None],
) -> None:
    _beat(broker, request, _caller(context), done)


def _beat(
    broker: Broker,
    request: ConsumerGroupHeartbeatRequest,
    caller: Caller,
    done: Callable[[ConsumerGroupHeartbeatResponse], object],
) -> None:
    if broker.image.features.get(GROUP_VERSION, 0):
        group_coordinator(broker).consumer_group_heartbeat(request, caller, done)
    else:
        message = f"The cluster's {GROUP_VERSION} is 0."
        done(ConsumerGroupHeartbeatResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, error_message=message))


async def consumer_group_describe(
    broker: Broker, request: ConsumerGroupDescribeRequest, context: RequestContext
) -> ConsumerGroupDescribeResponse:
    return await _ask(group_coordinator(broker).describe_consumer_groups, request, context)


async def delete_groups(broker: Broker, request: DeleteGroupsRequest, context: RequestContext) -> DeleteGroupsResponse:
    return await _ask(group_coordinator(broker).delete_groups, request, context)


async def _ask(method: Callable[[Q, Caller, Callable[[R], object]], None], request: Q, context: RequestContext) -> R:
    future: asyncio.Future[R] = asyncio.get_running_loop().create_future()

    def done(response: R) -> None:
        if not future.done():  # the client may be gone
            future.set_result(response)

    method(request, _caller(context), done)
    return await future


def _caller(context: RequestContext) -> Caller:
    return Caller(context.client_id or "", f"/{context.peer_host}", context.api_version, context.connection_id)


class _ImageTopics:
    """The topics of the broker's newest image."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def topic_id(self, name: str) -> Uuid | None:
        topic = self._broker.image.topics.get(name)
        return None if topic is None else topic.id

    def topic_name(self, topic_id: Uuid) -> str | None:
        topic = self._broker.image.topics_by_id.get(topic_id)
        return None if topic is None else topic.name

    def partition_count(self, name: str) -> int:
        topic = self._broker.image.topics.get(name)
        return 0 if topic is None else len(topic.partitions)

    def names(self) -> Iterable[str]:
        return [topic.name for topic in self._broker.image.topics.values() if not topic.internal]


def group_coordinator(broker: Broker) -> GroupCoordinator:
    """The coordinator of this broker, which follows its leaderships."""
    coordinator: GroupCoordinator | None = broker.extensions.get("groups")
    if coordinator is None:
        coordinator = GroupCoordinator(
            config=_config(broker),
            clock=broker.clock,
            random=broker.random,
            topics=_ImageTopics(broker),
            report=_report,
            verifier=broker.verifier,
            commit_timeout_ms=broker.configs.integer("offsets.commit.timeout.ms"),
        )
        broker.extensions["groups"] = coordinator
        leaderships = Leaderships(broker, CONSUMER_OFFSETS, coordinator)
        leaderships.follow()

        def changed(image: MetadataImage, delta: MetadataDelta) -> None:
            matters = False  # to those who assign partitions; who leads them does not
            for name, (before, after) in delta.topics.items():
                if name == CONSUMER_OFFSETS:
                    leaderships.follow()
                elif before is not None and (after is None or after.id != before.id):
                    coordinator.topic_deleted(name)
                matters = matters or before is None or after is None or _shape(before) != _shape(after)
            if matters:
                coordinator.topics_changed()

        broker.subscribe(changed)
        broker.when_connection_closes.append(coordinator.connection_closed)
    return coordinator


def _shape(topic: TopicImage) -> tuple[Uuid, int]:
    return topic.id, len(topic.partitions)


def _config(broker: Broker) -> GroupConfig:
    integer = broker.configs.integer
    assignors = broker.configs.broker_value("group.consumer.assignors") or ""
    return GroupConfig(
        group_min_session_timeout_ms=integer("group.min.session.timeout.ms"),
        group_max_session_timeout_ms=integer("group.max.session.timeout.ms"),
        group_initial_rebalance_delay_ms=integer("group.initial.rebalance.delay.ms"),
        group_max_size=integer("group.max.size"),
        consumer_session_timeout_ms=integer("group.consumer.session.timeout.ms"),
        consumer_heartbeat_interval_ms=integer("group.consumer.heartbeat.interval.ms"),
        consumer_max_size=integer("group.consumer.max.size"),
        consumer_assignors=tuple(name.strip() for name in assignors.split(",")),
        consumer_migration_policy=broker.configs.broker_value("group.consumer.migration.policy") or "disabled",
        disconnect_timeout_ms=integer("ottla.group.disconnect.timeout.ms"),
        offset_metadata_max_bytes=integer("offset.metadata.max.bytes"),
        offsets_retention_minutes=integer("offsets.retention.minutes"),
        offsets_retention_check_interval_ms=integer("offsets.retention.check.interval.ms"),
    )


def _report(event: str, **fields: Any) -> None:
    if event == "coordinator_loaded":
        logger.debug(event, **fields)
    elif event == "member_disconnected":
        logger.info("a member is out: its connection closed and it was not heard again", **fields)
    else:
        logger.error(event, **fields)

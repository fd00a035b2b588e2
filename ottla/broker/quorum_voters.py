"""AddRaftVoter and RemoveRaftVoter (KIP-853): who votes on the cluster's metadata, one change at a time."""

import asyncio
from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.core.errors import ApiError, ErrorCode, OttlaError, StorageError
from ottla.core.types import NodeId, format_uuid
from ottla.protocol.messages.add_raft_voter_request import AddRaftVoterRequest, Listener
from ottla.protocol.messages.add_raft_voter_response import AddRaftVoterResponse
from ottla.protocol.messages.remove_raft_voter_request import RemoveRaftVoterRequest
from ottla.protocol.messages.remove_raft_voter_response import RemoveRaftVoterResponse
from ottla.raft.quorum import Member, MembershipError, NotLeader, Quorum

DEFAULT_TIMEOUT_MS: Final = 15_000
MAX_TIMEOUT_MS: Final = 15_000
"""A forwarded request is given up somewhat later than this."""


async def add_raft_voter(broker: Broker, request: AddRaftVoterRequest, context: RequestContext) -> AddRaftVoterResponse:
    """The node is brought up to date, and then votes. When that takes too long it does not become a member."""
    try:
        _check_cluster(broker, request.cluster_id)
        quorum = broker.controller.local.quorum
        member = Member(NodeId(request.voter_id), request.voter_directory_id)
        _check_new(quorum, member)
        await _add(quorum, member, _endpoint(request.listeners), request.timeout_ms)
    except OttlaError as error:
        why = refused(error)
        return AddRaftVoterResponse(error_code=why.code, error_message=why.message or None)
    return AddRaftVoterResponse(error_message=None)


async def remove_raft_voter(
    broker: Broker, request: RemoveRaftVoterRequest, context: RequestContext
) -> RemoveRaftVoterResponse:
    """Also the leader can be removed: it leads until that is committed."""
    try:
        _check_cluster(broker, request.cluster_id)
        member = Member(NodeId(request.voter_id), request.voter_directory_id)
        quorum = broker.controller.local.quorum
        _check_known(quorum, member)
        await quorum.remove_member(member)
    except OttlaError as error:
        why = refused(error)
        return RemoveRaftVoterResponse(error_code=why.code, error_message=why.message or None)
    return RemoveRaftVoterResponse(error_message=None)


async def _add(quorum: Quorum, member: Member, endpoint: str, timeout_ms: int) -> None:
    if member in quorum.membership.learners:  # an earlier attempt whose end nobody waited for
        await quorum.remove_member(member)
    timeout_ms = min(timeout_ms if timeout_ms > 0 else DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS)
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            await quorum.add_voter(member, endpoint)
    except TimeoutError:
        if member in quorum.membership.learners:
            await quorum.remove_member(member)
        raise ApiError(
            ErrorCode.REQUEST_TIMED_OUT,
            f"Node {member.node} was not up to date within {timeout_ms} ms: is it running, formatted for this cluster, "
            f"and reached at {endpoint}?",
        ) from None


def _check_cluster(broker: Broker, cluster_id: str | None) -> None:
    if cluster_id is not None and cluster_id != format_uuid(broker.settings.cluster_id):
        raise ApiError(ErrorCode.INCONSISTENT_CLUSTER_ID, f"This is not the cluster {cluster_id}.")


def _check_new(quorum: Quorum, member: Member) -> None:
    if any(known.node == member.node for known in quorum.membership.voters):
        raise ApiError(ErrorCode.DUPLICATE_VOTER, f"Node {member.node} is a voter already.")


def _check_known(quorum: Quorum, member: Member) -> None:
    if member not in quorum.membership.members:
        raise ApiError(
            ErrorCode.VOTER_NOT_FOUND,
            f"Node {member.node} with the directory {format_uuid(member.directory)} is not a voter.",
        )


def _endpoint(listeners: list[Listener]) -> str:
    """The first: nodes have one for each other."""
    if not listeners:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Say where other nodes reach the new voter.")
    host = listeners[0].host
    return f"[{host}]:{listeners[0].port}" if ":" in host else f"{host}:{listeners[0].port}"


def refused(error: OttlaError) -> ApiError:
    """What the quorum refuses, as an answer."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NotLeader):
        return ApiError(ErrorCode.NOT_CONTROLLER, str(error))
    if isinstance(error, MembershipError):  # another change is under way, mostly: the same may succeed later
        return ApiError(ErrorCode.REQUEST_TIMED_OUT, str(error))
    code = ErrorCode.KAFKA_STORAGE_ERROR if isinstance(error, StorageError) else ErrorCode.UNKNOWN_SERVER_ERROR
    return ApiError(code, str(error))

"""Errors as gRPC tells them: a status with a typed detail for a call, a detail for one item of a result."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf import any_pb2

from ottla.core.errors import ApiError, DecodeError, ErrorCode
from ottla.v1 import errors_pb2

_log = structlog.get_logger(__name__)

DETAILS_KEY = "grpc-status-details-bin"
_CODES = {int(code): code for code in ErrorCode}

# What is said of errors whose place in Kafka's protocol has no room for a message.
_MEANING = {
    ErrorCode.OFFSET_OUT_OF_RANGE: "the offset is not in the log",
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "there is no such topic or partition",
    ErrorCode.UNKNOWN_TOPIC_ID: "there is no topic with this id",
    ErrorCode.INVALID_TOPIC_EXCEPTION: "this is no name for a topic",
    ErrorCode.LEADER_NOT_AVAILABLE: "the partition has no leader now",
    ErrorCode.NOT_LEADER_OR_FOLLOWER: "this node does not lead the partition",
    ErrorCode.NOT_COORDINATOR: "another node coordinates it; Cluster.FindCoordinators tells which",
    ErrorCode.NON_EMPTY_GROUP: "the group has members: stop its consumers first",
    ErrorCode.GROUP_ID_NOT_FOUND: "there is no such group",
    ErrorCode.UNKNOWN_MEMBER_ID: "the group has no such member (now)",
    ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC: "members of the group read the topic",
    ErrorCode.TRANSACTIONAL_ID_NOT_FOUND: "there is no such transactional id",
    ErrorCode.PRODUCER_FENCED: "a newer producer has this transactional id",
    ErrorCode.INVALID_PRODUCER_EPOCH: "a newer producer has this id, or the transaction was ended meanwhile",
    ErrorCode.KAFKA_STORAGE_ERROR: "the partition's files cannot be used; the node's log says why",
}

_STATUS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNKNOWN_TOPIC_ID: grpc.StatusCode.NOT_FOUND,
    ErrorCode.RESOURCE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.GROUP_ID_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.TRANSACTIONAL_ID_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.NON_EMPTY_GROUP: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.PRODUCER_FENCED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.TOPIC_ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.OFFSET_OUT_OF_RANGE: grpc.StatusCode.OUT_OF_RANGE,
    ErrorCode.REQUEST_TIMED_OUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorCode.UNSUPPORTED_VERSION: grpc.StatusCode.UNIMPLEMENTED,
    ErrorCode.POLICY_VIOLATION: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.SASL_AUTHENTICATION_FAILED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.MESSAGE_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.KAFKA_STORAGE_ERROR: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.UNKNOWN_SERVER_ERROR: grpc.StatusCode.INTERNAL,
}

Context = grpc.aio.ServicerContext[Any, Any]
Method = TypeVar("Method", bound=Callable[..., Awaitable[object]])


def detail(
    code: ErrorCode | int, message: str | None = "", topic: str | None = None, partition: int | None = None
) -> errors_pb2.ErrorDetail | None:
    """The detail of an error; None for no error, so that it can be given to a result as it is."""
    if not code:
        return None
    known = _CODES.get(int(code), ErrorCode.UNKNOWN_SERVER_ERROR)
    return errors_pb2.ErrorDetail(
        code=known,
        name=known.name,
        retriable=known.retriable,
        message=message or _MEANING.get(known, known.name),
        topic=topic,
        partition=partition,
    )


def status_of(code: ErrorCode) -> grpc.StatusCode:
    """The gRPC status that comes nearest to a Kafka error."""
    if code.retriable:
        return _STATUS.get(code, grpc.StatusCode.UNAVAILABLE)
    return _STATUS.get(code, grpc.StatusCode.INVALID_ARGUMENT)


async def abort(context: Context, code: ErrorCode, message: str = "") -> NoReturn:
    """End the call with a status that carries the detail."""
    status = status_of(code)
    found = detail(code, message)
    assert found is not None
    packed = any_pb2.Any()
    packed.Pack(found)
    details = errors_pb2.StatusDetails(code=status.value[0], message=found.message, details=[packed])
    await context.abort(status, found.message, ((DETAILS_KEY, details.SerializeToString()),))


def telling_errors(method: Method) -> Method:
    """A servicer's method whose errors reach the caller in the form above; a defect of ours is logged, too."""

    @wraps(method)
    async def serve(self: object, request: object, context: Context) -> object:
        try:
            return await method(self, request, context)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except ApiError as error:
            await abort(context, error.code, error.message)
        except DecodeError as error:
            await abort(context, ErrorCode.CORRUPT_MESSAGE, str(error))
        except Exception as error:
            _log.exception("request failed", request=method.__qualname__, peer=context.peer())
            await abort(context, ErrorCode.UNKNOWN_SERVER_ERROR, type(error).__name__)

    return serve  # type: ignore[return-value]

"""The calls whose messages carry batches by the megabyte, encoded and parsed by hand (`core.protobuf_fields`)."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import grpc.aio

from ottla.core.protobuf_fields import field_head, split_field
from ottla.core.types import Buffer
from ottla.v1 import fetch_pb2, mirrors_pb2

if TYPE_CHECKING:
    Call = Callable[..., Awaitable[Any]]

_PARTITIONS: Final = fetch_pb2.FetchResponse.DESCRIPTOR.fields_by_name["partitions"].number
_FETCHED: Final = fetch_pb2.FetchPartitionResult.DESCRIPTOR.fields_by_name["batches"].number
_APPENDED: Final = mirrors_pb2.AppendMirroredRequest.DESCRIPTOR.fields_by_name["batches"].number


class PartitionResult(NamedTuple):
    """One partition of an answer to Fetch; its batches are beside it, a view of the answer."""

    message: fetch_pb2.FetchPartitionResult
    batches: Buffer


def fetch_method(channel: grpc.aio.Channel) -> "Callable[..., Awaitable[list[PartitionResult]]]":
    """Fetch.Fetch, called with a FetchRequest and the options of a call."""
    return cast(
        "Call",
        channel.unary_unary(
            "/ottla.v1.Fetch/Fetch",
            request_serializer=fetch_pb2.FetchRequest.SerializeToString,
            response_deserializer=_parse_fetch_response,
        ),
    )


def append_method(channel: grpc.aio.Channel) -> "Callable[..., Awaitable[mirrors_pb2.MirrorLog]]":
    """Mirrors.Append, called with what `encode_append` returns and the options of a call."""
    return cast(
        "Call",
        channel.unary_unary(
            "/ottla.v1.Mirrors/Append",
            request_serializer=None,
            response_deserializer=mirrors_pb2.MirrorLog.FromString,
        ),
    )


def encode_append(message: mirrors_pb2.AppendMirroredRequest, batches: Buffer) -> bytes:
    """An AppendMirroredRequest with these batches."""
    rest = message.SerializeToString()
    return b"".join((rest, field_head(_APPENDED, len(batches)), batches)) if batches else rest


def _parse_fetch_response(data: bytes) -> list[PartitionResult]:
    results = []
    for partition in split_field(data, _PARTITIONS).found:
        rest, batches = split_field(partition, _FETCHED)
        message = fetch_pb2.FetchPartitionResult.FromString(rest)
        results.append(PartitionResult(message, batches[-1] if batches else b""))  # of several, the last counts
    return results

"""Methods whose messages carry batches by the megabyte: their handlers, in place of the generated ones.

On the wire they are what `proto/ottla/v1` says; only who encodes and parses them is another (`core.protobuf_fields`).
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import grpc

from ottla.core.protobuf_fields import field_head, split_field
from ottla.core.types import Buffer
from ottla.v1 import fetch_pb2, mirrors_pb2

_PARTITIONS: Final = fetch_pb2.FetchResponse.DESCRIPTOR.fields_by_name["partitions"].number
_FETCHED: Final = fetch_pb2.FetchPartitionResult.DESCRIPTOR.fields_by_name["batches"].number
_APPENDED: Final = mirrors_pb2.AppendMirroredRequest.DESCRIPTOR.fields_by_name["batches"].number


class PartitionResult(NamedTuple):
    """One partition of an answer; its `batches` are beside it."""

    message: fetch_pb2.FetchPartitionResult
    batches: Buffer = b""

    def whole(self) -> fetch_pb2.FetchPartitionResult:
        """With the batches in it."""
        if self.batches:
            self.message.batches = bytes(self.batches)
        return self.message


class Append(NamedTuple):
    """A request of Mirrors.Append; its `batches` are beside it, and may be written to."""

    message: mirrors_pb2.AppendMirroredRequest
    batches: bytearray


def encode_fetch_response(results: Sequence[PartitionResult]) -> bytes:
    """A FetchResponse."""
    parts: list[Buffer] = []
    for message, batches in results:
        rest = message.SerializeToString()
        head = field_head(_FETCHED, len(batches)) if batches else b""
        parts += (field_head(_PARTITIONS, len(rest) + len(head) + len(batches)), rest, head, batches)
    return b"".join(parts)


def parse_append(data: bytes) -> Append:
    """An AppendMirroredRequest."""
    split = split_field(data, _APPENDED)
    message = mirrors_pb2.AppendMirroredRequest.FromString(split.rest)
    return Append(message, bytearray(split.found[-1]) if split.found else bytearray())  # of several, the last counts


def batch_methods(fetch: Any, append: Any) -> dict[str, dict[str, "grpc.RpcMethodHandler[Any, Any]"]]:
    """By service and name: `Fetch.Fetch` and `Mirrors.Append`.

    `fetch` takes a FetchRequest and returns PartitionResults, `append` takes an Append and returns a MirrorLog.
    """
    return {
        "ottla.v1.Fetch": {
            "Fetch": grpc.unary_unary_rpc_method_handler(
                fetch,
                request_deserializer=fetch_pb2.FetchRequest.FromString,
                response_serializer=encode_fetch_response,
            )
        },
        "ottla.v1.Mirrors": {
            "Append": grpc.unary_unary_rpc_method_handler(
                append,
                request_deserializer=parse_append,
                response_serializer=mirrors_pb2.MirrorLog.SerializeToString,
            )
        },
    }

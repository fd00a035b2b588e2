"""Mirror topics over gRPC: the service Mirrors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from ottla.client.errors import ErrorCode
from ottla.client.grpc_batches import encode_append
from ottla.client.grpc_convert import error_of
from ottla.client.mirrors import MirrorLog, MirrorPartition, MirrorTopic
from ottla.core.mirror_topics import MIRROR_PROMOTED, MIRROR_SOURCE, MIRROR_STATE
from ottla.core.types import Buffer, parse_uuid
from ottla.v1 import configs_pb2, mirrors_pb2, mirrors_pb2_grpc

if TYPE_CHECKING:
    from ottla.client.grpc_transport import Connection, GrpcTransport
    from ottla.v1.mirrors_pb2_grpc import MirrorsAsyncStub

_KEYS: Final = (MIRROR_SOURCE, MIRROR_STATE, MIRROR_PROMOTED)


class GrpcMirrors:
    """Implements `mirrors.MirrorCalls` on the transport's connections."""

    def __init__(self, transport: "GrpcTransport") -> None:
        self._transport = transport

    async def describe(self, topics: Sequence[str]) -> dict[str, MirrorTopic]:
        request = configs_pb2.DescribeConfigsRequest(
            resources=[
                configs_pb2.DescribeConfigsResource(
                    resource=configs_pb2.ConfigResource(type=configs_pb2.RESOURCE_TYPE_TOPIC, name=topic), keys=_KEYS
                )
                for topic in topics
            ]
        )
        transport = self._transport
        answer = await transport.ask_any(lambda node: node.configs.DescribeConfigs(request, **transport.options()))
        found: dict[str, MirrorTopic] = {}
        for one in answer.resources:
            error = error_of(one)
            if error is None:
                values = {entry.key: entry.value for entry in one.entries}
                found[one.resource.name] = MirrorTopic(*(values.get(key, "") for key in _KEYS))
            elif error.code is not ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                raise error.at(one.resource.name)
        return found

    async def log_of(self, node_id: int, mirror: MirrorPartition) -> MirrorLog:
        message = mirrors_pb2.AppendMirroredRequest(mirror=_partition(mirror))
        return await self._append(node_id, encode_append(message, b""), 0)

    async def append(
        self,
        node_id: int,
        mirror: MirrorPartition,
        batches: Buffer,
        *,
        expected_end_offset: int,
        log_start_offset: int,
        begin_at: int | None,
        timeout_ms: int,
    ) -> MirrorLog:
        message = mirrors_pb2.AppendMirroredRequest(
            mirror=_partition(mirror),
            expected_end_offset=expected_end_offset,
            begin_at=begin_at,
            log_start_offset=log_start_offset,
            timeout_ms=timeout_ms,
        )
        return await self._append(node_id, encode_append(message, batches), timeout_ms)

    async def end_mirror(
        self, node_id: int, mirror: MirrorPartition, *, abort_transactions: bool, timeout_ms: int
    ) -> MirrorLog:
        message = mirrors_pb2.EndMirrorRequest(
            mirror=_partition(mirror), abort_transactions=abort_transactions, timeout_ms=timeout_ms
        )
        node = self._transport.node(node_id)
        call = _mirrors(node).EndMirror(message, **self._transport.options(timeout_ms))
        return _log(await self._transport.ask(node, call))

    async def _append(self, node_id: int, message: bytes, timeout_ms: int) -> MirrorLog:
        node = self._transport.node(node_id)
        call = node.append_mirrored(message, **self._transport.options(timeout_ms))
        return _log(await self._transport.ask(node, call))


def _mirrors(node: "Connection") -> "MirrorsAsyncStub":
    return cast("MirrorsAsyncStub", mirrors_pb2_grpc.MirrorsStub(node.channel))


def _partition(mirror: MirrorPartition) -> mirrors_pb2.MirrorPartition:
    return mirrors_pb2.MirrorPartition(
        topic_id=parse_uuid(mirror.topic_id), partition=mirror.partition, source=mirror.source
    )


def _log(log: mirrors_pb2.MirrorLog) -> MirrorLog:
    return MirrorLog(
        log_start_offset=log.log_start_offset,
        high_watermark=log.high_watermark,
        log_end_offset=log.log_end_offset,
        aborted_transactions=log.aborted_transactions,
    )

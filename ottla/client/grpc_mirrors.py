"""Mirror topics over gRPC: the service Mirrors."""

from typing import TYPE_CHECKING, cast

from ottla.client.mirrors import MirrorLog, MirrorPartition
from ottla.core.types import Buffer, parse_uuid
from ottla.v1 import mirrors_pb2, mirrors_pb2_grpc

if TYPE_CHECKING:
    from ottla.client.grpc_transport import Connection, GrpcTransport
    from ottla.v1.mirrors_pb2_grpc import MirrorsAsyncStub


class GrpcMirrors:
    """Implements `mirrors.MirrorCalls` on the transport's connections."""

    def __init__(self, transport: "GrpcTransport") -> None:
        self._transport = transport

    async def log_of(self, node_id: int, mirror: MirrorPartition) -> MirrorLog:
        return await self._append(node_id, mirrors_pb2.AppendMirroredRequest(mirror=_partition(mirror)), 0)

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
            batches=bytes(batches),
            timeout_ms=timeout_ms,
        )
        return await self._append(node_id, message, timeout_ms)

    async def end_mirror(
        self, node_id: int, mirror: MirrorPartition, *, abort_transactions: bool, timeout_ms: int
    ) -> MirrorLog:
        message = mirrors_pb2.EndMirrorRequest(
            mirror=_partition(mirror), abort_transactions=abort_transactions, timeout_ms=timeout_ms
        )
        node = self._transport.node(node_id)
        call = _mirrors(node).EndMirror(message, **self._transport.options(timeout_ms))
        return _log(await self._transport.ask(node, call))

    async def _append(self, node_id: int, message: mirrors_pb2.AppendMirroredRequest, timeout_ms: int) -> MirrorLog:
        node = self._transport.node(node_id)
        call = _mirrors(node).Append(message, **self._transport.options(timeout_ms))
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

"""The Mirrors service."""

from ottla.broker import mirrors
from ottla.broker.broker import Broker
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.grpc_api.batch_methods import Append
from ottla.grpc_api.errors import Context, telling_errors
from ottla.v1 import mirrors_pb2 as pb
from ottla.v1.mirrors_pb2_grpc import MirrorsServicer

DEFAULT_TIMEOUT_MS = 30_000
_UUID_BYTES = 16


class Mirrors(MirrorsServicer):
    """The broker's part in mirror topics."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @telling_errors
    async def Append(self, append: Append, context: Context) -> pb.MirrorLog:  # type: ignore[override]
        """One request of one partition."""
        del context
        request = append.message
        return _log(
            await mirrors.append(
                self._broker,
                _partition(request.mirror),
                expected_end_offset=request.expected_end_offset if request.HasField("expected_end_offset") else None,
                begin_offset=request.begin_at if request.HasField("begin_at") else None,
                log_start_offset=request.log_start_offset,
                batches=memoryview(append.batches),  # the log writes its leader epoch into them
                timeout_ms=request.timeout_ms or DEFAULT_TIMEOUT_MS,
            )
        )

    @telling_errors
    async def EndMirror(self, request: pb.EndMirrorRequest, context: Context) -> pb.MirrorLog:
        """One partition."""
        del context
        return _log(
            await mirrors.end_mirror(
                self._broker,
                _partition(request.mirror),
                abort_transactions=request.abort_transactions,
                timeout_ms=request.timeout_ms or DEFAULT_TIMEOUT_MS,
            )
        )


def _partition(mirror: pb.MirrorPartition) -> mirrors.MirrorPartition:
    if len(mirror.topic_id) != _UUID_BYTES:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"a topic id has {_UUID_BYTES} bytes, not {len(mirror.topic_id)}")
    return mirrors.MirrorPartition(Uuid(mirror.topic_id), mirror.partition, mirror.source)


def _log(log: mirrors.MirrorLog) -> pb.MirrorLog:
    return pb.MirrorLog(
        log_start_offset=log.log_start_offset,
        high_watermark=log.high_watermark,
        log_end_offset=log.log_end_offset,
        aborted_transactions=log.aborted_transactions,
    )

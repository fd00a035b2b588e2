"""The Fetch service."""

import asyncio
from collections.abc import Iterable

from ottla.broker.broker import Broker
from ottla.broker.fetch_messages import FetchedPartition, FetchPartition, FetchRequest, FetchResponse
from ottla.core.errors import ApiError, DecodeError, ErrorCode
from ottla.core.types import Uuid
from ottla.grpc_api.batch_methods import PartitionResult
from ottla.grpc_api.calls import ask
from ottla.grpc_api.errors import Context, detail, telling_errors
from ottla.grpc_api.open_streams import OpenStreams
from ottla.grpc_api.record_forms import MAX_STRUCTURED_RESPONSE_BYTES, next_offset_of, records_of
from ottla.partitions.results import Isolation
from ottla.protocol.apis import ApiKey
from ottla.v1 import fetch_pb2
from ottla.v1.fetch_pb2_grpc import FetchServicer

DEFAULT_MAX_BYTES = 50 << 20
DEFAULT_PARTITION_MAX_BYTES = 1 << 20
_STREAM_WAIT_MS = 5_000  # one round of a stream in which nothing arrives

_ISOLATION = {
    fetch_pb2.ISOLATION_LEVEL_READ_UNCOMMITTED: Isolation.READ_UNCOMMITTED,
    fetch_pb2.ISOLATION_LEVEL_READ_COMMITTED: Isolation.READ_COMMITTED,
}


class Fetch(FetchServicer):
    """Reads through the broker's Fetch."""

    def __init__(self, broker: Broker, streams: OpenStreams) -> None:
        self._broker, self._streams = broker, streams

    @telling_errors
    async def Fetch(  # type: ignore[override]  # `batch_methods` encodes it
        self, request: fetch_pb2.FetchRequest, context: Context
    ) -> list[PartitionResult]:
        """One long poll."""
        return await self._fetch(request, list(request.partitions), request.max_wait_ms)

    @telling_errors
    async def FetchStream(  # type: ignore[override]  # it writes to the context instead of yielding
        self, request: fetch_pb2.FetchRequest, context: Context
    ) -> None:
        """One long poll after the other, each from where the one before ended."""
        with self._streams.opened():
            await self._stream(request, context)

    async def _stream(self, request: fetch_pb2.FetchRequest, context: Context) -> None:
        partitions = list(request.partitions)
        while partitions:
            results = [
                one.whole() for one in await self._fetch(request, partitions, max(request.max_wait_ms, _STREAM_WAIT_MS))
            ]
            failed: set[tuple[str, int]] = set()
            after: dict[tuple[str, int], int] = {}
            for result in results:
                name = (result.topic, result.partition)
                after[name] = result.next_offset
                if result.HasField("error"):
                    failed.add(name)
            news = [it for it in results if it.HasField("error") or it.batches or it.records]
            if news:
                await context.write(fetch_pb2.FetchResponse(partitions=news))
            partitions = [it for it in partitions if (it.topic, it.partition) not in failed]
            for partition in partitions:
                partition.fetch_offset = after[partition.topic, partition.partition]

    @telling_errors
    async def ListOffsets(
        self, request: fetch_pb2.ListOffsetsRequest, context: Context
    ) -> fetch_pb2.ListOffsetsResponse:
        """A handler of the broker."""
        from ottla.protocol.messages import list_offsets_request as messages

        by_topic: dict[str, list[messages.ListOffsetsPartition]] = {}
        for partition in request.partitions:
            by_topic.setdefault(partition.topic, []).append(
                messages.ListOffsetsPartition(
                    partition_index=partition.partition,
                    current_leader_epoch=partition.current_leader_epoch
                    if partition.HasField("current_leader_epoch")
                    else -1,
                    timestamp=partition.timestamp_ms,
                )
            )
        answer = await ask(
            self._broker,
            ApiKey.LIST_OFFSETS,
            messages.ListOffsetsRequest(
                replica_id=-1,
                isolation_level=_isolation_of(request.isolation_level),
                topics=[messages.ListOffsetsTopic(name=name, partitions=its) for name, its in by_topic.items()],
            ),
            context,
        )
        return fetch_pb2.ListOffsetsResponse(
            partitions=[
                fetch_pb2.ListOffsetsPartitionResult(
                    topic=topic.name,
                    partition=found.partition_index,
                    error=detail(found.error_code, None, topic.name, found.partition_index),
                    offset=found.offset,
                    timestamp_ms=found.timestamp,
                    leader_epoch=found.leader_epoch,
                )
                for topic in answer.topics
                for found in topic.partitions
            ]
        )

    async def _fetch(
        self, request: fetch_pb2.FetchRequest, partitions: list[fetch_pb2.FetchPartition], max_wait_ms: int
    ) -> list[PartitionResult]:
        structured = request.format == fetch_pb2.RECORD_FORMAT_STRUCTURED
        max_bytes = min(request.max_bytes or DEFAULT_MAX_BYTES, DEFAULT_MAX_BYTES)
        if structured:
            max_bytes = min(max_bytes, MAX_STRUCTURED_RESPONSE_BYTES)
        wanted = [
            FetchPartition(
                Uuid(partition.topic_id) if partition.topic_id else partition.topic,
                partition.partition,
                partition.fetch_offset,
                partition.partition_max_bytes or DEFAULT_PARTITION_MAX_BYTES,
                partition.current_leader_epoch if partition.HasField("current_leader_epoch") else -1,
            )
            for partition in partitions
        ]
        offsets = {(partition.topic, partition.partition): partition.fetch_offset for partition in partitions}
        names = {Uuid(partition.topic_id): partition.topic for partition in partitions if partition.topic_id}
        response = await self._wait(
            FetchRequest(
                partitions=wanted,
                max_wait_ms=max_wait_ms,
                min_bytes=max(request.min_bytes, 1) if max_wait_ms else request.min_bytes,
                max_bytes=max_bytes,
                isolation=_isolation_of(request.isolation_level),
            )
        )
        if response.error:
            raise ApiError(ErrorCode(response.error))
        return _results(response.partitions, offsets, names, structured=structured)

    async def _wait(self, request: FetchRequest) -> FetchResponse:
        answer: asyncio.Future[FetchResponse] = asyncio.get_running_loop().create_future()

        def done(response: FetchResponse) -> None:
            if not answer.done():
                answer.set_result(response)

        waiting = self._broker.fetch(request, done)
        try:
            return await answer
        except asyncio.CancelledError:
            if waiting is not None:
                waiting.cancel()
            raise


def _isolation_of(level: fetch_pb2.IsolationLevel.ValueType) -> Isolation:
    isolation = _ISOLATION.get(level)
    if isolation is None:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"there is no isolation level {level}")
    return isolation


def _results(
    fetched: Iterable[FetchedPartition],
    offsets: dict[tuple[str, int], int],
    names: dict[Uuid, str],
    *,
    structured: bool,
) -> list[PartitionResult]:
    results: list[PartitionResult] = []
    for partition in fetched:
        topic = partition.topic if isinstance(partition.topic, str) else names[partition.topic]
        offset = offsets[topic, partition.index]
        result = fetch_pb2.FetchPartitionResult(
            topic=topic,
            partition=partition.index,
            error=detail(partition.error, None, topic, partition.index),
            high_watermark=partition.high_watermark,
            last_stable_offset=partition.last_stable_offset,
            log_start_offset=partition.log_start_offset,
            next_offset=offset,
        )
        if not partition.size:
            results.append(PartitionResult(result))
            continue
        data = partition.buffers[0] if len(partition.buffers) == 1 else b"".join(partition.buffers)
        if not structured:
            results.append(PartitionResult(result, data))
            result.next_offset = next_offset_of(data, offset)
            for producer_id, first_offset in partition.aborted or ():
                result.aborted_transactions.add(producer_id=producer_id, first_offset=first_offset)
            continue
        results.append(PartitionResult(result))
        try:
            records, result.next_offset = records_of(data, partition, offset)
        except DecodeError as error:
            refusal = detail(ErrorCode.CORRUPT_MESSAGE, f"{error}: read it in the batch form", topic, partition.index)
            if refusal is not None:
                result.error.CopyFrom(refusal)
        else:
            result.records.extend(records)
    return results

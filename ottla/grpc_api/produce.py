"""The Produce service."""

import asyncio
from collections import deque
from collections.abc import Callable

import grpc.aio

from ottla.broker.broker import Broker
from ottla.broker.produce import ProducedPartition, ProducedTopics, ProduceRequest
from ottla.broker.replicas import TopicKey
from ottla.core.errors import ApiError, ErrorCode
from ottla.grpc_api.calls import ask
from ottla.grpc_api.errors import Context, detail, telling_errors
from ottla.grpc_api.open_streams import OpenStreams
from ottla.grpc_api.record_forms import batch_of
from ottla.protocol.apis import ApiKey
from ottla.protocol.wire import MAX_STRING_BYTES
from ottla.v1 import produce_pb2
from ottla.v1.produce_pb2_grpc import ProduceServicer

_ACKS = {produce_pb2.ACKS_ALL: -1, produce_pb2.ACKS_LEADER: 1, produce_pb2.ACKS_NONE: 0}
DEFAULT_TIMEOUT_MS = 30_000
# Requests of one stream that wait for their acknowledgement; beyond them the stream is not read on.
MAX_PENDING_REQUESTS = 256


class Produce(ProduceServicer):
    """Appends through the broker's Produce."""

    def __init__(self, broker: Broker, streams: OpenStreams) -> None:
        self._broker, self._streams = broker, streams

    @telling_errors
    async def Produce(self, request: produce_pb2.ProduceRequest, context: Context) -> produce_pb2.ProduceResponse:
        """One request."""
        answer: asyncio.Future[produce_pb2.ProduceResponse] = asyncio.get_running_loop().create_future()

        def done(response: produce_pb2.ProduceResponse) -> None:
            if not answer.done():  # the caller may have gone
                answer.set_result(response)

        self._produce(request, done)
        return await answer

    @telling_errors
    async def ProduceStream(  # type: ignore[override]  # it writes to the context instead of yielding
        self, _: object, context: Context
    ) -> None:
        """Requests are appended in the order in which they arrive, answered as they are done."""
        await _Stream(self._produce, context).serve(self._streams)

    @telling_errors
    async def InitProducerId(
        self, request: produce_pb2.InitProducerIdRequest, context: Context
    ) -> produce_pb2.InitProducerIdResponse:
        """A handler of the broker."""
        from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest

        answer = await ask(
            self._broker,
            ApiKey.INIT_PRODUCER_ID,
            InitProducerIdRequest(
                transactional_id=request.transactional_id if request.HasField("transactional_id") else None,
                transaction_timeout_ms=request.transaction_timeout_ms or 60_000,
                producer_id=request.producer_id if request.HasField("producer_id") else -1,
                producer_epoch=request.producer_epoch if request.HasField("producer_epoch") else -1,
            ),
            context,
        )
        if answer.error_code:
            raise ApiError(ErrorCode(answer.error_code))
        return produce_pb2.InitProducerIdResponse(producer_id=answer.producer_id, producer_epoch=answer.producer_epoch)

    def _produce(
        self, request: produce_pb2.ProduceRequest, done: Callable[[produce_pb2.ProduceResponse], None]
    ) -> None:
        """Append now; `done` runs once. Raises ApiError when the request as a whole is refused."""
        request_id = request.request_id
        acks = _ACKS.get(request.acks)
        if acks is None:
            raise ApiError(ErrorCode.INVALID_REQUIRED_ACKS, f"there are no acks {request.acks}")
        refused: dict[int, ApiError] = {}
        topics: list[tuple[TopicKey, list[tuple[int, memoryview | None]]]] = []
        now_ms = self._broker.clock.time_ms()
        transactional_id = request.transactional_id if request.HasField("transactional_id") else None
        if len((transactional_id or "").encode()) > MAX_STRING_BYTES:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"a transactional id has at most {MAX_STRING_BYTES} bytes")
        for position, partition in enumerate(request.partitions):
            batch: memoryview | None = None
            try:
                match partition.WhichOneof("data"):
                    case "batch":
                        batch = memoryview(bytearray(partition.batch))  # the log writes offsets into it
                    case "records":
                        made = batch_of(partition.records, now_ms, is_transactional=transactional_id is not None)
                        batch = memoryview(bytearray(made))
            except ApiError as error:
                refused[position] = error
            if position not in refused:
                topics.append((partition.topic, [(partition.partition, batch)]))
        names = [(partition.topic, partition.partition) for partition in request.partitions]

        def answer(produced: ProducedTopics) -> None:
            outcomes = iter(produced)
            results = [
                _refusal(*name, refused[position]) if position in refused else _result(*name, next(outcomes)[1][0])
                for position, name in enumerate(names)
            ]
            done(produce_pb2.ProduceResponse(request_id=request_id, partitions=results))

        self._broker.produce(
            ProduceRequest(
                acks=acks,
                timeout_ms=request.timeout_ms or DEFAULT_TIMEOUT_MS,
                topics=topics,
                transactional_id=transactional_id,
                adds_partitions=True,
                knows_abortable=True,
            ),
            answer,
        )


def _result(topic: str, partition: int, produced: ProducedPartition) -> produce_pb2.ProducePartitionResult:
    return produce_pb2.ProducePartitionResult(
        topic=topic,
        partition=partition,
        error=detail(produced.error, produced.message, topic, partition),
        base_offset=produced.base_offset,
        log_append_time_ms=produced.log_append_time_ms,
        log_start_offset=produced.log_start_offset,
    )


def _refusal(topic: str, partition: int, error: ApiError) -> produce_pb2.ProducePartitionResult:
    return produce_pb2.ProducePartitionResult(
        topic=topic,
        partition=partition,
        error=detail(error.code, error.message, topic, partition),
        base_offset=-1,
        log_append_time_ms=-1,
        log_start_offset=-1,
    )


class _Stream:
    """One ProduceStream: a reader (this call) and a writer of the answers."""

    def __init__(
        self,
        produce: Callable[[produce_pb2.ProduceRequest, Callable[[produce_pb2.ProduceResponse], None]], None],
        context: Context,
    ) -> None:
        self._produce = produce
        self._context = context
        self._pending = 0
        self._answers: deque[produce_pb2.ProduceResponse] = deque()
        self._answered = asyncio.Event()
        self._room = asyncio.Event()

    async def serve(self, streams: OpenStreams) -> None:
        writer = asyncio.create_task(self._write(), name="ottla-grpc-produce")
        stopped: ApiError | None = None
        try:
            try:
                with streams.opened():
                    await self._read()
            except ApiError as error:
                stopped = error
            while self._pending:  # the caller has half-closed, or the node stops: what came is still answered
                self._room.clear()
                await self._room.wait()
            if stopped is not None:
                raise stopped
        finally:
            writer.cancel()
            await asyncio.wait([writer])

    async def _read(self) -> None:
        while (request := await self._context.read()) is not grpc.aio.EOF:
            self._take(request)
            while self._pending >= MAX_PENDING_REQUESTS:
                self._room.clear()
                await self._room.wait()

    def _take(self, request: produce_pb2.ProduceRequest) -> None:
        self._pending += 1
        quiet = request.acks == produce_pb2.ACKS_NONE

        def done(response: produce_pb2.ProduceResponse) -> None:
            if quiet:
                self._pending -= 1
                self._room.set()
            else:
                self._answers.append(response)
                self._answered.set()

        try:
            self._produce(request, done)
        except ApiError as error:
            refusal = detail(error.code, error.message)
            quiet = False
            done(produce_pb2.ProduceResponse(request_id=request.request_id, error=refusal))

    async def _write(self) -> None:
        while True:
            while self._answers:
                await self._context.write(self._answers.popleft())
                self._pending -= 1
                self._room.set()
            self._answered.clear()
            await self._answered.wait()

"""The stream on which a producer's requests go to one node, in the order of the calls; answered as they are done.

A stream that breaks fails everything on it; the transport then opens another.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import grpc.aio

from ottla.client.errors import ClientClosed, ClientError, ErrorCode
from ottla.client.grpc_channel import error_of_detail, error_of_status
from ottla.client.transport import ProduceRequest, ProduceResult
from ottla.client.types import TopicPartition
from ottla.v1 import produce_pb2

_ACKS = {-1: produce_pb2.ACKS_ALL, 1: produce_pb2.ACKS_LEADER, 0: produce_pb2.ACKS_NONE}
# The broker answers within the request's own time-out; past it and this, the connection counts as lost.
_GRACE_MS = 5_000
# How long the broker may take to read what was sent before a stream ends well.
_FAREWELL_SECONDS = 1.0

Answer = asyncio.Future[dict[TopicPartition, ProduceResult]]
Stream = grpc.aio.StreamStreamCall[produce_pb2.ProduceRequest, produce_pb2.ProduceResponse]


class ProduceLink:
    """One open stream."""

    def __init__(self, address: str, open_stream: Callable[[], Stream]) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._stream = open_stream()
        self._next_id = 0
        self._pending: dict[int, tuple[Answer, float]] = {}  # in order: the answer and its deadline
        self._unwritten: deque[tuple[produce_pb2.ProduceRequest, Answer | None]] = deque()
        self._to_write = asyncio.Event()
        self._watch: asyncio.TimerHandle | None = None
        self.broken: ClientError | None = None
        self._tasks = [
            asyncio.create_task(self._write(), name="ottla-client-produce-write"),
            asyncio.create_task(self._read(), name="ottla-client-produce-read"),
        ]

    def send(self, request: ProduceRequest) -> Answer:
        """Queue a request."""
        answer: Answer = self._loop.create_future()
        if self.broken is not None:
            answer.set_exception(self.broken)
            return answer
        self._next_id += 1
        message = produce_pb2.ProduceRequest(
            request_id=self._next_id,
            acks=_ACKS[request.acks],
            timeout_ms=request.timeout_ms,
            transactional_id=request.transactional_id,
            partitions=[
                produce_pb2.ProducePartition(topic=topic, partition=partition, batch=bytes(batch))
                for (topic, partition), batch in request.batches
            ],
        )
        if request.acks:
            deadline = self._loop.time() + (request.timeout_ms + _GRACE_MS) / 1000
            self._pending[self._next_id] = (answer, deadline)
            if self._watch is None:
                self._watch = self._loop.call_at(deadline, self._on_deadline)
        self._unwritten.append((message, None if request.acks else answer))
        self._to_write.set()
        return answer

    async def close(self) -> None:
        """End the stream. When nothing waits for an answer, what `acks=0` sent still arrives; else it all fails."""
        if self.broken is None and not self._pending and not self._unwritten:
            writer, reader = self._tasks
            writer.cancel()
            try:
                await self._stream.done_writing()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # it broke meanwhile
            else:
                await asyncio.wait([reader], timeout=_FAREWELL_SECONDS)
        self._break(ClientClosed())
        await asyncio.wait(self._tasks)

    async def _write(self) -> None:
        try:
            while True:
                while self._unwritten:
                    message, answer = self._unwritten.popleft()
                    await self._stream.write(message)
                    if answer is not None and not answer.done():
                        results = ProduceResult(None, -1, -1)
                        answer.set_result({TopicPartition(p.topic, p.partition): results for p in message.partitions})
                self._to_write.clear()
                await self._to_write.wait()
        except grpc.aio.AioRpcError:
            self._break(await self._why())
        except asyncio.InvalidStateError:
            # The stream ended meanwhile; the reader knows why.
            pass

    async def _read(self) -> None:
        try:
            while True:
                response = await self._stream.read()
                if response is grpc.aio.EOF:
                    break
                self._on_response(cast(produce_pb2.ProduceResponse, response))
            self._break(ClientError(ErrorCode.NETWORK_EXCEPTION, f"{self._address} ended the stream"))
        except grpc.aio.AioRpcError:
            self._break(await self._why())

    async def _why(self) -> ClientError:
        """The status with which the stream ended; a failed write or read alone says only that it did."""
        stream = self._stream
        code, details, trailing = await stream.code(), await stream.details(), await stream.trailing_metadata()
        return error_of_status(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details), self._address)

    def _on_response(self, response: produce_pb2.ProduceResponse) -> None:
        answer, _ = self._pending.pop(response.request_id, (None, 0.0))
        if answer is None or answer.done():
            return
        if response.HasField("error"):
            answer.set_exception(error_of_detail(response.error))
            return
        answer.set_result(
            {
                TopicPartition(result.topic, result.partition): ProduceResult(
                    error_of_detail(result.error) if result.HasField("error") else None,
                    result.base_offset,
                    result.log_append_time_ms,
                )
                for result in response.partitions
            }
        )

    def _on_deadline(self) -> None:
        self._watch = None
        if not self._pending:
            return
        _, deadline = next(iter(self._pending.values()))
        if deadline <= self._loop.time():
            self._break(ClientError(ErrorCode.REQUEST_TIMED_OUT, f"{self._address} does not answer"))
        else:
            self._watch = self._loop.call_at(deadline, self._on_deadline)

    def _break(self, error: ClientError) -> None:
        if self.broken is not None:
            return
        self.broken = error
        if self._watch is not None:
            self._watch.cancel()
        self._stream.cancel()
        for task in self._tasks:
            task.cancel()
        unanswered = [answer for answer, _ in self._pending.values()]
        unanswered += [answer for _, answer in self._unwritten if answer is not None]
        self._pending.clear()
        self._unwritten.clear()
        for answer in unanswered:
            if not answer.done():
                answer.set_exception(error)

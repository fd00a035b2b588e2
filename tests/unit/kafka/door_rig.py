"""A door on a live socket, before a broker whose answers the test decides."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.broker.fetch import FetchDone
from ottla.broker.fetch_messages import FetchRequest
from ottla.broker.produce import ProduceDone, ProducedPartition, ProduceRequest, _Pending
from ottla.controller.image import MetadataImage
from ottla.core.errors import ErrorCode
from ottla.kafka.door import KafkaDoor, Limits
from ottla.protocol.apis import ApiKey, RequestHeader, encode_request_header, response_class, response_header_version
from ottla.protocol.message import Message
from ottla.testing.sim.clock import SimClock


class FakeFetch:
    def __init__(self, done: FetchDone) -> None:
        self.done = done
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeBroker:
    """Collects what it is asked; the test answers."""

    def __init__(self) -> None:
        self.clock = SimClock()
        self.image = MetadataImage(offset=7, features={"metadata.version": 25})
        self.produced: list[tuple[ProduceRequest, ProduceDone]] = []
        self.fetches: list[tuple[FetchRequest, FakeFetch]] = []
        self.contexts: list[RequestContext] = []
        self.taken: list[tuple[Any, Callable[[Any], None]]] = []
        self.closed: list[int] = []
        self.when_connection_closes = [self.closed.append]
        self.handlers: dict[ApiKey, Callable[[Any], Awaitable[Any]]] = {}

    def produce(self, request: ProduceRequest, done: ProduceDone) -> None:
        self.produced.append((request, done))

    def fetch(self, request: FetchRequest, done: FetchDone) -> FakeFetch:
        waiting = FakeFetch(done)
        self.fetches.append((request, waiting))
        return waiting

    async def handle(self, api_key: ApiKey, request: Any, context: RequestContext) -> Any:
        self.contexts.append(context)
        return await self.handlers[api_key](request)

    def take(self, api_key: ApiKey, request: Any, context: RequestContext, done: Callable[[Any], None]) -> None:
        self.taken.append((request, done))

    def acknowledge(self, n: int, base_offset: int = 0, error: ErrorCode = ErrorCode.NONE) -> None:
        """Answer the n-th produce request."""
        request, done = self.produced[n]
        outcome = []
        for topic, batches in request.topics:
            partitions = [ProducedPartition(index, _Pending(lambda _: None)) for index, _ in batches]
            for partition in partitions:
                partition.base_offset = base_offset
                if error:
                    partition.refuse(error)
            outcome.append((topic, partitions))
        done(outcome)


class Client:
    """A client that speaks in frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._correlation_id = 0

    def frame(self, message: Message, version: int, client_id: str | None = "me") -> bytes:
        self._correlation_id += 1
        header = encode_request_header(RequestHeader(message.API_KEY, version, self._correlation_id, client_id))
        body = header + message.encode(version)
        return struct.pack(">i", len(body)) + body

    def send(self, message: Message, version: int) -> int:
        """Write a request; its correlation id."""
        self.writer.write(self.frame(message, version))
        return self._correlation_id

    async def receive_frame(self) -> bytes:
        (size,) = struct.unpack(">i", await self.reader.readexactly(4))
        return await self.reader.readexactly(size)

    async def receive(self, api_key: ApiKey, version: int) -> tuple[int, Any]:
        """The next answer, which must be of this type: its correlation id and the message."""
        frame = await asyncio.wait_for(self.receive_frame(), 10)
        (correlation_id,) = struct.unpack_from(">i", frame)
        start = 5 if response_header_version(api_key, version) else 4
        message, end = response_class(api_key).decode(frame, version, start)
        assert end == len(frame)
        return correlation_id, message

    async def ended(self) -> bytes:
        """What still comes until the other side closes."""
        return await asyncio.wait_for(self.reader.read(), 10)

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Served:
    """A door that listens."""

    def __init__(self, broker: FakeBroker, door: KafkaDoor, port: int) -> None:
        self.broker, self.door, self.port = broker, door, port
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        await self.door.stop()


@asynccontextmanager
async def serve(limits: Limits | None = None) -> AsyncIterator[Served]:
    broker = FakeBroker()
    door = KafkaDoor(cast(Broker, broker), limits)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    await door.listen("PLAINTEXT", [listening])
    served = Served(broker, door, listening.getsockname()[1])
    try:
        yield served
    finally:
        await served.close()


async def until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Wait for a condition; TimeoutError when it does not hold in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, not only those that somebody announces
            await asyncio.sleep(0.001)

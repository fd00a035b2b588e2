"""From a frame to the broker and back: which codec, which handler, which answer when there is none to give.

Produce and Fetch go by callbacks and hand-written codecs; every other type by the generated codecs to the broker's
handlers: those that are taken by callback are answered when it comes, for all others a coroutine runs as a task.
"""

import asyncio
from struct import Struct
from struct import error as struct_error
from typing import Any, Final

import structlog

from ottla.broker.broker import Broker
from ottla.broker.fetch_messages import FetchResponse
from ottla.broker.handlers import HANDLERS, TAKERS
from ottla.broker.leader_hints import LeaderHints
from ottla.broker.metadata_answer import MetadataAnswer
from ottla.broker.produce import ProducedTopics
from ottla.controller.image import MetadataImage
from ottla.core.errors import ApiError, DecodeError, ErrorCode
from ottla.core.types import Buffer
from ottla.kafka import fetch_codec, produce_codec
from ottla.kafka.api_versions import api_versions_response, served_versions, unsupported_version_response
from ottla.kafka.connection import Connection, Slot
from ottla.kafka.metadata_codec import MetadataEncoder
from ottla.kafka.reading import skip_tagged_fields
from ottla.protocol.apis import VERSIONS, ApiKey, request_class, response_class, response_header_version
from ottla.protocol.message import Message
from ottla.protocol.messages.api_versions_request import ApiVersionsRequest
from ottla.protocol.wire import MALFORMED

_HEADER: Final = Struct(">hhih")
_HEADER_BYTES: Final = 10
_SIZE_CORRELATION: Final = Struct(">ii")
_PRODUCE: Final = int(ApiKey.PRODUCE)
_FETCH: Final = int(ApiKey.FETCH)
# A fetch of seventy bytes may ask for fifty megabytes: while clients leave so much unread, others get less at a time.
_MAX_UNREAD_BYTES: Final = 256 << 20
_SCARCE_FETCH_BYTES: Final = 1 << 20
_API_VERSIONS: Final = int(ApiKey.API_VERSIONS)


Answer = Message | MetadataAnswer

_log: Final = structlog.get_logger(__name__)


class Dispatch:
    """The requests of one door."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._produce = broker.produce
        self._fetch = broker.fetch
        self._metadata = MetadataEncoder()
        self._leader_hints: dict[str, LeaderHints] = {}  # by listener
        self._served: dict[int, tuple[int, int]] = {}

    def __call__(self, connection: Connection, frame: bytearray) -> None:
        """Have the request in `frame` served. Raises DecodeError when the connection can only be closed."""
        try:
            api_key, version, correlation_id, length = _HEADER.unpack_from(frame)
        except struct_error as error:
            raise DecodeError(f"request header: {error}") from None
        traffic = connection.door.traffic
        traffic.requests[api_key] += 1
        traffic.received_bytes += len(frame)
        position = _HEADER_BYTES + length if length > 0 else _HEADER_BYTES
        if position > len(frame) or length < -1:
            raise DecodeError(f"request header: a client id of {length} bytes does not fit")
        if api_key == _PRODUCE and produce_codec.MIN_VERSION <= version <= produce_codec.MAX_VERSION:
            self._serve_produce(connection, frame, position, version, correlation_id)
        elif api_key == _FETCH and fetch_codec.MIN_VERSION <= version <= fetch_codec.MAX_VERSION:
            self._serve_fetch(connection, frame, position, version, correlation_id)
        else:
            client_id = frame[_HEADER_BYTES:position] if length >= 0 else None
            self._serve(connection, frame, position, api_key, version, correlation_id, client_id)

    # -- Produce

    def _serve_produce(
        self, connection: Connection, frame: bytearray, position: int, version: int, correlation_id: int
    ) -> None:
        flexible = version >= produce_codec.FIRST_FLEXIBLE
        if flexible:
            position = _skip_header_tags(frame, position)
        request = produce_codec.decode_request(frame, position, version)
        if request.acks == 0:
            self._produce(request, _Unacknowledged(connection).done)
            return
        slot = connection.reserve(len(frame))
        hint = self._hints(connection)

        def done(topics: ProducedTopics) -> None:
            out = bytearray(9 if flexible else 8)
            produce_codec.encode_response(out, topics, version, hint)
            _SIZE_CORRELATION.pack_into(out, 0, len(out) - 4, correlation_id)
            connection.answer(slot, [out])

        self._produce(request, done)

    # -- Fetch

    def _serve_fetch(
        self, connection: Connection, frame: bytearray, position: int, version: int, correlation_id: int
    ) -> None:
        flexible = version >= fetch_codec.FIRST_FLEXIBLE
        if flexible:
            position = _skip_header_tags(frame, position)
        request = fetch_codec.decode_request(frame, position, version)
        if connection.door.unread_bytes > _MAX_UNREAD_BYTES:
            request.max_bytes = min(request.max_bytes, _SCARCE_FETCH_BYTES)
        slot = connection.reserve(len(frame))
        hint = self._hints(connection)
        held = False

        def done(response: FetchResponse) -> None:
            out = bytearray(b"\0") if flexible else bytearray()
            body = fetch_codec.encode_response(out, response, version, hint)
            size = sum(map(len, body)) + 4
            connection.answer(slot, [_SIZE_CORRELATION.pack(size, correlation_id), *body])
            if held:
                connection.release()

        waiting = self._fetch(request, done)
        if waiting is not None:
            held = True
            connection.hold(waiting)

    def _hints(self, connection: Connection) -> LeaderHints:
        listener = connection.context.listener
        hints = self._leader_hints.get(listener)
        if hints is None:
            hints = self._leader_hints[listener] = LeaderHints(self._newest_image, listener)
        return hints

    def _newest_image(self) -> MetadataImage:
        return self._broker.image

    # -- everything else

    def _serve(
        self,
        connection: Connection,
        frame: bytearray,
        position: int,
        api_key: int,
        version: int,
        correlation_id: int,
        client_id: bytearray | None,
    ) -> None:
        served = self._served or self._learn_served()
        first, last = served.get(api_key, (0, -1))
        if not first <= version <= last:
            if api_key != _API_VERSIONS:
                raise DecodeError(_describe_unserved(api_key, version))
            connection.answer_at_once(_frame_of(unsupported_version_response().encode(0), correlation_id, api_key, 0))
            return
        key = ApiKey(api_key)
        if version >= VERSIONS[key][2]:
            position = _skip_header_tags(frame, position)
        try:
            request, _ = request_class(key).decode(frame, version, position)
        except DecodeError as error:
            raise DecodeError(f"{key.name} version {version}: {error}") from None
        context = connection.context
        if isinstance(request, ApiVersionsRequest):
            context.client_software_name = request.client_software_name
            context.client_software_version = request.client_software_version
            image = self._broker.image
            answer = api_versions_response(served, image.features, image.offset, version)
            connection.answer_at_once(_frame_of(answer.encode(version), correlation_id, api_key, version))
            return
        context.api_version = version
        context.client_id = None if client_id is None else client_id.decode(errors="replace")
        slot = connection.reserve(len(frame))
        if key in TAKERS:
            try:
                self._broker.take(
                    key,
                    request,
                    context,
                    lambda response: self._answer(connection, slot, response, key, version, correlation_id),
                )
            except Exception as error:
                self._fail(connection, slot, error, key, version, correlation_id)
            return
        finishing = self._finish(connection, slot, request, key, version, correlation_id)
        connection.hold(asyncio.get_running_loop().create_task(finishing))

    async def _finish(
        self,
        connection: Connection,
        slot: Slot,
        request: Message,
        key: ApiKey,
        version: int,
        correlation_id: int,
    ) -> None:
        try:
            response = await self._broker.handle(key, request, connection.context)
        except Exception as error:
            self._fail(connection, slot, error, key, version, correlation_id)
        else:
            self._answer(connection, slot, response, key, version, correlation_id)
        connection.release()

    def _answer(
        self, connection: Connection, slot: Slot, response: Answer, key: ApiKey, version: int, correlation_id: int
    ) -> None:
        if connection.closed:
            return
        try:
            if isinstance(response, MetadataAnswer):
                body = self._metadata.encode(response, version)
                self._metadata.forget_all_but(self._broker.image.topics.keys())
            else:
                body = response.encode(version)
        except Exception as error:
            _log_defect(connection, key, version, error)
            connection.refuse("an answer could not be encoded", silently=True)
            connection.answer(slot, [])
            return
        connection.answer(slot, _frame_of(body, correlation_id, key, version))

    def _fail(
        self, connection: Connection, slot: Slot, error: Exception, key: ApiKey, version: int, correlation_id: int
    ) -> None:
        """The protocol's error where the type of request has a place for one; otherwise the connection ends."""
        code = error.code if isinstance(error, ApiError) else ErrorCode.UNKNOWN_SERVER_ERROR
        if not isinstance(error, ApiError):
            _log_defect(connection, key, version, error)
        response = response_class(key)
        if not hasattr(response, "error_code"):
            connection.refuse(f"{key.name} version {version} failed: {error}", silently=not isinstance(error, ApiError))
            connection.answer(slot, [])
            return
        fields: dict[str, Any] = {"error_code": int(code)}
        if hasattr(response, "error_message") and isinstance(error, ApiError):
            fields["error_message"] = error.message or None
        self._answer(connection, slot, response(**fields), key, version, correlation_id)

    def _learn_served(self) -> dict[int, tuple[int, int]]:
        self._served = served_versions({_PRODUCE, _FETCH, _API_VERSIONS, *HANDLERS})
        return self._served


class _Unacknowledged:
    """`acks=0`: the client hears nothing; when a batch was refused, the end of the connection tells it."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def done(self, topics: ProducedTopics) -> None:
        for topic, partitions in topics:
            for partition in partitions:
                if partition.error:
                    name = topic if isinstance(topic, str) else topic.hex()
                    self._connection.refuse(f"acks=0, but {name}-{partition.index} refused: {partition.error.name}")
                    return


def _skip_header_tags(frame: bytearray, position: int) -> int:
    try:
        return skip_tagged_fields(frame, position) if frame[position] else position + 1
    except (DecodeError, *MALFORMED) as error:
        raise DecodeError(f"request header: {error}") from None


def _frame_of(body: Buffer, correlation_id: int, api_key: int, version: int) -> list[Buffer]:
    if response_header_version(api_key, version):
        return [_SIZE_CORRELATION.pack(len(body) + 5, correlation_id) + b"\0" + body]
    return [_SIZE_CORRELATION.pack(len(body) + 4, correlation_id) + body]


def _log_defect(connection: Connection, key: ApiKey, version: int, error: Exception) -> None:
    request = f"{key.name} version {version}"
    _log.error(
        "request failed",
        peer=connection.peer,
        connection=connection.context.connection_id,
        request=request,
        exc_info=error,
    )


def _describe_unserved(api_key: int, version: int) -> str:
    if api_key in VERSIONS:
        return f"{ApiKey(api_key).name} version {version} is not served"
    return f"a request of unknown type {api_key}"

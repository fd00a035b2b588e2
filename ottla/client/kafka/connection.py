"""One connection that speaks the Kafka protocol: requests go out as they come, answers come back in their order.

A connection that fails, or whose peer is silent for too long, is never used again; the transport then opens another.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, TypeVar, cast

from ottla.client.config import ConnectionConfig
from ottla.client.errors import ClientError, ErrorCode
from ottla.core.errors import ConfigError, DecodeError, EncodeError
from ottla.protocol.apis import ApiKey, RequestHeader, encode_request_header, response_header_version
from ottla.protocol.message import Message
from ottla.protocol.messages.api_versions_request import ApiVersionsRequest
from ottla.protocol.messages.api_versions_response import ApiVersionsResponse
from ottla.protocol.wire import skip_tagged_fields

M = TypeVar("M", bound=Message)

_INT32: Final = Struct(">i")
# An answer to Fetch holds at most fetch_max_bytes and one batch; what says more is not Kafka.
_MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
_LIBRARY: Final = "ottla"


class _Waiting:
    """A request that was sent, and what reads its answer."""

    __slots__ = ("answer", "api_key", "correlation_id", "future", "version")

    def __init__(
        self, api_key: int, version: int, correlation_id: int, answer: type[Message], future: "asyncio.Future[Any]"
    ) -> None:
        self.api_key = api_key
        self.version = version
        self.correlation_id = correlation_id
        self.answer = answer
        self.future = future


class Connection(asyncio.Protocol):
    """Connects when it is made; what is sent before that waits. `send` raises nothing: its future tells."""

    def __init__(self, address: str, config: ConnectionConfig, tls: Callable[[], ssl.SSLContext | None]) -> None:
        self.address = address
        self._config = config
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes] = []
        self._have, self._need = 0, 4
        self._correlation_id = 0
        self._waiting: deque[_Waiting] = deque()
        self._unsent: deque[tuple[asyncio.Future[Any], Callable[[], None]]] = deque()
        self._served: dict[int, tuple[int, int]] | None = None
        self.features: dict[str, int] = {}  # finalized ones, by name
        self.broken: ClientError | None = None
        self._connecting = asyncio.create_task(self._connect(), name=f"ottla-client-connect-{address}")

    @property
    def load(self) -> int:
        """Requests that wait for their answers."""
        return len(self._waiting) + len(self._unsent)

    async def ready(self) -> None:
        """Return when it is known what the peer speaks. Raises ClientError."""
        await asyncio.wait([self._connecting])
        if self.broken is not None:
            raise self.broken

    def newest(self, api_key: int) -> int:
        """The newest version of a request type that the peer serves; -1: none. Only after `ready`."""
        return (self._served or {}).get(api_key, (0, -1))[1]

    def send(
        self,
        request: Message,
        answer: type[M],
        timeout_s: float,
        *,
        newest: int | None = None,
        is_answered: bool = True,
    ) -> "asyncio.Future[M]":
        """Queue a request, in the newest version that both sides know and that is at most `newest`.

        Without an answer to come (Produce with `acks=0`) the future is done with an empty one when the request is
        handed to the socket.
        """
        future: asyncio.Future[M] = self._loop.create_future()
        if self.broken is not None:
            future.set_exception(self.broken)
        elif self._served is None:
            self._unsent.append((future, lambda: self._send(request, answer, timeout_s, newest, is_answered, future)))
        else:
            self._send(request, answer, timeout_s, newest, is_answered, future)
        return future

    def close(self, error: ClientError) -> None:
        """Break off; what waits for an answer fails with `error`."""
        self._break(error)

    # -- connecting

    async def _connect(self) -> None:
        host, _, port = self.address.rpartition(":")
        try:
            async with asyncio.timeout(self._config.request_timeout_ms / 1000):
                context = self._tls()
                await self._loop.create_connection(
                    lambda: self, host.strip("[]"), int(port), ssl=context, server_hostname=None
                )
                answer = await self._ask_versions(3)
                if answer.error_code == ErrorCode.UNSUPPORTED_VERSION:
                    answer = await self._ask_versions(0)
        except TimeoutError:
            self._break(ClientError(ErrorCode.REQUEST_TIMED_OUT, f"{self.address} does not answer"))
        except ClientError as error:
            self._break(error)
        except ConfigError as error:
            self._break(ClientError(ErrorCode.INVALID_CONFIG, str(error)))
        except ssl.SSLError as error:
            self._break(ClientError(ErrorCode.NETWORK_EXCEPTION, f"{self.address}: TLS: {error.reason or error}"))
        except OSError as error:
            reason = error.strerror or str(error)
            self._break(ClientError(ErrorCode.NETWORK_EXCEPTION, f"cannot connect to {self.address}: {reason}"))
        else:
            if answer.error_code:
                code = ErrorCode(answer.error_code)
                self._break(ClientError(code, f"{self.address} does not say which versions it speaks"))
                return
            self.features = {one.name: one.max_version_level for one in answer.finalized_features}
            self._served = {one.api_key: (one.min_version, one.max_version) for one in answer.api_keys}
            while self._unsent and self.broken is None:
                self._unsent.popleft()[1]()

    async def _ask_versions(self, version: int) -> ApiVersionsResponse:
        request = ApiVersionsRequest(client_software_name=_LIBRARY, client_software_version="1")
        future: asyncio.Future[ApiVersionsResponse] = self._loop.create_future()
        self._write(request, version, ApiVersionsResponse, future)
        return await future

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no class of asyncio's
        if self.broken is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        message = f"{self.address} closed the connection" if exc is None else f"{self.address}: {exc}"
        if self._served is None and exc is None:
            message += " (is this a Kafka port? an Ottla node's gRPC port is another one; with TLS it needs ssl_cafile)"
        self._break(ClientError(ErrorCode.NETWORK_EXCEPTION, message))

    # -- requests

    def _send(
        self,
        request: Message,
        answer: type[M],
        timeout_s: float,
        newest: int | None,
        is_answered: bool,
        future: "asyncio.Future[M]",
    ) -> None:
        if future.done():  # nobody waits any more
            return
        assert self._served is not None
        first, last = self._served.get(request.API_KEY, (0, -1))
        version = min(last, request.MAX_VERSION, *(() if newest is None else (newest,)))
        if version < max(first, request.MIN_VERSION):
            name = ApiKey(request.API_KEY).name
            future.set_exception(ClientError(ErrorCode.UNSUPPORTED_VERSION, f"{self.address} has no {name} for us"))
            return
        try:
            self._write(request, version, answer, future if is_answered else None)
        except EncodeError as error:
            future.set_exception(ClientError(ErrorCode.INVALID_REQUEST, str(error)))
            return
        if is_answered:
            timer = self._loop.call_later(timeout_s, self._on_silence, future)
            future.add_done_callback(lambda _: timer.cancel())
        else:
            future.set_result(answer())

    def _write(
        self, request: Message, version: int, answer: type[Message], future: "asyncio.Future[Any] | None"
    ) -> None:
        self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        header = RequestHeader(request.API_KEY, version, self._correlation_id, self._config.client_id)
        out = bytearray(4)
        out += encode_request_header(header)
        request.encode_into(out, version)
        _INT32.pack_into(out, 0, len(out) - 4)
        if future is not None:
            self._waiting.append(_Waiting(request.API_KEY, version, self._correlation_id, answer, future))
        assert self._transport is not None
        self._transport.write(out)

    def _on_silence(self, future: "asyncio.Future[Any]") -> None:
        if not future.done():
            self._break(ClientError(ErrorCode.REQUEST_TIMED_OUT, f"{self.address} does not answer"))

    # -- answers

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        buffer = b"".join(self._chunks) if len(self._chunks) > 1 else bytes(data)
        position, end = 0, len(buffer)
        while True:
            left = end - position
            if left < 4:
                self._need = 4
                break
            (size,) = _INT32.unpack_from(buffer, position)
            if not 4 <= size <= _MAX_FRAME_BYTES:
                self._break(ClientError(ErrorCode.NETWORK_EXCEPTION, f"{self.address} does not speak Kafka's protocol"))
                return
            if left < 4 + size:
                self._need = 4 + size
                break
            self._on_answer(buffer, position + 4)
            if self.broken is not None:
                return
            position += 4 + size
        rest = buffer[position:] if position else buffer
        self._chunks = [rest] if rest else []
        self._have = len(rest)

    def _on_answer(self, buffer: bytes, position: int) -> None:
        if not self._waiting:
            self._break(ClientError(ErrorCode.NETWORK_EXCEPTION, f"{self.address} answers what nobody asked"))
            return
        waiting = self._waiting.popleft()
        (correlation_id,) = _INT32.unpack_from(buffer, position)
        position += 4
        try:
            _check_order(correlation_id, waiting.correlation_id)
            if response_header_version(waiting.api_key, waiting.version):
                position = skip_tagged_fields(buffer, position)
            version = waiting.version
            if waiting.api_key == ApiKey.API_VERSIONS and buffer[position : position + 2] == b"\x00\x23":
                version = 0  # KIP-511: who does not know the version answers in the oldest
            answer, _ = waiting.answer.decode(buffer, version, position)
        except (DecodeError, IndexError) as error:
            failure = ClientError(
                ErrorCode.NETWORK_EXCEPTION, f"{self.address}: an answer that makes no sense: {error}"
            )
            if not waiting.future.done():
                waiting.future.set_exception(failure)
            self._break(failure)
            return
        if not waiting.future.done():
            waiting.future.set_result(answer)

    def _break(self, error: ClientError) -> None:
        if self.broken is not None:
            return
        self.broken = error
        if self._transport is not None:
            self._transport.abort()
        if self._transport is None and asyncio.current_task() is not self._connecting:
            self._connecting.cancel()
        waiting, self._waiting = self._waiting, deque()
        unsent, self._unsent = self._unsent, deque()
        for future in (*(one.future for one in waiting), *(future for future, _ in unsent)):
            if not future.done():
                future.set_exception(error)


def _check_order(answered: int, expected: int) -> None:
    if answered != expected:
        raise DecodeError(f"an answer to request {answered} instead of {expected}")

"""Channels to `ottla.v1` services, and what a gRPC status means to a user of the client."""

import os
from pathlib import Path

import grpc
import grpc.aio

from ottla.client.config import ConnectionConfig
from ottla.client.errors import ClientError, ClientForked, ErrorCode
from ottla.core.errors import ConfigError
from ottla.v1 import errors_pb2

DETAILS_KEY = "grpc-status-details-bin"
_KNOWN_CODES = frozenset(ErrorCode)

# An answer to Fetch holds at most fetch_max_bytes (50 MiB) and one batch; a server's own limit is its own matter.
MAX_RECEIVE_BYTES = 256 * 1024 * 1024

OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", -1),  # the client's own max_request_size bounds it
    ("grpc.keepalive_time_ms", 30_000),  # finds a peer that vanished; the server admits one every 10 s
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),  # retries are the producer's and consumer's, which know what may be repeated
    ("grpc.enable_http_proxy", 0),  # like other Kafka clients
]


_used_in = 0  # the process in which gRPC's threads run


def open_channel(address: str, config: ConnectionConfig) -> grpc.aio.Channel:
    """A channel to host:port; it connects with the first call. Raises ClientForked where it would hang for ever."""
    global _used_in
    if _used_in not in (0, os.getpid()):
        raise ClientForked(_used_in, os.getpid())
    _used_in = os.getpid()
    if not config.uses_tls:
        return grpc.aio.insecure_channel(address, OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        _pem(config.ssl_cafile, "ssl_cafile", b"CERTIFICATE"),
        _pem(config.ssl_keyfile, "ssl_keyfile", b"PRIVATE KEY"),
        _pem(config.ssl_certfile, "ssl_certfile", b"CERTIFICATE"),
    )
    return grpc.aio.secure_channel(address, credentials, OPTIONS)


def _pem(file: str | None, setting: str, kind: bytes) -> bytes | None:
    """The file's content; read for each channel, as certificates are renewed. Raises ConfigError."""
    if file is None:
        return None
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {file}: {error.strerror}") from None
    if kind + b"-----" not in content:  # gRPC would only say that it cannot connect
        raise ConfigError(f"{setting}: {file} holds no {kind.decode().lower()} as PEM")
    return content


def error_of_detail(detail: errors_pb2.ErrorDetail) -> ClientError:
    """The error that a result tells."""
    known = detail.code in _KNOWN_CODES
    return ClientError(
        ErrorCode(detail.code) if known else ErrorCode.UNKNOWN_SERVER_ERROR,
        detail.message if known else f"{detail.name} ({detail.code}): {detail.message}",
        topic=detail.topic if detail.HasField("topic") else None,
        partition=detail.partition if detail.HasField("partition") else None,
        retriable=detail.retriable,
    )


def error_of_status(error: grpc.aio.AioRpcError, address: str) -> ClientError:
    """The error of a call that failed as a whole: the server's own detail, or what the status code tells."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            status = errors_pb2.StatusDetails.FromString(value)
            for packed in status.details:
                detail = errors_pb2.ErrorDetail()
                if packed.Unpack(detail):
                    return error_of_detail(detail)
    message = f"{address}: {error.details()}"
    if "failed to connect" in message and "Socket closed" in message:  # somebody listens, and understands no HTTP/2
        message += " (is this a gRPC port? a node's is its Kafka port + 1000, and with TLS it needs ssl_cafile)"
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.INTERNAL:
            # The last without a detail is not our server's: a stream or connection that broke off.
            return ClientError(ErrorCode.NETWORK_EXCEPTION, message)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return ClientError(ErrorCode.REQUEST_TIMED_OUT, message)
        case grpc.StatusCode.UNIMPLEMENTED:
            return ClientError(ErrorCode.UNSUPPORTED_VERSION, message)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ClientError(ErrorCode.MESSAGE_TOO_LARGE, message)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return ClientError(ErrorCode.INVALID_REQUEST, message)
        case code:
            return ClientError(ErrorCode.UNKNOWN_SERVER_ERROR, f"{message} ({code.name})")

"""The registry of request types: their versions, the headers that go with them, and their message classes.

Message modules are imported when they are first asked for, so that a node holds only those that it has met.
"""

from functools import cache
from importlib import import_module
from struct import Struct
from typing import Final

from ottla.core.errors import DecodeError
from ottla.core.types import Buffer
from ottla.protocol.api_keys import VERSIONS, ApiKey
from ottla.protocol.message import Message
from ottla.protocol.wire import MALFORMED, read_string, skip_tagged_fields, write_string

__all__ = [
    "VERSIONS",
    "ApiKey",
    "RequestHeader",
    "decode_request_header",
    "encode_request_header",
    "encode_response_header",
    "is_flexible",
    "request_class",
    "request_header_version",
    "response_class",
    "response_header_version",
    "supports",
]

_FIXED_PART: Final = Struct(">hhi")
_CORRELATION_ID: Final = Struct(">i")


class RequestHeader:
    """What stands before every request. The key and the version are as sent: perhaps unknown here."""

    __slots__ = ("api_key", "api_version", "client_id", "correlation_id")

    def __init__(self, api_key: int, api_version: int, correlation_id: int, client_id: str | None) -> None:
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.client_id = client_id


def supports(api_key: int, version: int) -> bool:
    """Whether there are codecs for this version of this request type."""
    known = VERSIONS.get(api_key)
    return known is not None and known[0] <= version <= known[1]


def is_flexible(api_key: int, version: int) -> bool:
    """Whether this version has compact lengths and tagged fields (KIP-482). An unknown type counts as not flexible."""
    known = VERSIONS.get(api_key)
    return known is not None and version >= known[2]


def request_header_version(api_key: int, version: int) -> int:
    return 2 if is_flexible(api_key, version) else 1


def response_header_version(api_key: int, version: int) -> int:
    """The answer to ApiVersions is read before its reader knows what the broker speaks: always header version 0."""
    return 1 if is_flexible(api_key, version) and api_key != ApiKey.API_VERSIONS else 0


def decode_request_header(buffer: Buffer, position: int = 0) -> tuple[RequestHeader, int]:
    """The header at `position`, and the position of the request behind it. Raises DecodeError.

    Of a request type that is not known only the part up to the client id is read: nothing can be made of the rest.
    """
    try:
        api_key, version, correlation_id = _FIXED_PART.unpack_from(buffer, position)
        client_id, position = read_string(buffer, position + 8)
        if is_flexible(api_key, version):
            position = skip_tagged_fields(buffer, position)
    except MALFORMED as error:
        raise DecodeError(f"request header: {error}") from None
    return RequestHeader(api_key, version, correlation_id, client_id), position


def encode_request_header(header: RequestHeader) -> bytes:
    """The header in the version that goes with the request. Raises `struct.error` for what is out of range."""
    out = bytearray(_FIXED_PART.pack(header.api_key, header.api_version, header.correlation_id))
    write_string(out, header.client_id)
    if is_flexible(header.api_key, header.api_version):
        out.append(0)
    return bytes(out)


def encode_response_header(api_key: int, version: int, correlation_id: int) -> bytes:
    """The header in the version that goes with the answer."""
    fixed = _CORRELATION_ID.pack(correlation_id)
    return fixed + b"\x00" if response_header_version(api_key, version) else fixed


@cache
def request_class(api_key: ApiKey) -> type[Message]:
    return _message_class(api_key, "Request")


@cache
def response_class(api_key: ApiKey) -> type[Message]:
    return _message_class(api_key, "Response")


def _message_class(api_key: ApiKey, suffix: str) -> type[Message]:
    stem = ApiKey(api_key).name.lower()
    module = import_module(f"ottla.protocol.messages.{stem}_{suffix.lower()}")
    name = stem.replace("_", "") + suffix.lower()
    found: type[Message] = next(value for key, value in vars(module).items() if key.lower() == name)
    return found

"""One request of the Kafka protocol to one node, where no client library has a call for it."""

import socket
from struct import Struct
from typing import Any

from ottla.protocol.apis import VERSIONS, ApiKey, response_class, response_header_version

_HEADER = Struct(">ihhih")
_SIZE = Struct(">i")


def ask(address: str, api_key: ApiKey, request: Any, version: int | None = None, wait_s: float = 40.0) -> Any:
    """The response, in the newest version unless another one is named."""
    version = VERSIONS[api_key][1] if version is None else version
    body = bytes(request.encode(version))
    tags = b"\0" if version >= VERSIONS[api_key][2] else b""
    header = _HEADER.pack(10 + len(tags) + len(body), api_key, version, 7, -1)
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), wait_s) as connection:
        connection.sendall(header + tags + body)
        (size,) = _SIZE.unpack(_read(connection, 4))
        frame = _read(connection, size)
    return response_class(api_key).decode(frame, version, 4 + response_header_version(api_key, version))[0]


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        assert piece, f"the connection ended after {len(data)} of {count} bytes"
        data += piece
    return data

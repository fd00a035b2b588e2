"""Listening addresses in Kafka's form (`NAME://host:port`), and the sockets bound to them.

`localhost` is bound as 127.0.0.1 and ::1 with the same port, because some clients try ::1 first and take its refusal
for the broker's. The listener named SSL speaks TLS; `exposure` says what may listen where without.
"""

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass, replace
from typing import Final

from ottla.core.errors import ConfigError

_LISTENER = re.compile(r"^(?P<name>[A-Za-z0-9_]+)://(?P<address>.*)$")
_NOT_SERVED = frozenset({"SASL_SSL", "SASL_PLAINTEXT"})
TLS_LISTENER: Final = "SSL"
_PORT_TRIES = 20  # a free port of 127.0.0.1 may be taken on ::1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a port; `name` is the listener's, empty for those that are not Kafka's."""

    host: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}" if self.name else f"{host}:{self.port}"

    @property
    def address(self) -> str:
        """`host:port` without the listener's name."""
        return str(replace(self, name=""))

    @property
    def is_tls_listener(self) -> bool:
        """Whether it is the listener for Kafka clients that speak TLS."""
        return self.name == TLS_LISTENER

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def bind_hosts(self) -> tuple[str, ...]:
        """The hosts to bind: both loopback addresses for localhost, every address for no host."""
        return ("127.0.0.1", "::1") if self.host == "localhost" else (self.host or "0.0.0.0",)


def parse_endpoint(text: str, setting: str) -> Endpoint:
    """`host:port` or `[v6]:port`; raises ConfigError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{setting} = {text!r}: write host:port, for example localhost:9092 or [::1]:9092")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{setting} = {text!r}: put the IPv6 address in brackets, [{host}]:{port}")
    return Endpoint(host, int(port))


def parse_listeners(text: str, setting: str) -> tuple[Endpoint, ...]:
    """Kafka's form, comma-separated; raises ConfigError."""
    endpoints: list[Endpoint] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _LISTENER.match(part)
        if match is None:
            raise ConfigError(f"{setting} = {text!r}: write NAME://host:port, for example PLAINTEXT://localhost:9092")
        name = match["name"].upper()
        if name in _NOT_SERVED:
            raise ConfigError(f"{setting} = {text!r}: {name} is not served yet; use SSL, or PLAINTEXT on loopback")
        if any(endpoint.name == name for endpoint in endpoints):
            raise ConfigError(f"{setting} = {text!r}: give every listener a name of its own ({name} stands twice)")
        endpoints.append(replace(parse_endpoint(match["address"], setting), name=name))
    if not endpoints:
        raise ConfigError(f"{setting} is empty: write at least one listener, such as PLAINTEXT://localhost:9092")
    return tuple(endpoints)


@dataclass(frozen=True, slots=True)
class Bound:
    """An endpoint with its real port, and the sockets that listen there."""

    endpoint: Endpoint
    sockets: tuple[socket.socket, ...]


def bind(endpoint: Endpoint) -> Bound:
    """Bind (not yet listening) every address of `endpoint`; port 0 takes a free one, the same on each address."""
    for _ in range(_PORT_TRIES if endpoint.port == 0 else 1):
        bound = _try_bind(endpoint)
        if bound is not None:
            return bound
    raise ConfigError(f"no port is free on every address of {endpoint.host!r}: name a port")


def _try_bind(endpoint: Endpoint) -> Bound | None:
    sockets: list[socket.socket] = []
    port = endpoint.port
    for host in endpoint.bind_hosts():
        try:
            sockets.append(_bind_one(host, port))
        except OSError as error:
            if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # a machine without IPv6: 127.0.0.1 alone is localhost
            for bound in sockets:
                bound.close()
            if sockets and endpoint.port == 0 and error.errno == errno.EADDRINUSE:
                return None
            raise _explain(endpoint, error) from error
        port = sockets[0].getsockname()[1]
    return Bound(replace(endpoint, port=port), tuple(sockets))


def _bind_one(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setblocking(False)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def _explain(endpoint: Endpoint, error: OSError) -> ConfigError:
    if isinstance(error, socket.gaierror):
        return ConfigError(f"cannot listen on {endpoint}: the host is unknown ({error.strerror})")
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"cannot listen on {endpoint}: the port is in use. Stop what uses it, or choose another "
            "(--port, 0 for a free one)"
        )
    if error.errno == errno.EACCES:
        return ConfigError(f"cannot listen on {endpoint}: not permitted. Choose a port above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"cannot listen on {endpoint}: this machine has no such address")
    return ConfigError(f"cannot listen on {endpoint}: {error.strerror}")

"""The connections of a transport: several to a node, so that a long poll holds up nobody.

A broker answers the requests of one connection in their order. Requests that must keep theirs (Produce) share one
connection; a fetch, which may wait at the leader, has one to itself; the others take whichever waits for least.
"""

import ssl
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, TypeVar

from ottla.client.config import ConnectionConfig
from ottla.client.errors import ClientClosed, ClientError, ErrorCode
from ottla.client.kafka.connection import Connection
from ottla.core.errors import ConfigError

T = TypeVar("T")


class Lane(Enum):
    """What a connection carries, and how many of its kind there may be to a node."""

    ASK = 4
    PRODUCE = 1
    FETCH = 16


_LOST: Final = frozenset({ErrorCode.NETWORK_EXCEPTION, ErrorCode.REQUEST_TIMED_OUT})


class Links:
    """Where nodes are, and the connections to them."""

    def __init__(self, config: ConnectionConfig) -> None:
        self._config = config
        self._bootstrap = config.addresses()
        self._any = self._bootstrap[0]  # where calls go that any node answers
        self._nodes: dict[int, str] = {}
        self._connections: dict[tuple[str, Lane], list[Connection]] = {}
        self._closed = False

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for connections in self._connections.values():
            for connection in connections:
                connection.close(ClientClosed())
        self._connections.clear()

    def describe(self, nodes: dict[int, str]) -> None:
        """The nodes' addresses, as the cluster tells them."""
        self._nodes = nodes

    def learn(self, node_id: int, host: str, port: int) -> None:
        """Where a node is, told otherwise than by a description of the cluster."""
        self._nodes[node_id] = f"{host}:{port}"

    def to(self, node_id: int, lane: Lane) -> Connection:
        """A connection to a node that the cluster described. Raises ClientError."""
        address = self._nodes.get(node_id)
        if address is None:
            raise ClientError(ErrorCode.BROKER_NOT_AVAILABLE, f"no address of node {node_id} is known", retriable=True)
        return self._connection(address, lane)

    def ask_elsewhere(self) -> None:
        """The next node in turn is the one that answers what any node may."""
        addresses = list(dict.fromkeys((*self._nodes.values(), *self._bootstrap)))
        at = addresses.index(self._any) if self._any in addresses else -1
        self._any = addresses[(at + 1) % len(addresses)]

    async def ask_any(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        """The first node that can be reached answers; the one that answered last is asked first. Raises ClientError."""
        last: ClientError | None = None
        for address in dict.fromkeys((self._any, *self._nodes.values(), *self._bootstrap)):
            try:
                answer = await call(self._connection(address, Lane.ASK))
            except ClientError as error:
                if error.code not in _LOST or isinstance(error, ClientClosed):
                    raise
                last = error
            else:
                self._any = address
                return answer
        assert last is not None
        raise last

    def _connection(self, address: str, lane: Lane) -> Connection:
        if self._closed:
            raise ClientClosed()
        open_ones = [one for one in self._connections.get((address, lane), ()) if one.broken is None]
        self._connections[address, lane] = open_ones
        least = min(open_ones, key=lambda one: one.load, default=None)
        if least is None or (least.load and len(open_ones) < lane.value):
            least = Connection(address, self._config, self._tls)
            open_ones.append(least)
        return least

    def _tls(self) -> ssl.SSLContext | None:
        """Read for each connection, as certificates are renewed. Raises ConfigError."""
        config = self._config
        if not config.uses_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=config.ssl_cafile)
            if config.ssl_certfile is not None:
                context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"ssl_cafile, ssl_certfile or ssl_keyfile cannot be used: {error}") from None
        return context

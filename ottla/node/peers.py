"""Where other nodes are: `1@host:port,2@host:port`."""

from collections.abc import Mapping

from ottla.core.errors import ConfigError
from ottla.core.types import NodeId


def parse_peers(text: str) -> Mapping[NodeId, str]:
    """By node id; raises ConfigError."""
    peers: dict[NodeId, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        node, _, endpoint = part.partition("@")
        host, _, port = endpoint.rpartition(":")
        if not (node.isdigit() and host and port.isdigit() and 0 < int(port) < 1 << 16):
            raise ConfigError(f"peers: {part!r} is no peer: write NODE-ID@HOST:PORT")
        peers[NodeId(int(node))] = endpoint
    return peers

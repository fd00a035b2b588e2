"""Before the nodes of a local cluster start: founds the cluster in empty directories, checks the ones that hold it.

All nodes are formatted with one cluster id, one secret and one list of voters, so that no order of their starts can
make two clusters of them. A directory that is empty while the others hold a cluster is a lost disk: nothing is made of
it silently.
"""

import errno
import secrets
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ottla.core.errors import ConfigError
from ottla.core.types import NodeId, format_uuid
from ottla.node.data_directory import (
    Formatting,
    Identity,
    format_directory,
    is_formatted,
    new_secret,
    random_uuid,
    read_identity,
)
from ottla.node.voters import Voter

MAX_NODES = 5
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One node's directory, and where the other nodes reach it."""

    node_id: NodeId
    path: Path
    internal: str  # host:port


def found(places: Sequence[Place], *, fresh: bool) -> None:
    """Format all of them, or find that all hold the same cluster. Raises ConfigError, StorageError."""
    held = [] if fresh else [place for place in places if is_formatted(place.path)]
    if not held:
        _format(places, fresh=fresh)
        return
    identities = {place.node_id: read_identity(place.path) for place in held}
    first = next(iter(identities.values()))
    for node_id, identity in identities.items():
        if identity.cluster_id != first.cluster_id:
            raise ConfigError(
                f"node {node_id} holds cluster {format_uuid(identity.cluster_id)}, node {first.node_id} holds "
                f"{format_uuid(first.cluster_id)}: choose another directory (--dir)"
            )
    for place in places:
        if place.node_id not in identities:
            raise ConfigError(
                f"{place.path} holds no data, but node {first.node_id} beside it belongs to cluster "
                f"{format_uuid(first.cluster_id)}: restore it, or start the others with `ottla up --without "
                f"{place.node_id}`, and let it come back with an empty disk by `ottla node replace {place.node_id}`"
            )


def _format(places: Sequence[Place], *, fresh: bool) -> None:
    cluster_id, secret = random_uuid(), new_secret()
    voters = tuple(
        Voter(node_id=place.node_id, endpoint=place.internal, directory_id=random_uuid()) for place in places
    )
    for place, voter in zip(places, voters, strict=True):
        identity = Identity(cluster_id=cluster_id, node_id=place.node_id, directory_id=voter.directory_id)
        format_directory(place.path, Formatting(identity=identity, secret=secret, voters=voters), fresh=fresh)


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nothing uses now. All are held until all are found, so that they differ.

    They lie below those that the system gives to outgoing connections: one of these could take a port while its node is
    down, and keep the node from coming back.
    """
    lowest, beyond = _ports_to_choose_from()
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            one = held.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            try:
                one.bind((host, lowest + secrets.randbelow(beyond - lowest)))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            ports.append(int(one.getsockname()[1]))
    return ports


def _ports_to_choose_from() -> tuple[int, int]:
    """The first, and the one after the last."""
    try:
        outgoing = int(_OUTGOING.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        outgoing = 32768  # as Linux is delivered; other systems begin higher
    return (10_000, outgoing) if outgoing >= 12_000 else (20_000, 60_000)

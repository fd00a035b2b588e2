"""Who the nodes of a store are, and where: `cluster.json`, the same for all of them, and each node's own directory.

A member of a quorum is a node *and* its directory. The directory's name is drawn when the cluster is made, and lies in
the directory too: a node whose disk was emptied must not come back under its old name, as it may have voted.
"""

import json
import os
import random
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from ottla.core.types import NodeId, Uuid
from ottla.raft.quorum import Member, Membership

HOST = "127.0.0.1"
_PORTS = (20_000, 32_000)  # below those that systems hand out: a node that is down must find its own free


class WrongDirectory(Exception):
    """This is no directory of a cluster, or not the node's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlace:
    """One node of the cluster."""

    node: int
    directory: str  # the directory's id, in hexadecimal digits
    quorum_port: int
    client_port: int

    @property
    def member(self) -> Member:
        return Member(NodeId(self.node), Uuid(bytes.fromhex(self.directory)))

    @property
    def clients(self) -> str:
        """Where clients reach it."""
        return f"{HOST}:{self.client_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """All nodes, below one directory."""

    path: Path
    cluster_id: bytes
    secret: bytes
    nodes: dict[int, NodePlace]

    @property
    def membership(self) -> Membership:
        """What a new node begins with."""
        endpoints = {place.member: f"{HOST}:{place.quorum_port}" for place in self.nodes.values()}
        return Membership(frozenset(endpoints), endpoints=endpoints)

    @property
    def addresses(self) -> str:
        """As the clients' `--nodes` takes them."""
        return ",".join(place.clients for place in self.nodes.values())

    def node_path(self, node: int) -> Path:
        return self.path / f"node-{node}"

    def check_directory(self, node: int) -> None:
        """Raises WrongDirectory when the node lacks what it may have promised."""
        if node not in self.nodes:
            raise WrongDirectory(f"node {node} is none of {self.path}: there are {', '.join(map(str, self.nodes))}")
        name = self.node_path(node) / "directory"
        if not name.is_file() or name.read_text() != self.nodes[node].directory:
            raise WrongDirectory(
                f"{name.parent} is not what it was: node {node} may have voted and forgotten it; make a new cluster"
            )

    @classmethod
    def create(cls, path: Path, nodes: int, *, first_port: int = 0) -> "Cluster":
        """A new cluster. Clients come in at `first_port` and the ports after it; 0: where there is room."""
        path.mkdir(parents=True, exist_ok=True)
        quorum_ports = _free_ports(nodes)
        client_ports = [*range(first_port, first_port + nodes)] if first_port else _free_ports(nodes, quorum_ports)
        places = {}
        for node, quorum_port, client_port in zip(range(1, nodes + 1), quorum_ports, client_ports, strict=True):
            directory = secrets.token_hex(16)
            own = path / f"node-{node}"
            own.mkdir()
            (own / "directory").write_text(directory)
            places[node] = NodePlace(node=node, directory=directory, quorum_port=quorum_port, client_port=client_port)
        cluster = cls(path=path, cluster_id=secrets.token_bytes(16), secret=secrets.token_bytes(32), nodes=places)
        cluster._save()
        return cluster

    def _save(self) -> None:
        said = {
            "cluster_id": self.cluster_id.hex(),
            "secret": self.secret.hex(),
            "nodes": [
                {"node": p.node, "directory": p.directory, "quorum_port": p.quorum_port, "client_port": p.client_port}
                for p in self.nodes.values()
            ],
        }
        descriptor = os.open(_file(self.path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it holds the secret
        with os.fdopen(descriptor, "w") as file:
            json.dump(said, file, indent=1)

    @classmethod
    def load(cls, path: Path) -> "Cluster":
        """Raises WrongDirectory when there is none."""
        try:
            said = json.loads(_file(path).read_text())
            places = [NodePlace(**place) for place in said["nodes"]]
            cluster_id, secret = bytes.fromhex(said["cluster_id"]), bytes.fromhex(said["secret"])
        except FileNotFoundError:
            raise WrongDirectory(f"{path} has no cluster.json: `python -m examples.kv up` makes one") from None
        except (ValueError, TypeError, KeyError) as error:
            raise WrongDirectory(f"{_file(path)} is damaged: {error!r}") from error
        return cls(path=path, cluster_id=cluster_id, secret=secret, nodes={place.node: place for place in places})


def _file(path: Path) -> Path:
    return path / "cluster.json"


def _free_ports(count: int, taken: list[int] | None = None) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in found and port not in (taken or ()):
            found.append(port)
    return found

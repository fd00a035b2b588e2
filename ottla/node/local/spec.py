"""What `ottla up` was asked for, and the settings of each node that follow from it.

Node n listens for Kafka on BASE+n-1, for gRPC on BASE+1000+n-1, for HTTP on BASE+2000+n-1, and for the other nodes on
BASE+3000+n-1 and BASE+4000+n-1; with base 0 on free ports, the ones that it had before when they are still free.
Each may have an address of its own (`{node}` in the host stands for its number), also in a network namespace into which
the command before it (`launch`) brings it: then the other nodes reach it there too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ottla.core.errors import ConfigError
from ottla.core.types import NodeId
from ottla.node.certificates import LOOPBACK, Certificates
from ottla.node.config import Layer, NodeConfig
from ottla.node.founding import MAX_NODES, Place, free_ports
from ottla.node.listeners import parse_endpoint
from ottla.node.local.control import DEFAULT_DIRECTORY
from ottla.node.local.members import members, node_directory
from ottla.node.local.ports import Ports

DEFAULT_BASE_PORT: Final = 9092
TLS_DIRECTORY: Final = "tls"
NODE: Final = "{node}"
STEPS: Final = {"kafka": 0, "grpc": 1000, "http": 2000, "internal": 3000, "replication": 4000}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """`nodes` None: as many as the directory holds, or one. `without`: members that are not to start.

    `launch`: words before each node's command, such as those of `nsenter` or `taskset`; `{node}` is the node's number.
    """

    nodes: int | None = None
    without: tuple[int, ...] = ()
    directory: Path = DEFAULT_DIRECTORY
    host: str = "localhost"
    base_port: int = DEFAULT_BASE_PORT
    launch: tuple[str, ...] = ()
    advertise: str = ""
    insecure: bool = False
    tls: bool = False
    fresh: bool = False
    file: Path | None = None
    node: Mapping[str, object] = field(default_factory=dict)
    kafka: Mapping[str, object] = field(default_factory=dict)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The nodes of the cluster."""
        held = members(self.directory)
        count = (len(held) or 1) if self.nodes is None else self.nodes
        if self.fresh or len(held) < count:
            return tuple(range(1, count + 1))
        return held[:count]

    @property
    def count(self) -> int:
        """How many nodes."""
        return len(self.numbers)

    def validate(self) -> None:
        """Find what the nodes would refuse, before anything is made for them. Raises ConfigError."""
        if not 1 <= self.count <= MAX_NODES:
            raise ConfigError(f"--nodes {self.count}: a cluster on one machine has 1 to {MAX_NODES} nodes, usually 3")
        held = () if self.fresh else members(self.directory)
        if held and self.count > len(held):
            raise ConfigError(
                f"--nodes {self.count}: the cluster in {self.directory} has the nodes {', '.join(map(str, held))}: "
                "start it without --nodes, and add more with `ottla node add`"
            )
        if unknown := set(self.without).difference(self.numbers):
            raise ConfigError(f"--without {min(unknown)}: the cluster has {', '.join(map(str, self.numbers))}")
        if self._own_addresses and not self.base_port:
            raise ConfigError(f"--host {self.host}: nodes with addresses of their own need a --port other than 0")
        highest = 65535 - max(STEPS.values()) - MAX_NODES
        if not 0 <= self.base_port <= highest:
            raise ConfigError(f"--port {self.base_port}: choose one between 1 and {highest}, or 0")
        ports = Ports(self.directory)
        settings = self.node_settings(self.numbers[0], self.places(ports), ports)
        NodeConfig.load(flags=Layer(origin="flag", node=settings, kafka=self.kafka), file=self.file)

    @property
    def log(self) -> Path:
        """Where the nodes' logs go when they have no terminal of their own."""
        return self.directory / "nodes.log"

    def node_directory(self, number: int) -> Path:
        """Where a node keeps its data."""
        return node_directory(self.directory, number)

    @property
    def certificates(self) -> Certificates | None:
        """Where those of the cluster are, when it is to speak TLS."""
        return Certificates(self.directory / TLS_DIRECTORY) if self.tls else None

    def make_certificates(self) -> None:
        """Make those that are lacking, or lack a name by which the nodes are reached. Raises ConfigError, OSError."""
        certificates = self.certificates
        if certificates is None:
            return
        own = [self._host(n) for n in range(1, MAX_NODES + 1)]
        hosts = list(dict.fromkeys([*LOOPBACK, *filter(None, (*own, self.advertise))]))
        if not certificates.covers(hosts, MAX_NODES):  # also for nodes that are added later
            certificates.create(hosts, MAX_NODES)

    def places(self, ports: Ports) -> list[Place]:
        """Where the nodes are, for each other. On free ports, `ports` learns which were chosen."""
        return self._places(self.numbers, ports)

    def place(self, number: int, ports: Ports) -> Place:
        """Where one more node is to be."""
        return self._places((number,), ports)[0]

    def _places(self, numbers: Sequence[int], ports: Ports) -> list[Place]:
        if not self.base_port:
            host = self._inner_host(numbers[0])
            ports.keep_free(host, numbers)
            lacking = [(n, listener) for n in numbers for listener in STEPS if not ports.get(n, listener)]
            for (number, listener), port in zip(lacking, free_ports(host, len(lacking)), strict=True):
                ports.learn(number, {listener: port})
        return [
            Place(
                node_id=NodeId(n),
                path=self.node_directory(n),
                internal=f"{_shown(self._inner_host(n))}:{self._port(n, 'internal', ports)}",
            )
            for n in numbers
        ]

    def node_settings(self, number: int, places: Sequence[Place], ports: Ports) -> dict[str, object]:
        """The flags of node `number`, counted from 1."""

        def at(listener: str) -> str:
            return f"{_shown(self._host(number))}:{self._port(number, listener, ports)}"

        settings: dict[str, object] = {
            "node_id": number,
            "data_dir": str(self.node_directory(number)),
            "listeners": f"{self._listener}://{at('kafka')}",
            "grpc_listener": at("grpc"),
            "http_listener": at("http"),
            "internal_listener": next(place.internal for place in places if place.node_id == number),
            "replication_listener": f"{_shown(self._inner_host(number))}:{self._port(number, 'replication', ports)}",
            "peers": ",".join(f"{place.node_id}@{place.internal}" for place in places),
            **self._tls_settings(number),
            **self.node,
        }
        if self.insecure:
            settings["insecure"] = True
        if self.advertise:
            advertised = f"[{self.advertise}]" if self.advertise.count(":") > 1 else self.advertise
            # Port 0: the port that was bound.
            port = self._port(number, "kafka", ports)
            settings["advertised_listeners"] = f"{self._listener}://{advertised}:{port}"
            settings["advertised_grpc"] = f"{advertised}:{self._port(number, 'grpc', ports)}"
        return settings

    def command_before(self, number: int) -> list[str]:
        """The words of `launch`, for that node."""
        return [word.replace(NODE, str(number)) for word in self.launch]

    @property
    def _own_addresses(self) -> bool:
        return NODE in self.host

    def _host(self, number: int) -> str:
        return self.host.replace(NODE, str(number))

    def _inner_host(self, number: int) -> str:
        """Where the nodes reach each other: on this machine, whatever clients are offered, or at its own address."""
        if self._own_addresses:
            return self._host(number)
        return "::1" if self.host == "::1" else "127.0.0.1"

    @property
    def _listener(self) -> str:
        return "SSL" if self.tls else "PLAINTEXT"

    def _tls_settings(self, number: int) -> dict[str, object]:
        certificates = self.certificates
        if certificates is None:
            return {}
        own = certificates.node(number)
        return {
            "tls_certificate": str(own.certificate),
            "tls_key": str(own.key),
            "tls_ca": str(certificates.ca),
        }

    def _port(self, number: int, listener: str, ports: Ports) -> int:
        """0: any that is free."""
        return self.base_port + STEPS[listener] + number - 1 if self.base_port else ports.get(number, listener)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def check_advertise(text: str) -> str:
    """The host in `--advertise H`; raises ConfigError for a host with a port."""
    host = text.strip()
    if host.count(":") == 1:
        raise ConfigError(f"--advertise {text}: name only the host, {parse_endpoint(host, '--advertise').host}")
    return host.removeprefix("[").removesuffix("]")

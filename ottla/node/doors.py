"""The node's listening sockets: bound before anything else, advertised with the ports that they really have."""

from dataclasses import dataclass, replace

from ottla.node.config import NodeConfig
from ottla.node.listeners import Bound, Endpoint, bind


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Every bound listener, and what clients are told to connect to."""

    kafka: tuple[Bound, ...]
    kafka_advertised: dict[str, Endpoint]
    http: Bound | None

    @classmethod
    def bind(cls, config: NodeConfig) -> "Doors":
        """Bind all; when one cannot be, none stays bound. Raises ConfigError."""
        bound: list[Bound] = []
        try:
            for endpoint in config.kafka_endpoints():
                bound.append(bind(endpoint))  # noqa: PERF401 - what is bound so far is closed when one fails
            http_endpoint = config.http_endpoint()
            http = bind(http_endpoint) if http_endpoint is not None else None
        except BaseException:
            close(bound)
            raise
        advertised = config.advertised_endpoints()
        return cls(
            kafka=tuple(bound),
            kafka_advertised={
                one.endpoint.name: advertise(one.endpoint, advertised.get(one.endpoint.name)) for one in bound
            },
            http=http,
        )

    def close(self) -> None:
        """Close every socket that no server has taken over and closed already."""
        close([*self.kafka, *([self.http] if self.http else [])])


def advertise(bound: Endpoint, advertised: Endpoint | None) -> Endpoint:
    """What clients are told; port 0 stands for the port that was bound."""
    if advertised is None:
        return bound
    return replace(advertised, port=advertised.port or bound.port)


def close(bound: list[Bound]) -> None:
    """Close the sockets."""
    for one in bound:
        for listening in one.sockets:
            listening.close()

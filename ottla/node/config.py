"""One node's configuration: read from flags, environment, file and defaults, in this order of precedence.

Every value remembers where it came from (`ottla config show --origin`). Keys that nobody knows are refused by name.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ottla.core.broker_configs import BROKER_CONFIGS
from ottla.core.errors import ConfigError
from ottla.node.exposure import check_exposure, check_kafkas_tls_names
from ottla.node.listeners import Endpoint, parse_endpoint, parse_listeners
from ottla.node.settings import BY_KAFKA_NAME, BY_NAME, SETTINGS, Setting, Value

KAFKA_TABLE = "kafka"
KAFKA_ENVIRONMENT = "OTTLA_KAFKA_"
DEFAULT_ORIGIN = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The values of one source."""

    origin: str
    node: Mapping[str, object] = field(default_factory=dict)
    kafka: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """The checked configuration of one node. `kafka` holds only what somebody set, as texts, under Kafka's names."""

    node_id: int
    data_dir: str
    listeners: str
    advertised_listeners: str
    grpc_listener: str
    advertised_grpc: str
    http_listener: str
    internal_listener: str
    replication_listener: str
    peers: str
    insecure: bool
    tls_certificate: str
    tls_key: str
    tls_ca: str
    tls_client_auth: str
    rack: str
    sync_threads: int
    gil_switch_interval_us: int
    open_files: int
    shutdown_timeout_ms: int
    log_level: str
    log_format: str
    kafka: Mapping[str, str]
    origins: Mapping[str, str]

    @classmethod
    def load(
        cls, *, flags: Layer | None = None, file: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Merge the sources and validate; raises ConfigError that says what to change."""
        layers = [from_environment(os.environ if environment is None else environment)]
        if flags is not None:
            layers.insert(0, flags)
        if file is not None:
            layers.append(from_file(file))
        config = cls.merge(layers)
        config.validate()
        return config

    @classmethod
    def merge(cls, layers: Iterable[Layer]) -> Self:
        """The first layer that knows a key wins."""
        values: dict[str, Value] = {}
        kafka: dict[str, str] = {}
        origins: dict[str, str] = {}
        for layer in layers:
            for name, value in _node_values(layer).items():
                if name not in values:
                    values[name] = _setting(name, layer.origin).parse(value, layer.origin)
                    origins[name] = layer.origin
            for name, value in check_kafkas_tls_names(layer.kafka, layer.origin).items():
                if name not in BY_KAFKA_NAME and name not in kafka:
                    kafka[name] = _kafka_text(value)
                    origins[name] = layer.origin
        for setting in SETTINGS:
            if setting.name not in values:
                values[setting.name] = setting.default
                origins[setting.name] = DEFAULT_ORIGIN
        fields: dict[str, Any] = {**values}
        return cls(**fields, kafka=kafka, origins=origins)

    def validate(self) -> None:
        """Check what one field alone cannot tell; raises ConfigError that says what to change."""
        listeners = self.kafka_endpoints()
        endpoints = [
            *listeners,
            self.grpc_endpoint(),
            *filter(None, [self.http_endpoint()]),
            self.internal_endpoint(),
            self.replication_endpoint(),
        ]
        self._validate_tls()
        check_exposure(endpoints, has_certificate=self.has_tls, is_insecure=self.insecure)
        fixed = [endpoint for endpoint in endpoints if endpoint.port]
        for index, endpoint in enumerate(fixed):
            for other in fixed[:index]:
                if (endpoint.port, endpoint.host) == (other.port, other.host):
                    raise ConfigError(f"{other} and {endpoint} are the same address: give each its own port")
        advertised = self.advertised_endpoints()
        for name in advertised.keys() - {endpoint.name for endpoint in listeners}:
            raise ConfigError(f"advertised_listeners names {name}, which is not among listeners: add it there")
        if self.advertised_grpc:
            parse_endpoint(self.advertised_grpc, "advertised_grpc")
        for endpoint in listeners:
            shown = advertised.get(endpoint.name, endpoint)
            if shown.host in ("", "0.0.0.0", "::"):
                raise ConfigError(
                    f"clients cannot connect to {shown}: say in advertised_listeners (--advertise) "
                    "by which host they reach this node"
                )
        for name, between in (
            ("internal_listener", self.internal_endpoint()),
            ("replication_listener", self.replication_endpoint()),
        ):
            if between.host in ("", "0.0.0.0", "::"):
                raise ConfigError(f"{name} = {between}: name the address at which the other nodes reach this one")
        if not self.data_dir:
            raise ConfigError("data_dir is empty: name a directory")
        self._validate_kafka()

    @property
    def has_tls(self) -> bool:
        """Whether there is a certificate: then gRPC, and everything between nodes, is TLS."""
        return bool(self.tls_certificate)

    def _validate_tls(self) -> None:
        if self.has_tls and not self.tls_ca:
            raise ConfigError(
                "tls_certificate is set and tls_ca is not: name the authority's certificates (PEM), "
                "with which nodes check each other"
            )
        if self.tls_key and not self.has_tls:
            raise ConfigError("tls_key is set and tls_certificate is not: name the certificate that belongs to it")
        if self.tls_client_auth != "none" and not self.has_tls:
            raise ConfigError(
                f"tls_client_auth = {self.tls_client_auth!r} needs TLS: set tls_certificate, tls_key and tls_ca"
            )

    def _validate_kafka(self) -> None:
        for name, text in self.kafka.items():
            if name not in BROKER_CONFIGS:
                advice = _closest(name, [*BROKER_CONFIGS, *BY_NAME])
                kind = "broker config" if "." in name else "node field or broker config"
                raise ConfigError(f"{self.origins[name]}: there is no {kind} {name!r}{advice}")
            try:
                BROKER_CONFIGS.parse(name, text)
            except ConfigError as error:
                raise ConfigError(f"{self.origins[name]}: {error}") from None

    def static_configs(self) -> dict[str, str]:
        """What the node was started with, under Kafka's names: what DescribeConfigs calls static broker configs."""
        fields = {
            name: str(getattr(self, setting.name)) for name, setting in BY_KAFKA_NAME.items() if name in BROKER_CONFIGS
        }
        return {name: text for name, text in fields.items() if text} | dict(self.kafka)

    def kafka_endpoints(self) -> tuple[Endpoint, ...]:
        """`listeners`, parsed."""
        return parse_listeners(self.listeners, "listeners")

    def advertised_endpoints(self) -> dict[str, Endpoint]:
        """`advertised_listeners` by the listener's name; those that are not named are advertised as they are bound."""
        if not self.advertised_listeners:
            return {}
        return {
            endpoint.name: endpoint for endpoint in parse_listeners(self.advertised_listeners, "advertised_listeners")
        }

    def grpc_endpoint(self) -> Endpoint:
        """`grpc_listener`, parsed."""
        return parse_endpoint(self.grpc_listener, "grpc_listener")

    def internal_endpoint(self) -> Endpoint:
        """`internal_listener`, parsed."""
        return parse_endpoint(self.internal_listener, "internal_listener")

    def replication_endpoint(self) -> Endpoint:
        """`replication_listener`, parsed."""
        return parse_endpoint(self.replication_listener, "replication_listener")

    def http_endpoint(self) -> Endpoint | None:
        """`http_listener`, parsed; None when there is none."""
        return parse_endpoint(self.http_listener, "http_listener") if self.http_listener else None


def from_environment(environment: Mapping[str, str]) -> Layer:
    """`OTTLA_<FIELD>`, and `OTTLA_KAFKA_<NAME>` with underscores for Kafka's dots.

    Other variables that begin with OTTLA_ are left alone: container platforms make some of their own.
    """
    node = {
        name: environment[setting.environment]
        for name, setting in BY_NAME.items()
        if setting.environment in environment
    }
    kafka = {
        name.removeprefix(KAFKA_ENVIRONMENT).lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith(KAFKA_ENVIRONMENT)
    }
    return Layer(origin="environment", node=node, kafka=kafka)


def from_file(path: Path) -> Layer:
    """A TOML file; raises ConfigError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}: `ottla config example > {path}` makes one") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    kafka = table.pop(KAFKA_TABLE, {})
    if not isinstance(kafka, dict):
        raise ConfigError(f"{path}: write [kafka] as a table of Kafka's config names")
    for name, value in kafka.items():
        if isinstance(value, dict):
            raise ConfigError(f'{path}: put Kafka\'s name in quotes: "{_dotted(name, value)}" = …')
    return Layer(origin=str(path), node=table, kafka=kafka)


def from_assignments(assignments: Iterable[str], *, node: Mapping[str, object], origin: str = "flag") -> Layer:
    """Flags: the named ones in `node`, and `--set KEY=VALUE` where KEY is a field or one of Kafka's names."""
    fields = dict(node)
    kafka: dict[str, object] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {assignment}: write --set KEY=VALUE")
        (fields if key in BY_NAME else kafka)[key.strip()] = value
    return Layer(origin=origin, node=fields, kafka=kafka)


def _node_values(layer: Layer) -> dict[str, object]:
    values = dict(layer.node)
    for name, value in layer.kafka.items():
        setting = BY_KAFKA_NAME.get(name)
        if setting is None:
            continue
        if setting.name in values:
            raise ConfigError(f"{setting.name} and {name} mean the same ({layer.origin}): keep one of them")
        values[setting.name] = value
    return values


def _setting(name: str, origin: str) -> Setting:
    setting = BY_NAME.get(name)
    if setting is None:
        advice = _closest(name, BY_NAME)
        raise ConfigError(f"{origin}: there is no field {name!r}{advice}; Kafka's names go into the [kafka] table")
    return setting


def _closest(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    matches = get_close_matches(name, list(names), n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""


def _kafka_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(map(_kafka_text, value))
    return str(value)


def _dotted(name: str, value: Mapping[str, object]) -> str:
    inner, rest = next(iter(value.items()), ("", None))
    return f"{name}.{_dotted(inner, rest)}" if isinstance(rest, Mapping) else f"{name}.{inner}"

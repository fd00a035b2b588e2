"""The node's own settings: every field with its unit, its default and the reason for it.

These belong to one node. What the cluster or a topic is set to carries Kafka's names and stands in the `[kafka]` table
(`ottla.core.config_fields` defines it). `docs/configuration.md` and `ottla config example` are made from this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ottla.core.errors import ConfigError

Value = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One field of the node's configuration."""

    name: str
    default: Value
    unit: str
    doc: str
    reason: str
    kafka_name: str = ""  # Kafka's name for the same thing, accepted in the [kafka] table and by --set
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def environment(self) -> str:
        """The environment variable that sets it."""
        return f"OTTLA_{self.name.upper()}"

    def parse(self, value: object, origin: str) -> Value:
        """`value` as this field's type; raises ConfigError that says what to change."""
        parser = _PARSERS[type(self.default)]
        try:
            parsed = parser(value)
        except ValueError as error:
            raise ConfigError(f"{self.name} = {value!r} ({origin}): {error}") from None
        if self.choices and parsed not in self.choices:
            raise ConfigError(f"{self.name} = {value!r} ({origin}): choose one of {', '.join(self.choices)}")
        if isinstance(parsed, int) and not isinstance(parsed, bool):
            self._check_range(parsed, origin)
        return parsed

    def _check_range(self, value: int, origin: str) -> None:
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum is not None and value < self.minimum:
            raise ConfigError(f"{self.name} = {value} ({origin}): set it to {self.minimum}{unit} or more")
        if self.maximum is not None and value > self.maximum:
            raise ConfigError(f"{self.name} = {value} ({origin}): set it to {self.maximum}{unit} or less")


def _parse_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise ValueError("write true or false")


def _parse_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("write a whole number")  # noqa: TRY004 - a value out of a file, not a caller's mistake
    try:
        return int(value)
    except ValueError:
        raise ValueError("write a whole number") from None


def _parse_str(value: object) -> str:
    if not isinstance(value, str | int | Path) or isinstance(value, bool):
        raise ValueError("write a text in quotes")  # noqa: TRY004 - as above
    return str(value)


_PARSERS: Mapping[type, Callable[[object], Value]] = {bool: _parse_bool, int: _parse_int, str: _parse_str}

SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="node_id",
        default=1,
        unit="",
        minimum=1,
        maximum=2**31 - 1,
        kafka_name="node.id",
        doc="This node's number, unique in its cluster.",
        reason="Clients see it as the broker id; it is written into the data directory, which refuses another one.",
    ),
    Setting(
        name="data_dir",
        default="ottla-data/node-1",
        unit="path",
        kafka_name="log.dirs",
        doc="The directory of this node's logs and metadata. Created when missing; locked while the node runs.",
        reason="A relative path keeps a trial inside the directory it was started in. Put a service's on its own disk.",
    ),
    Setting(
        name="listeners",
        default="PLAINTEXT://localhost:9092",
        unit="NAME://host:port, comma-separated",
        kafka_name="listeners",
        doc="Where the node listens for Kafka clients. `localhost` is 127.0.0.1 and ::1; no host means every address. "
        "The listener named SSL speaks TLS.",
        reason="Loopback only, as nothing is encrypted without certificates; 9092 is where Kafka clients look first.",
    ),
    Setting(
        name="advertised_listeners",
        default="",
        unit="NAME://host:port, comma-separated",
        kafka_name="advertised.listeners",
        doc="What clients are told to connect to, for each listener's name; empty: the same as `listeners`.",
        reason="Only needed behind an address translation, such as a container's published port.",
    ),
    Setting(
        name="grpc_listener",
        default="localhost:10092",
        unit="host:port",
        doc="Where the node listens for gRPC (`ottla.v1`); with TLS as soon as there is a `tls_certificate`.",
        reason="1000 above the Kafka port, so that the nodes of one machine never meet.",
    ),
    Setting(
        name="advertised_grpc",
        default="",
        unit="host:port",
        doc="What gRPC clients are told to connect to; empty: the same as `grpc_listener`.",
        reason="As `advertised_listeners`.",
    ),
    Setting(
        name="http_listener",
        default="localhost:11092",
        unit="host:port",
        doc="Where `/metrics` (Prometheus) and `/health` are served; empty: nowhere. Plain on loopback; with TLS "
        "elsewhere, as soon as there is a `tls_certificate`.",
        reason="A port of its own, 2000 above the Kafka port: probes and scrapers need no Kafka or gRPC client.",
    ),
    Setting(
        name="internal_listener",
        default="localhost:12092",
        unit="host:port",
        doc="Where other nodes reach this one: consensus, and what brokers ask of the controller (gRPC); with TLS on "
        "both sides as soon as there is a `tls_certificate`.",
        reason="3000 above the Kafka port. Whoever connects has to prove that it knows the cluster's secret.",
    ),
    Setting(
        name="replication_listener",
        default="localhost:13092",
        unit="host:port",
        doc="Where followers connect for the records of the partitions that this node leads; with TLS as between "
        "`internal_listener`s.",
        reason="4000 above the Kafka port; raw frames, as gRPC would copy each byte four times. Same secret.",
    ),
    Setting(
        name="peers",
        default="",
        unit="ID@host:port, comma-separated",
        doc="The internal listeners of other nodes, where the quorum's own record of its members is not enough.",
        reason="Empty: the record that was made when the cluster was formatted, or the node added, is enough.",
    ),
    Setting(
        name="insecure",
        default=False,
        unit="",
        doc="Allow listening without TLS on addresses other than loopback, where nothing is encrypted then.",
        reason="False: a node that strangers can reach must be somebody's decision.",
    ),
    Setting(
        name="tls_certificate",
        default="",
        unit="path",
        kafka_name="ssl.keystore.location",
        doc="This node's certificate as PEM, and after it those between it and the authority. It bears every name by "
        "which clients and other nodes reach this node. Read again when the file changes.",
        reason="Empty: no TLS. `ottla tls create` makes one for a trial. With it, clients and nodes are spoken to in "
        "TLS only, but for the Kafka listeners that are not named SSL.",
    ),
    Setting(
        name="tls_key",
        default="",
        unit="path",
        doc="The certificate's private key as PEM, not encrypted; empty: it stands in the file `tls_certificate`.",
        reason="A file of its own can be kept from others (mode 0600). One file for both is Kafka's form.",
    ),
    Setting(
        name="tls_ca",
        default="",
        unit="path",
        kafka_name="ssl.truststore.location",
        doc="The certificates (PEM) of the authority that signs those of the nodes, and of the clients where they are "
        "asked for.",
        reason="Nodes show each other certificates of this authority; so it is the cluster's own, not one of the "
        "world's. Without a `tls_certificate` it does nothing.",
    ),
    Setting(
        name="tls_client_auth",
        default="none",
        unit="",
        kafka_name="ssl.client.auth",
        choices=("none", "requested", "required"),
        doc="Whether clients must show a certificate of `tls_ca` at the Kafka listener SSL and at the gRPC door, which "
        "takes `requested` for `none`.",
        reason="As in Kafka. Nodes always have to show theirs to each other.",
    ),
    Setting(
        name="rack",
        default="",
        unit="",
        kafka_name="broker.rack",
        doc="The rack (host, zone) of this node; replicas of one partition are spread over racks.",
        reason="Empty: one rack. Give every node of one host the same rack.",
    ),
    Setting(
        name="sync_threads",
        default=4,
        unit="threads",
        minimum=1,
        maximum=64,
        doc="Threads that write and sync log files.",
        reason="Syncs of different files overlap on the device; more than 8 gain little and wait for the interpreter.",
    ),
    Setting(
        name="gil_switch_interval_us",
        default=500,
        unit="microseconds",
        minimum=10,
        maximum=100_000,
        doc="How long a thread may hold the interpreter while another waits for it (Python's own default: 5000).",
        reason="A sync thread that has finished must not wait 5 ms for a busy event loop before it can say so.",
    ),
    Setting(
        name="open_files",
        default=65_536,
        unit="files",
        minimum=256,
        doc="The soft limit of open files is raised to this at start, as far as the hard limit allows.",
        reason="The usual soft limit of 1024 is less than a few hundred connections and partitions need.",
    ),
    Setting(
        name="shutdown_timeout_ms",
        default=10_000,
        unit="milliseconds",
        minimum=0,
        doc="How long a clean stop waits for requests in flight before it closes their connections.",
        reason="Below the grace that service managers usually give before they kill (10 to 90 seconds).",
    ),
    Setting(
        name="log_level",
        default="info",
        unit="",
        choices=("debug", "info", "warning", "error"),
        doc="The least important level of log lines that is written to standard error.",
        reason="Info tells starts, stops and whatever was repaired or refused, and nothing for each request.",
    ),
    Setting(
        name="log_format",
        default="console",
        unit="",
        choices=("console", "json"),
        doc="Log lines for people, or one JSON object a line.",
        reason="Console: whoever collects logs knows to ask for JSON.",
    ),
)

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}
BY_KAFKA_NAME: Mapping[str, Setting] = {setting.kafka_name: setting for setting in SETTINGS if setting.kafka_name}

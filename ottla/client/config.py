"""The clients' settings: names and defaults as in Kafka's own clients, with underscores for dots.

Every field says its unit, and its reason where it is not Kafka's.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from ottla.client.types import TopicPartition
from ottla.core.errors import ConfigError
from ottla.records.compression import Compression

Acks = Literal["all", 0, 1, -1]
OffsetReset = Literal["earliest", "latest", "none"]
Isolation = Literal["read_uncommitted", "read_committed"]
PartitionsListener = Callable[[list[TopicPartition]], Awaitable[None]]
BlockingListener = Callable[[list[TopicPartition]], None]
SecurityProtocol = Literal["PLAINTEXT", "SSL"]
WireProtocol = Literal["grpc", "kafka"]
CompressionType = Literal["none", "gzip", "snappy", "lz4", "zstd"]

DEFAULT_BOOTSTRAP_SERVERS = "localhost:10092"  # the gRPC port of the first node of `ottla up`


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConfig:
    """What all three clients have in common."""

    bootstrap_servers: str | tuple[str, ...] = DEFAULT_BOOTSTRAP_SERVERS  # host:port, several with commas or as a tuple
    protocol: WireProtocol = "grpc"  # "kafka": bootstrap_servers are Kafka ports, of Ottla or of Apache Kafka
    client_id: str = "ottla-client"
    request_timeout_ms: int = 30_000  # an answer that takes longer counts as a lost connection
    retry_backoff_ms: int = 100  # before the first retry; doubles with each, with 20 % jitter
    retry_backoff_max_ms: int = 1_000
    metadata_max_age_ms: int = 300_000  # topics, partitions and leaders are asked for again after this time
    api_timeout_ms: int = 60_000  # metadata, offsets, admin calls: with all their retries (default.api.timeout.ms)
    security_protocol: SecurityProtocol | None = None  # None: "SSL" when one of the files below is named
    ssl_cafile: str | None = None  # PEM, the authorities that may sign for the nodes; None: those that gRPC brings
    ssl_certfile: str | None = None  # PEM, for nodes that ask for a certificate; with ssl_keyfile
    ssl_keyfile: str | None = None

    def addresses(self) -> tuple[str, ...]:
        """The bootstrap servers as host:port; raises ConfigError when there is none or one has no port."""
        servers = self.bootstrap_servers
        parts = servers.split(",") if isinstance(servers, str) else servers
        addresses = tuple(part.strip() for part in parts if part.strip())
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit():
                raise ConfigError(f"bootstrap_servers: {address!r} is not host:port")
        if not addresses:
            raise ConfigError("bootstrap_servers is empty: name at least one host:port")
        return addresses

    @property
    def uses_tls(self) -> bool:
        """Whether connections are TLS."""
        if self.security_protocol is not None:
            return self.security_protocol == "SSL"
        return self.ssl_cafile is not None or self.ssl_certfile is not None

    def validate(self) -> None:
        """Raises ConfigError; its message says what to change."""
        self.addresses()
        if self.protocol not in ("grpc", "kafka"):
            raise ConfigError(f"protocol must be grpc or kafka, not {self.protocol!r}")
        require_at_least(self.request_timeout_ms, 1, "request_timeout_ms")
        require_at_least(self.retry_backoff_ms, 0, "retry_backoff_ms")
        require_at_least(self.retry_backoff_max_ms, self.retry_backoff_ms, "retry_backoff_max_ms")
        require_at_least(self.metadata_max_age_ms, 1, "metadata_max_age_ms")
        require_at_least(self.api_timeout_ms, 1, "api_timeout_ms")
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ConfigError("ssl_certfile and ssl_keyfile belong together: give both or neither")
        if self.security_protocol not in (None, "PLAINTEXT", "SSL"):
            raise ConfigError(f"security_protocol must be PLAINTEXT or SSL, not {self.security_protocol!r}")
        if not self.uses_tls and (self.ssl_cafile is not None or self.ssl_certfile is not None):
            raise ConfigError(
                'ssl_cafile and ssl_certfile do nothing with security_protocol="PLAINTEXT": '
                'say "SSL", or leave them out'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerConfig(ConnectionConfig):
    """How records are gathered, sent and retried."""

    acks: Acks = "all"  # "all" or -1: synced on every in-sync replica; 1: written by the leader; 0: not waited for
    batch_size: int = 16_384  # bytes of records, before compression, that close a batch
    linger_ms: float = 5  # how long a batch waits for more records
    buffer_memory: int = 33_554_432  # bytes of records that wait or are under way
    max_block_ms: int = 60_000  # how long send() waits for metadata and for room in buffer_memory
    compression_type: CompressionType = "none"
    enable_idempotence: bool = True  # needs acks="all" and at most five requests in flight
    max_in_flight_requests_per_connection: int = 5
    max_request_size: int = 1_048_576  # bytes; for one record and for one request
    retries: int = 2_147_483_647  # bounded by delivery_timeout_ms
    delivery_timeout_ms: int = 120_000  # from send() to the acknowledgement, with all retries
    transactional_id: str | None = None  # the same over restarts: a producer that starts fences the one before it
    transaction_timeout_ms: int = 60_000  # the cluster aborts a transaction that takes longer

    def validate(self) -> None:
        """Raises ConfigError; its message says what to change."""
        super(ProducerConfig, self).validate()
        if self.acks not in ("all", -1, 0, 1):
            raise ConfigError(f'acks must be "all", 1 or 0, not {self.acks!r}')
        require_at_least(self.batch_size, 0, "batch_size")
        require_at_least(self.linger_ms, 0, "linger_ms")
        require_at_least(self.buffer_memory, 1, "buffer_memory")
        require_at_least(self.max_block_ms, 0, "max_block_ms")
        require_at_least(self.max_request_size, 1, "max_request_size")
        require_at_least(self.retries, 0, "retries")
        require_at_least(self.max_in_flight_requests_per_connection, 1, "max_in_flight_requests_per_connection")
        require_at_least(self.transaction_timeout_ms, 1, "transaction_timeout_ms")
        if self.transactional_id == "":
            raise ConfigError("transactional_id is empty: name it, or leave it out to write without transactions")
        if self.transactional_id is not None and not self.enable_idempotence:
            raise ConfigError("transactions need enable_idempotence=True: leave out either it or transactional_id")
        self.compression()
        if self.delivery_timeout_ms < self.linger_ms + self.request_timeout_ms:
            raise ConfigError(
                "delivery_timeout_ms must be at least linger_ms + request_timeout_ms: raise it or lower those"
            )
        if self.enable_idempotence and self.required_acks != -1:
            raise ConfigError('enable_idempotence needs acks="all": set acks="all" or enable_idempotence=False')
        if self.enable_idempotence and self.max_in_flight_requests_per_connection > 5:
            raise ConfigError(
                "enable_idempotence allows max_in_flight_requests_per_connection of at most 5: "
                "lower it or set enable_idempotence=False"
            )

    @property
    def required_acks(self) -> int:
        """The protocol's number: -1, 0 or 1."""
        return -1 if self.acks == "all" else self.acks

    def compression(self) -> Compression:
        """The codec of `compression_type`."""
        try:
            return Compression[self.compression_type.upper()]
        except KeyError:
            names = ", ".join(codec.name.lower() for codec in Compression)
            raise ConfigError(f"compression_type {self.compression_type!r} is none of {names}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerConfig(ConnectionConfig):
    """Where reading starts and how much is read ahead."""

    auto_offset_reset: OffsetReset = "latest"  # where to read when there is no position, or it is out of range
    isolation_level: Isolation = "read_uncommitted"
    check_crcs: bool = True
    max_poll_records: int = 500  # records that one poll() gives at most
    fetch_min_bytes: int = 1
    fetch_max_wait_ms: int = 500  # how long the leader waits for fetch_min_bytes
    fetch_max_bytes: int = 52_428_800  # bytes of one answer
    max_partition_fetch_bytes: int = 1_048_576  # bytes of one partition in one answer
    prefetch_max_bytes: int = 67_108_864  # bytes read ahead of poll(); librdkafka's queued.max.messages.kbytes
    # What follows is for consumers with a group_id.
    group_instance_id: str | None = None  # static membership: after a restart it gets its partitions back
    group_remote_assignor: str | None = None  # e.g. uniform, range; None: the coordinator's choice
    client_rack: str | None = None  # the coordinator may assign by it
    enable_auto_commit: bool = True  # commit what earlier polls gave, every auto_commit_interval_ms
    auto_commit_interval_ms: int = 5_000
    max_poll_interval_ms: int = 300_000  # who polls less often leaves the group; also how long giving up may take
    on_assigned: PartitionsListener | None = None  # these partitions are read from now on
    on_revoked: PartitionsListener | None = None  # these will be others'; their offsets may still be committed
    on_lost: PartitionsListener | None = None  # these are others' already; None: on_revoked is called

    def validate(self) -> None:
        """Raises ConfigError; its message says what to change."""
        super(ConsumerConfig, self).validate()
        if self.auto_offset_reset not in ("earliest", "latest", "none"):
            raise ConfigError(f"auto_offset_reset must be earliest, latest or none, not {self.auto_offset_reset!r}")
        if self.isolation_level not in ("read_uncommitted", "read_committed"):
            raise ConfigError(
                f"isolation_level must be read_uncommitted or read_committed, not {self.isolation_level!r}"
            )
        require_at_least(self.max_poll_records, 1, "max_poll_records")
        require_at_least(self.fetch_min_bytes, 0, "fetch_min_bytes")
        require_at_least(self.fetch_max_wait_ms, 0, "fetch_max_wait_ms")
        require_at_least(self.fetch_max_bytes, 1, "fetch_max_bytes")
        require_at_least(self.max_partition_fetch_bytes, 1, "max_partition_fetch_bytes")
        require_at_least(self.prefetch_max_bytes, 1, "prefetch_max_bytes")
        require_at_least(self.auto_commit_interval_ms, 1, "auto_commit_interval_ms")
        require_at_least(self.max_poll_interval_ms, 1, "max_poll_interval_ms")
        for name in ("on_assigned", "on_revoked", "on_lost"):
            listener = getattr(self, name)
            if listener is not None and not inspect.iscoroutinefunction(listener):
                raise ConfigError(f"{name} must be an async function of a list of partitions: async def {name}(them)")


# Settings of Kafka's clients that are to be found elsewhere here.
_ELSEWHERE = {
    "default_api_timeout_ms": "it is api_timeout_ms here",
    "group_protocol": "a group's members always speak the consumer protocol (KIP-848)",
    "heartbeat_interval_ms": "the cluster says it to its groups: group.consumer.heartbeat.interval.ms",
    "partition_assignment_strategy": "the coordinator assigns: group_remote_assignor",
    "session_timeout_ms": "the cluster says it to its groups: group.consumer.session.timeout.ms",
}
_C = TypeVar("_C", bound=ConnectionConfig)


def configured(kind: type[_C], settings: Mapping[str, Any]) -> _C:
    """A valid config of this kind. Raises ConfigError; for a name that no setting has, it says which may be meant."""
    known = [field.name for field in fields(kind)]
    for name in settings:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = _ELSEWHERE.get(name) or (f"is {close[0]} meant?" if close else f"there are {', '.join(known)}")
            raise ConfigError(f"there is no setting {name} of this client: {hint}")
    config = kind(**settings)
    config.validate()
    return config


def require_at_least(value: float, least: float, name: str) -> None:
    """Raises ConfigError when a setting is too small."""
    if value < least:
        raise ConfigError(f"{name} must be at least {least}, not {value}")

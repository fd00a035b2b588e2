"""What a mirror is told, whatever file it was written in: clusters, and flows between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ottla.mirror.core.filters import NameFilter, takes_topic
from ottla.mirror.core.policy import ReplicationPolicy

Protocol = Literal["kafka", "grpc"]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """How connections to a cluster are made safe. Files are PEM."""

    protocol: SecurityProtocol = "PLAINTEXT"
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_key_password: str | None = field(default=None, repr=False)
    ssl_check_hostname: bool = True
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)

    @property
    def uses_tls(self) -> bool:
        """Whether connections are TLS."""
        return self.protocol in ("SSL", "SASL_SSL")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """One cluster and how it is reached."""

    alias: str
    bootstrap_servers: tuple[str, ...]  # host:port
    protocol: Protocol = "kafka"  # of the bootstrap servers' ports; "grpc": an Ottla cluster by its own protocol
    security: Security = Security()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowConfig:
    """One direction: topics of `source` are copied to `target` (aliases)."""

    source: str
    target: str
    enabled: bool
    topics: NameFilter
    groups: NameFilter
    configs: NameFilter  # topic configs that are kept in step
    policy: ReplicationPolicy
    start: Literal["earliest", "latest"]
    replication_factor: int
    heartbeats_replication_factor: int
    checkpoints_replication_factor: int
    offset_syncs_replication_factor: int
    progress_replication_factor: int
    progress_partitions: int
    refresh_topics_ms: int | None  # None in these: switched off
    refresh_groups_ms: int | None
    sync_topic_configs_ms: int | None
    sync_group_offsets_ms: int | None
    emit_checkpoints_ms: int | None
    emit_heartbeats_ms: int | None
    replicate_heartbeats: bool
    emit_offset_syncs: bool
    offset_syncs_location: Literal["source", "target"]
    offset_lag_max: int
    poll_timeout_ms: int
    admin_timeout_ms: int
    transaction_interval_ms: int
    transaction_bytes: int
    memory_bytes: int
    throttle_bytes_per_second: int | None
    on_topic_recreated: Literal["stop", "start-over"]
    on_record_too_large: Literal["stop", "dead-letter"]
    dead_letter_topic: str  # "": the topic's name with .dlq
    retries: int
    after_retries: Literal["continue", "stop"]
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    groups_may_go_back: bool
    exact: bool = False  # byte-exact mirror topics (`core.exact`)

    @property
    def name(self) -> str:
        """`source->target`."""
        return f"{self.source}->{self.target}"

    def takes_topic(self, topic: str) -> bool:
        """Whether this flow copies a topic of its source."""
        if self.exact and self.policy.is_heartbeats_topic(topic):
            return False  # each cluster has its own
        return takes_topic(
            topic,
            topics=self.topics,
            policy=self.policy,
            target_alias=self.target,
            replicate_heartbeats=self.replicate_heartbeats,
        )

    def remote_topic(self, topic: str) -> str:
        """What a topic of the source is called on the target."""
        return self.policy.format_remote_topic(self.source, topic)

    def dead_letters_of(self, topic: str) -> str:
        """The topic on the target for its records that are too large."""
        return self.dead_letter_topic or f"{self.remote_topic(topic)}.dlq"


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorConfig:
    """All that one mirror process is told."""

    clusters: Mapping[str, ClusterConfig]
    flows: tuple[FlowConfig, ...]  # those that are enabled
    ignored: tuple[str, ...] = ()  # names in the file that have no effect here

    def flow(self, name: str) -> FlowConfig | None:
        """The flow called `source->target`."""
        return next((flow for flow in self.flows if flow.name == name), None)

    def flow_back(self, flow: FlowConfig) -> FlowConfig | None:
        """The flow in the other direction, where there is one and both may write the same partitions."""
        if flow.exact:
            return None
        return self.flow(f"{flow.target}->{flow.source}")

    def heartbeats(self) -> dict[tuple[str, str], int]:
        """Interval (ms) by (source, target): whose heartbeats are written into the target's topic.

        As MM2 does, in both directions of each flow: those on the source are what is copied, and tells the target's
        readers how far away the source is.
        """
        wanted: dict[tuple[str, str], int] = {}
        for flow in self.flows:
            if flow.emit_heartbeats_ms is not None:
                for pair in ((flow.source, flow.target), (flow.target, flow.source)):
                    wanted[pair] = min(flow.emit_heartbeats_ms, wanted.get(pair, flow.emit_heartbeats_ms))
        return wanted

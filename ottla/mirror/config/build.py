"""From names and values, as `mm2.properties` has them, to a `MirrorConfig`.

A setting stands bare for all flows (`topics = …`), or for one (`a->b.topics = …`). What belongs to clients stands for a
cluster (`a.bootstrap.servers`, `a.consumer.fetch.max.bytes`, `a.security.protocol`), for a flow (`a->b.producer.…`), or
bare for all clusters (`ssl.truststore.location`, `consumer.…`). What nobody knows is refused by name. Of the overrides
of Kafka's clients those about security count, and `consumer.auto.offset.reset`: there are no Kafka clients here.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, cast

from ottla.core.errors import ConfigError
from ottla.mirror.config.model import ClusterConfig, FlowConfig, MirrorConfig, Protocol
from ottla.mirror.config.security import SECURITY_NAMES, parse_security
from ottla.mirror.config.settings import FLOW_SETTINGS, NOT_SUPPORTED, WITHOUT_EFFECT
from ottla.mirror.core.filters import DEFAULT_CONFIGS_EXCLUDE, NameFilter
from ottla.mirror.core.policy import make_policy

_CLIENTS: Final = ("consumer", "producer", "admin")
_CLUSTER_SETTINGS: Final = ("bootstrap.servers", "ottla.protocol")
_EXACT_DEFAULTS: Final = {
    "replication.policy.class": "identity",
    "config.properties.exclude": ", ".join(one for one in DEFAULT_CONFIGS_EXCLUDE if "timestamp" not in one),
    "heartbeats.replication.enabled": "false",
    "emit.offset-syncs.enabled": "false",
}
_EXACT_ONLY: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "replication.policy.class": (
        ("identity", "IdentityReplicationPolicy", "org.apache.kafka.connect.mirror.IdentityReplicationPolicy"),
        "a mirror topic has its source's name",
    ),
    "ottla.start": (("earliest",), "a mirror begins where its source does"),
    "ottla.on.topic.recreated": (("stop",), "two topics are never mixed: delete the old one on the target"),
}
_ALIAS: Final = re.compile(r"[A-Za-z0-9_\-]+")
_ENVIRONMENT: Final = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_PREFIXES_WITHOUT_EFFECT: Final = (
    "internal.", "offset.storage.", "status.storage.", "config.storage.", "consumer.", "producer.", "admin.",
)  # fmt: skip


@dataclass(slots=True)
class _Scope:
    """What was said for one cluster, one flow, or (bare) for all."""

    settings: dict[str, str] = field(default_factory=dict)
    security: dict[str, str] = field(default_factory=dict)
    start: str | None = None  # consumer.auto.offset.reset


def build_config(values: Mapping[str, str], *, environment: Mapping[str, str] | None = None) -> MirrorConfig:
    """The configuration of these names and values. ConfigError names what is wrong and says what to change."""
    environment = os.environ if environment is None else environment
    values = {name: _with_environment(name, value, environment) for name, value in values.items()}
    aliases = [alias.strip() for alias in values.get("clusters", "").split(",") if alias.strip()]
    _check_aliases(aliases)
    bare, clusters, flows = _Scope(), {alias: _Scope() for alias in aliases}, dict[tuple[str, str], _Scope]()
    ignored: list[str] = []
    for name, value in values.items():
        if name == "clusters":
            continue
        scope, rest = _scope_of(name, bare, clusters, flows)
        if not _place(scope, rest, value, is_cluster=name.partition(".")[0] in clusters):
            _ignore_or_refuse(name, rest, ignored)
    known = {alias: _cluster(alias, bare, scope) for alias, scope in clusters.items()}
    built = []
    for source in aliases:
        for target in aliases:
            scope = flows.get((source, target), _Scope())
            settings = {**bare.settings, **scope.settings}
            if source != target and FLOW_SETTINGS.parse("enabled", settings.get("enabled", "false")):
                start = scope.start or clusters[source].start or bare.start
                if start is not None:
                    settings.setdefault("ottla.start", start)
                built.append(_flow(source, target, settings, scope))
    _check_exact(built, known)
    return MirrorConfig(clusters=known, flows=tuple(built), ignored=tuple(ignored))


def _check_exact(flows: list[FlowConfig], clusters: Mapping[str, ClusterConfig]) -> None:
    for flow in flows:
        if not flow.exact:
            continue
        for alias in (flow.source, flow.target):
            if clusters[alias].protocol != "grpc":
                raise ConfigError(
                    f"{flow.name} is exact, so both clusters are Ottla and reached by their own protocol: write "
                    f'protocol = "grpc" and gRPC ports as bootstrap_servers into [clusters.{alias}] (in properties, '
                    f"{alias}.ottla.protocol = grpc and {alias}.bootstrap.servers); for Apache Kafka leave exact out"
                )
        if any(not one.exact for one in flows if (one.source, one.target) == (flow.target, flow.source)):
            raise ConfigError(f"{flow.target}->{flow.source} must be exact, too, or not be: {flow.name} is")


def _exact_settings(flow: str, given: Mapping[str, str]) -> Mapping[str, str]:
    """With the defaults of an exact flow. Raises ConfigError for what it cannot have."""
    settings = dict(_EXACT_DEFAULTS) | dict(given)
    for name, (allowed, why) in _EXACT_ONLY.items():
        if settings.get(name, allowed[0]) not in allowed:
            raise ConfigError(f"{flow} is exact: {name} = {settings[name]} is not possible, {why}")
    return settings


def _with_environment(name: str, value: str, environment: Mapping[str, str]) -> str:
    def look_up(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(f"{name}: the environment variable {match[1]} is not set")
        return environment[match[1]]

    return _ENVIRONMENT.sub(look_up, value)


def _check_aliases(aliases: list[str]) -> None:
    if not aliases:
        raise ConfigError("no clusters are named: write clusters = a, b and a.bootstrap.servers = host:port for each")
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            raise ConfigError(f"the alias {alias!r} may have letters, digits, - and _ only: it becomes part of names")
        if aliases.count(alias) > 1:
            raise ConfigError(f"the cluster {alias} is named twice in clusters")


def _scope_of(
    name: str, bare: _Scope, clusters: dict[str, _Scope], flows: dict[tuple[str, str], _Scope]
) -> tuple[_Scope, str]:
    first, _, rest = name.partition(".")
    if "->" in first:
        source, _, target = first.partition("->")
        for alias in (source, target):
            if alias not in clusters:
                raise ConfigError(f"{first}: there is no cluster {alias}, only {', '.join(clusters)}")
        if source == target:
            raise ConfigError(f"{name}: a flow leads from one cluster to another")
        return flows.setdefault((source, target), _Scope()), rest
    if first in clusters and rest:
        return clusters[first], rest
    return bare, name


def _place(scope: _Scope, name: str, value: str, *, is_cluster: bool) -> bool:
    """Put a value where it belongs; False when the name is none that has an effect in this scope."""
    client, _, of_client = name.partition(".")
    if name in (_CLUSTER_SETTINGS if is_cluster else FLOW_SETTINGS):
        scope.settings[name] = value
    elif name in SECURITY_NAMES:
        scope.security[name] = value
    elif client in _CLIENTS and of_client in SECURITY_NAMES:
        scope.security[of_client] = value
    elif name == "consumer.auto.offset.reset":
        scope.start = value
    else:
        return False
    return True


def _ignore_or_refuse(name: str, rest: str, ignored: list[str]) -> None:
    if rest in NOT_SUPPORTED:
        raise ConfigError(f"{name} is not supported: {NOT_SUPPORTED[rest]}")
    if rest.split(".")[0] in ("transforms", "predicates"):
        raise ConfigError(f"{name} is not supported: {NOT_SUPPORTED['transforms']}")
    if rest in WITHOUT_EFFECT or rest.startswith(_PREFIXES_WITHOUT_EFFECT):
        ignored.append(name)
        return
    for prefix in ("source.cluster.", "target.cluster.", "source.", "target."):
        if rest.startswith(prefix) and rest.removeprefix(prefix).startswith(_PREFIXES_WITHOUT_EFFECT):
            raise ConfigError(f"{name}: write it for the cluster that is meant: <alias>.{rest.removeprefix(prefix)}")
    if rest in FLOW_SETTINGS:
        raise ConfigError(f"{name} belongs to a flow: write <source>-><target>.{rest}, or {rest} for all flows")
    if rest == "bootstrap.servers":
        raise ConfigError(f"{name}: there is no such cluster in clusters")
    known = {one: one for one in (*FLOW_SETTINGS, *SECURITY_NAMES, *_CLUSTER_SETTINGS)}
    known |= {one.removeprefix("ottla."): one for one in known}
    near = get_close_matches(rest, known, n=1)
    advice = f": did you mean {name.removesuffix(rest)}{known[near[0]]}?" if near else ""
    raise ConfigError(f"{name} is not a name that a mirror knows{advice}")


def _cluster(alias: str, bare: _Scope, scope: _Scope) -> ClusterConfig:
    servers = tuple(part.strip() for part in scope.settings.get("bootstrap.servers", "").split(",") if part.strip())
    if not servers:
        raise ConfigError(f"{alias}.bootstrap.servers is missing: write host:port of at least one of its nodes")
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigError(f"{alias}.bootstrap.servers: {server!r} is not host:port")
    protocol = scope.settings.get("ottla.protocol", "kafka")
    if protocol not in ("kafka", "grpc"):
        raise ConfigError(f"{alias}.ottla.protocol is kafka, or grpc for an Ottla cluster's own, not {protocol!r}")
    security = parse_security(alias, {**bare.security, **scope.security})
    if protocol == "grpc" and security.sasl_mechanism is not None:
        raise ConfigError(f"{alias}: the gRPC protocol has no SASL: use TLS certificates, or ottla.protocol = kafka")
    return ClusterConfig(
        alias=alias,
        bootstrap_servers=servers,
        protocol=cast(Protocol, protocol),
        security=security,
    )


def _flow(
    source: str,
    target: str,
    settings: Mapping[str, str],
    scope: _Scope,
) -> FlowConfig:
    if scope.security:
        name = next(iter(scope.security))
        raise ConfigError(f"{source}->{target}.{name} belongs to a cluster: write {source}.{name} or {target}.{name}")

    def value(name: str) -> Any:
        try:
            return FLOW_SETTINGS.parse(name, settings.get(name, FLOW_SETTINGS[name].default or ""))
        except ConfigError as error:
            raise ConfigError(f"{source}->{target}: {error}") from None

    def every(name: str) -> int | None:
        return value(f"{name}.interval.seconds") * 1000 if value(f"{name}.enabled") else None

    def names(include: str, exclude: str) -> NameFilter:
        return NameFilter(_listed(value(include)), _listed(value(exclude)))

    if value("ottla.exact"):
        settings = _exact_settings(f"{source}->{target}", settings)
    for name in settings:
        value(name)  # those that are only looked at by a policy, or take one value only, too
    policy = make_policy(value("replication.policy.class"), source, settings)
    if value("ottla.retry.backoff.max.ms") < value("ottla.retry.backoff.ms"):
        raise ConfigError(
            f"{source}->{target}: ottla.retry.backoff.max.ms is less than ottla.retry.backoff.ms: raise it"
        )
    return FlowConfig(
        source=source,
        target=target,
        enabled=True,
        topics=names("topics", "topics.exclude"),
        groups=names("groups", "groups.exclude"),
        configs=NameFilter((".*",), _listed(value("config.properties.exclude"))),
        policy=policy,
        start=value("ottla.start"),
        replication_factor=value("replication.factor"),
        heartbeats_replication_factor=value("heartbeats.topic.replication.factor"),
        checkpoints_replication_factor=value("checkpoints.topic.replication.factor"),
        offset_syncs_replication_factor=value("offset-syncs.topic.replication.factor"),
        progress_replication_factor=value("ottla.progress.topic.replication.factor"),
        progress_partitions=value("ottla.progress.topic.partitions"),
        refresh_topics_ms=every("refresh.topics"),
        refresh_groups_ms=every("refresh.groups"),
        sync_topic_configs_ms=every("sync.topic.configs"),
        sync_group_offsets_ms=every("sync.group.offsets"),
        emit_checkpoints_ms=every("emit.checkpoints"),
        emit_heartbeats_ms=every("emit.heartbeats"),
        replicate_heartbeats=value("heartbeats.replication.enabled"),
        emit_offset_syncs=value("emit.offset-syncs.enabled"),
        offset_syncs_location=value("offset-syncs.topic.location"),
        offset_lag_max=value("offset.lag.max"),
        poll_timeout_ms=value("consumer.poll.timeout.ms"),
        admin_timeout_ms=value("admin.timeout.ms"),
        transaction_interval_ms=value("ottla.transaction.interval.ms"),
        transaction_bytes=value("ottla.transaction.bytes"),
        memory_bytes=value("ottla.memory.bytes"),
        throttle_bytes_per_second=value("ottla.throttle.bytes.per.second") or None,
        on_topic_recreated=value("ottla.on.topic.recreated"),
        on_record_too_large=value("ottla.on.record.too.large"),
        dead_letter_topic=value("ottla.dead.letter.topic"),
        retries=value("ottla.retries"),
        after_retries=value("ottla.after.retries"),
        retry_backoff_ms=value("ottla.retry.backoff.ms"),
        retry_backoff_max_ms=value("ottla.retry.backoff.max.ms"),
        groups_may_go_back=value("ottla.groups.may.go.back"),
        exact=value("ottla.exact"),
    )


def _listed(names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name)

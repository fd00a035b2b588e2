"""Every setting of a flow: under MirrorMaker 2's names, or `ottla.*` where it has none.

`docs/mirror.md` has the table made of this one. TOML writes the same names with underscores for dots and hyphens.
"""

from collections.abc import Mapping
from typing import Final

from ottla.core.config_fields import ConfigField, ConfigFields, ConfigType
from ottla.mirror.core.filters import (
    DEFAULT_CONFIGS_EXCLUDE,
    DEFAULT_GROUPS,
    DEFAULT_GROUPS_EXCLUDE,
    DEFAULT_TOPICS,
    DEFAULT_TOPICS_EXCLUDE,
)


def _flag(name: str, default: bool, doc: str) -> ConfigField:
    return ConfigField(name=name, type=ConfigType.BOOLEAN, default=str(default).lower(), doc=doc)


def _number(name: str, default: int, minimum: int, doc: str, unit: str = "") -> ConfigField:
    return ConfigField(name=name, type=ConfigType.LONG, default=str(default), minimum=minimum, doc=doc, unit=unit)


def _names(name: str, default: tuple[str, ...], doc: str) -> ConfigField:
    return ConfigField(name=name, type=ConfigType.LIST, default=", ".join(default), doc=doc)


def _choice(name: str, default: str, choices: tuple[str, ...], doc: str) -> ConfigField:
    return ConfigField(name=name, type=ConfigType.STRING, default=default, choices=choices, doc=doc)


def _text(name: str, default: str, doc: str) -> ConfigField:
    return ConfigField(name=name, type=ConfigType.STRING, default=default, doc=doc)


def _replicas(what: str, doc: str = "") -> ConfigField:
    topic = what.removeprefix("ottla.").removesuffix(".topic.replication.factor")
    doc = doc or f"Replicas of the topic of {topic} where it is created"
    return _number(what, -1, -1, f"{doc}; -1: the default of the cluster.")


FLOW_SETTINGS: Final = ConfigFields(
    "mirror flow",
    (
        _flag("enabled", False, "Whether this flow runs; in TOML a flow that has a table does."),
        _names("topics", DEFAULT_TOPICS, "Topics to copy: names and regular expressions."),
        _names("topics.exclude", DEFAULT_TOPICS_EXCLUDE, "Topics not to copy; wins over `topics`."),
        _names("groups", DEFAULT_GROUPS, "Groups whose offsets are translated."),
        _names("groups.exclude", DEFAULT_GROUPS_EXCLUDE, "Groups to leave alone; wins over `groups`."),
        _names("config.properties.exclude", DEFAULT_CONFIGS_EXCLUDE, "Topic configs that are not kept in step."),
        _text("replication.policy.class", "default", "`default`, `identity`, or the dotted path of a Python class."),
        _text("replication.policy.separator", ".", "What stands between alias and topic in a copy's name."),
        _flag(
            "replication.policy.internal.topic.separator.enabled",
            True,
            "Whether internal topics use `replication.policy.separator` too.",
        ),
        _replicas("replication.factor", "Replicas of topics that are created on the target"),
        _replicas("heartbeats.topic.replication.factor"),
        _replicas("checkpoints.topic.replication.factor"),
        _replicas("offset-syncs.topic.replication.factor"),
        _replicas("ottla.progress.topic.replication.factor"),
        _number("ottla.progress.topic.partitions", 8, 1, "Partitions of the progress topic where it is created."),
        _flag("refresh.topics.enabled", True, "Whether new topics and partitions are looked for."),
        _number(
            "refresh.topics.interval.seconds", 3, 1, "How often new topics and partitions are looked for.", "seconds"
        ),
        _flag("refresh.groups.enabled", True, "Whether new groups are looked for."),
        _number("refresh.groups.interval.seconds", 5, 1, "How often new groups are looked for.", "seconds"),
        _flag("sync.topic.configs.enabled", True, "Whether configs of copies follow those of the originals."),
        _number("sync.topic.configs.interval.seconds", 60, 1, "How often configs are compared.", "seconds"),
        ConfigField(
            name="sync.topic.acls.enabled",
            type=ConfigType.BOOLEAN,
            default="false",
            doc="ACLs are not kept in step: only false is taken.",
            check=lambda text: None if text.lower() == "false" else "ACLs are not kept in step; write false.",
        ),
        _flag("sync.group.offsets.enabled", False, "Whether groups that are not active on the target are moved along."),
        _number("sync.group.offsets.interval.seconds", 5, 1, "How often groups are moved along.", "seconds"),
        _flag("emit.checkpoints.enabled", True, "Whether translated offsets of groups are written as checkpoints."),
        _number(
            "emit.checkpoints.interval.seconds", 5, 1, "How often checkpoints are written, if they changed.", "seconds"
        ),
        _flag("emit.heartbeats.enabled", True, "Whether heartbeats are written."),
        _number("emit.heartbeats.interval.seconds", 1, 1, "How often a heartbeat is written.", "seconds"),
        _flag("heartbeats.replication.enabled", True, "Whether heartbeats are copied whatever `topics` says."),
        _flag("emit.offset-syncs.enabled", True, "Whether MM2's offset syncs are written, for tools that read them."),
        _choice("offset-syncs.topic.location", "source", ("source", "target"), "Which cluster has offset syncs."),
        _number("offset.lag.max", 100, 0, "Records after which the next offset sync is written.", "records"),
        _number("consumer.poll.timeout.ms", 1000, 1, "How long one fetch waits at the source.", "milliseconds"),
        _number("admin.timeout.ms", 60_000, 1, "How long one administrative request may take.", "milliseconds"),
        _flag(
            "ottla.exact",
            False,
            "Whether copies are byte-exact mirrors, with the source's offsets, read-only until they are promoted. Both "
            "clusters must be Ottla, by their gRPC ports.",
        ),
        _choice("ottla.start", "earliest", ("earliest", "latest"), "Where a partition without progress begins."),
        _number(
            "ottla.transaction.interval.ms", 100, 1, "The longest that copies wait for their commit.", "milliseconds"
        ),
        _number("ottla.transaction.bytes", 8_388_608, 1, "Bytes of copies after which a transaction ends.", "bytes"),
        _number("ottla.memory.bytes", 67_108_864, 1_048_576, "Bytes that one process holds for this flow.", "bytes"),
        _number("ottla.throttle.bytes.per.second", 0, 0, "What one process copies at most; 0: no limit.", "bytes"),
        _choice(
            "ottla.on.topic.recreated",
            "stop",
            ("stop", "start-over"),
            "When the source topic was deleted and made again: stop the partition, or copy the new one behind the old.",
        ),
        _choice(
            "ottla.on.record.too.large",
            "stop",
            ("stop", "dead-letter"),
            "When the target refuses a record for its size: stop the partition, or write it to the dead-letter topic.",
        ),
        _text("ottla.dead.letter.topic", "", "Where on the target they go; empty: the copy's name with `.dlq`."),
        _number(
            "ottla.retries",
            10,
            0,
            "Tries of a partition in trouble, one after the other, before `ottla.after.retries`.",
        ),
        _choice(
            "ottla.after.retries",
            "continue",
            ("continue", "stop"),
            "Then go on trying at the longest pause, or stop the partition.",
        ),
        _number("ottla.retry.backoff.ms", 100, 1, "The first pause of a partition in trouble.", "milliseconds"),
        _number("ottla.retry.backoff.max.ms", 30_000, 1, "The longest pause; each is twice the last.", "milliseconds"),
        _flag("ottla.groups.may.go.back", False, "Whether groups on the target are also moved backwards."),
    ),
)

NOT_SUPPORTED: Final[Mapping[str, str]] = {
    "topic.filter.class": "write topics and topics.exclude",
    "group.filter.class": "write groups and groups.exclude",
    "config.property.filter.class": "write config.properties.exclude",
    "forwarding.admin.class": "topics are created through the clusters' own admin API",
    "config.providers": "write the values, or pass secrets by environment variables: ${env:NAME}",
    "topics.blacklist": "write topics.exclude",
    "groups.blacklist": "write groups.exclude",
    "config.properties.blacklist": "write config.properties.exclude",
    "sync.topic.acls.interval.seconds": "ACLs are not kept in step: leave it out",
    "use.incremental.alter.configs": "configs are always changed incrementally: leave it out",
    "transforms": "a mirror changes no record: use a stream or a connector for that",
    "predicates": "a mirror changes no record: use a stream or a connector for that",
    "key.converter": "records are copied as bytes: leave it out",
    "value.converter": "records are copied as bytes: leave it out",
    "header.converter": "records are copied as bytes: leave it out",
}
"""Names of MM2 that would mean something else here than there, and what to do instead."""

WITHOUT_EFFECT: Final = (
    "name", "connector.class", "group.id", "config.storage.replication.factor", "offset.storage.replication.factor",
    "status.storage.replication.factor", "config.storage.topic", "offset.storage.topic", "status.storage.topic",
    "offset.storage.partitions", "status.storage.partitions", "offset.flush.interval.ms", "offset.flush.timeout.ms",
    "tasks.max",
    "exactly.once.source.support", "dedicated.mode.enable.internal.rest", "listeners", "rest.advertised.listener",
    "rest.advertised.host.name", "rest.advertised.port", "plugin.path", "metric.names.formats",
    "add.source.alias.to.metrics", "transaction.boundary", "transaction.boundary.interval.ms",
    "producer.override", "consumer.override", "scheduled.rebalance.max.delay.ms", "session.timeout.ms",
    "heartbeat.interval.ms", "rebalance.timeout.ms", "task.shutdown.graceful.timeout.ms",
)  # fmt: skip
"""Names of Connect's workers, which do no harm: there is no worker, and copying is exactly once in any case."""

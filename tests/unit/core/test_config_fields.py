import pytest

from ottla.core.broker_configs import BROKER_CONFIGS
from ottla.core.config_fields import ConfigField, ConfigFields, Value
from ottla.core.errors import ConfigError
from ottla.core.topic_configs import TOPIC_CONFIGS, check_together
from ottla.partitions.config import LogConfig

KAFKAS_TOPIC_CONFIGS = [
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
]

ALL = [*TOPIC_CONFIGS.values(), *BROKER_CONFIGS.values()]


def test_the_topic_configs_are_kafkas_and_our_own() -> None:
    assert [name for name in TOPIC_CONFIGS if not name.startswith("ottla.")] == KAFKAS_TOPIC_CONFIGS


@pytest.mark.parametrize("field", ALL, ids=lambda field: field.name)
def test_every_default_is_allowed_and_every_key_is_explained(field: ConfigField) -> None:
    if field.default is not None:
        field.parse(field.default)
    assert field.doc.endswith(".") or ":" in field.doc
    assert field.allowed()


@pytest.mark.parametrize("field", TOPIC_CONFIGS.values(), ids=lambda field: field.name)
def test_the_brokers_default_is_the_topics_default(field: ConfigField) -> None:
    defaults = [
        synonym.convert(default)
        for synonym in field.synonyms
        if (default := BROKER_CONFIGS[synonym.name].default) is not None
    ]
    assert defaults in ([], [field.default])


def test_the_log_takes_every_default() -> None:
    defaults = {field.name: field.default for field in TOPIC_CONFIGS.values() if field.default is not None}
    assert LogConfig.from_topic_configs(defaults) == LogConfig()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("retention.ms", " -1 ", -1),
        ("retention.ms", "+5", 5),
        ("cleanup.policy", "compact, delete", ["compact", "delete"]),
        ("cleanup.policy", "", []),
        ("min.cleanable.dirty.ratio", "0.25", 0.25),
        ("preallocate", "TRUE", True),
        ("compression.gzip.level", "-1", -1),
        ("leader.replication.throttled.replicas", "0:1,2:3", ["0:1", "2:3"]),
    ],
)
def test_values_that_are_taken(name: str, text: str, value: Value) -> None:
    assert TOPIC_CONFIGS.parse(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("retention.ms", "-2", "allowed is a whole number (ms) at least -1"),
        ("retention.ms", "9223372036854775808", "allowed is a whole number"),
        ("max.message.bytes", "2147483648", "allowed is a whole number (bytes) at least 0"),
        ("retention.ms", "1_000", "allowed is a whole number"),
        ("retention.ms", "١", "allowed is a whole number"),
        ("retention.ms", "1.5", "allowed is a whole number"),
        ("retention.ms", "", "allowed is a whole number"),
        ("preallocate", "yes", "allowed is true or false"),
        ("min.cleanable.dirty.ratio", "nan", "allowed is a number at least 0 and at most 1"),
        ("min.cleanable.dirty.ratio", "1.1", "allowed is a number at least 0 and at most 1"),
        ("compression.type", "GZIP", "one of uncompressed, zstd, lz4, snappy, gzip, producer"),
        ("cleanup.policy", "delete,delete", "any of compact, delete, comma-separated"),
        ("compression.gzip.level", "0", "-1 (the codec's default) or 1 to 9"),
        ("leader.replication.throttled.replicas", "0-1", "partition:broker"),
        ("remote.storage.enable", "true", "only false is supported"),
        ("local.retention.ms", "5", "allowed is a whole number (ms) at least -2 and at most -2"),
    ],
)
def test_values_that_are_refused_say_what_is_allowed(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TOPIC_CONFIGS.parse(name, text)
    assert str(caught.value).startswith(f"Invalid value {text!r} for configuration {name}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(("fields", "kind"), [(TOPIC_CONFIGS, "topic"), (BROKER_CONFIGS, "broker")])
def test_an_unknown_name_is_named(fields: ConfigFields, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"^Unknown {kind} config name: retention.hours$"):
        fields.validate({"retention.hours": "1"})


def test_values_that_contradict_each_other() -> None:
    check_together({"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "5"})
    with pytest.raises(ConfigError, match="lower the one or raise the other"):
        check_together({"min.compaction.lag.ms": "6", "max.compaction.lag.ms": "5"})

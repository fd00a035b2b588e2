"""Every broker config that Ottla knows, under Kafka's names and, where Kafka has none, `ottla.*`.

They are set statically in a node's `[kafka]` table or by `--set`, and, where the update mode allows it, dynamically for
all brokers or for one (IncrementalAlterConfigs). Kafka's other keys tune parts that Ottla does not have, and are
refused like any unknown name, so that nobody believes a key to have an effect which it does not have.
"""

from dataclasses import replace
from typing import Final

from ottla.core.broker_field import (
    BOOLEAN,
    CLUSTER_WIDE,
    DOUBLE,
    INT,
    LIST,
    LONG,
    PER_BROKER,
    READ_ONLY,
    STRING,
    UNLIMITED,
    broker_field,
)
from ottla.core.config_fields import LONG_MAX, ConfigField, ConfigFields
from ottla.core.coordinator_configs import GROUP_CONFIGS, TRANSACTION_CONFIGS
from ottla.core.topic_configs import TOPIC_CONFIGS


def _topic_default(name: str, topic_config: str) -> ConfigField:
    """The broker config behind a topic config: same type, same limits, same unit."""
    field = TOPIC_CONFIGS[topic_config]
    return replace(
        field,
        name=name,
        update_mode=CLUSTER_WIDE,
        synonyms=(),
        doc=f"The default of the topic config {topic_config}. {field.doc}",
    )


_NODE: Final = (
    broker_field("node.id", INT, None, "This node's number, unique in its cluster.", minimum=0),
    broker_field("broker.rack", STRING, None, "The rack of this node; replicas are spread over racks."),
    ConfigField(
        name="replica.selector.class",
        type=STRING,
        default=None,
        doc="Who answers consumers: leaders, or (RackAwareReplicaSelector) a replica in the consumer's rack (KIP-392).",
        choices=(
            "org.apache.kafka.common.replica.LeaderSelector",
            "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        ),
    ),
    broker_field("listeners", LIST, None, "Where the node listens for Kafka clients: NAME://host:port."),
    broker_field("advertised.listeners", LIST, None, "What clients are told to connect to: NAME://host:port."),
    broker_field("log.dirs", LIST, None, "The directory of this node's data."),
)

_TOPICS: Final = (
    broker_field(
        "auto.create.topics.enable",
        BOOLEAN,
        True,
        "Whether a client that asks for the metadata of a missing topic has it created.",
        CLUSTER_WIDE,
    ),
    broker_field(
        "delete.topic.enable",
        BOOLEAN,
        True,
        "Whether topics can be deleted.",
        CLUSTER_WIDE,
    ),
    broker_field("num.partitions", INT, 1, "The partitions of a topic created without a number.", CLUSTER_WIDE, 1),
    broker_field(
        "default.replication.factor",
        INT,
        1,
        "The replicas of a topic created without a number.",
        CLUSTER_WIDE,
        1,
        maximum=2**15 - 1,
    ),
    broker_field(
        "max.request.partition.size.limit",
        INT,
        2000,
        "The most partitions in one answer of DescribeTopicPartitions.",
        READ_ONLY,
        1,
        "partitions",
    ),
)

_LOG_DEFAULTS: Final = (
    _topic_default("log.cleanup.policy", "cleanup.policy"),
    _topic_default("compression.gzip.level", "compression.gzip.level"),
    _topic_default("compression.lz4.level", "compression.lz4.level"),
    _topic_default("compression.type", "compression.type"),
    _topic_default("compression.zstd.level", "compression.zstd.level"),
    _topic_default("log.cleaner.delete.retention.ms", "delete.retention.ms"),
    _topic_default("log.segment.delete.delay.ms", "file.delete.delay.ms"),
    _topic_default("log.flush.interval.messages", "flush.messages"),
    replace(_topic_default("log.flush.interval.ms", "flush.ms"), default=None),
    replace(_topic_default("log.flush.scheduler.interval.ms", "flush.ms"), update_mode=READ_ONLY),
    _topic_default("log.index.interval.bytes", "index.interval.bytes"),
    _topic_default("log.cleaner.max.compaction.lag.ms", "max.compaction.lag.ms"),
    _topic_default("message.max.bytes", "max.message.bytes"),
    _topic_default("log.message.timestamp.after.max.ms", "message.timestamp.after.max.ms"),
    _topic_default("log.message.timestamp.before.max.ms", "message.timestamp.before.max.ms"),
    _topic_default("log.message.timestamp.type", "message.timestamp.type"),
    _topic_default("log.cleaner.min.cleanable.ratio", "min.cleanable.dirty.ratio"),
    _topic_default("log.cleaner.min.compaction.lag.ms", "min.compaction.lag.ms"),
    _topic_default("min.insync.replicas", "min.insync.replicas"),
    _topic_default("ottla.flush.on.ack", "ottla.flush.on.ack"),
    _topic_default("log.preallocate", "preallocate"),
    _topic_default("log.retention.bytes", "retention.bytes"),
    replace(_topic_default("log.retention.ms", "retention.ms"), default=None),
    broker_field(
        "log.retention.minutes",
        INT,
        None,
        "As log.retention.ms, which comes first when both are set.",
        minimum=-1,
        unit="minutes",
    ),
    broker_field(
        "log.retention.hours",
        INT,
        168,
        "As log.retention.minutes, which comes first when both are set.",
        minimum=-1,
        unit="hours",
    ),
    _topic_default("log.segment.bytes", "segment.bytes"),
    _topic_default("log.index.size.max.bytes", "segment.index.bytes"),
    replace(_topic_default("log.roll.jitter.ms", "segment.jitter.ms"), default=None),
    broker_field(
        "log.roll.jitter.hours",
        INT,
        0,
        "As log.roll.jitter.ms, which comes first when both are set.",
        minimum=0,
        unit="hours",
    ),
    replace(_topic_default("log.roll.ms", "segment.ms"), default=None),
    broker_field(
        "log.roll.hours", INT, 168, "As log.roll.ms, which comes first when both are set.", minimum=1, unit="hours"
    ),
    _topic_default("unclean.leader.election.enable", "unclean.leader.election.enable"),
)

_LOG_UPKEEP: Final = (
    broker_field(
        "log.retention.check.interval.ms",
        LONG,
        300_000,
        "How often it is looked for segments that retention lets go.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "log.cleaner.backoff.ms",
        LONG,
        15_000,
        "How long compaction rests when there is nothing to compact.",
        CLUSTER_WIDE,
        0,
        "ms",
    ),
    broker_field(
        "log.cleaner.io.max.bytes.per.second",
        DOUBLE,
        "1.7976931348623157E308",
        "The most that compaction reads and writes in a second.",
        CLUSTER_WIDE,
        0,
        "bytes/s",
    ),
    broker_field(
        "producer.id.expiration.ms",
        INT,
        86_400_000,
        "An idempotent producer that wrote nothing for so long is forgotten.",
        CLUSTER_WIDE,
        1,
        "ms",
    ),
)

_CLUSTER: Final = (
    broker_field(
        "broker.session.timeout.ms",
        INT,
        2000,
        "A broker of which the controller hears nothing for so long is taken for dead, and others lead in its place. "
        "Kafka's default is 9000. One whose process ended is noticed by its connection, and sooner.",
        READ_ONLY,
        500,
        "ms",
    ),
    broker_field(
        "replica.lag.time.max.ms",
        LONG,
        30_000,
        "A follower that has not caught up with its leader for so long leaves the in-sync replicas.",
        READ_ONLY,
        100,
        "ms",
    ),
    broker_field(
        "auto.leader.rebalance.enable",
        BOOLEAN,
        True,
        "Whether partitions go back to their preferred leaders when these are in sync again.",
    ),
    broker_field(
        "leader.imbalance.check.interval.seconds",
        LONG,
        300,
        "How often it is looked for partitions that their preferred leaders do not lead.",
        READ_ONLY,
        1,
        "seconds",
    ),
    broker_field(
        "leader.replication.throttled.rate",
        LONG,
        LONG_MAX,
        "The most that a broker sends in a second to followers of leader.replication.throttled.replicas.",
        PER_BROKER,
        0,
        "bytes/s",
    ),
    broker_field(
        "follower.replication.throttled.rate",
        LONG,
        LONG_MAX,
        "The most that a broker fetches in a second for follower.replication.throttled.replicas.",
        PER_BROKER,
        0,
        "bytes/s",
    ),
)

_CONNECTIONS: Final = (
    broker_field(
        "socket.request.max.bytes",
        INT,
        104_857_600,
        "The largest request; a larger one ends its connection.",
        READ_ONLY,
        1,
        "bytes",
    ),
    broker_field(
        "connections.max.idle.ms",
        LONG,
        600_000,
        "A connection without a request for so long is closed; -1: never.",
        READ_ONLY,
        -1,
        "ms",
    ),
    broker_field("max.connections", INT, UNLIMITED, "The most connections to this broker.", READ_ONLY, 0),
    broker_field(
        "max.incremental.fetch.session.cache.slots",
        INT,
        1000,
        "The most fetch sessions that are kept.",
        READ_ONLY,
        0,
    ),
    broker_field(
        "fetch.max.bytes",
        INT,
        57_671_680,
        "The most that one answer to a fetch carries, whatever the client asks for.",
        READ_ONLY,
        1024,
        "bytes",
    ),
)


BROKER_CONFIGS = ConfigFields(
    "broker",
    (*_NODE, *_TOPICS, *_LOG_DEFAULTS, *_LOG_UPKEEP, *_CLUSTER, *_CONNECTIONS, *GROUP_CONFIGS, *TRANSACTION_CONFIGS),
)

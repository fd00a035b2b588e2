"""Every broker config that Ottla knows, under Kafka's names and, where Kafka has none, `ottla.*`.

They are set statically in a node's `[kafka]` table or by `--set`, and, where the update mode allows it, dynamically for
all brokers or for one (IncrementalAlterConfigs). Kafka's other keys tune parts that Ottla does not have, and are
refused like any unknown name, so that nobody believes a key to have an effect which it does not have.
"""

from dataclasses import replace
from typing import Final

from ottla.core.config_fields import LONG_MAX, ConfigField, ConfigFields, ConfigType, UpdateMode
from ottla.core.topic_configs import TOPIC_CONFIGS

CLUSTER_WIDE, PER_BROKER, READ_ONLY = UpdateMode.CLUSTER_WIDE, UpdateMode.PER_BROKER, UpdateMode.READ_ONLY


def _field(
    name: str,
    config_type: ConfigType,
    default: object,
    doc: str,
    mode: UpdateMode = READ_ONLY,
    minimum: float | None = None,
    unit: str = "",
    maximum: float | None = None,
) -> ConfigField:
    if isinstance(default, bool):
        default = str(default).lower()
    return ConfigField(
        name=name,
        type=config_type,
        default=None if default is None else str(default),
        doc=doc,
        update_mode=mode,
        minimum=minimum,
        maximum=maximum,
        unit=unit,
    )


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


BOOLEAN, STRING, LIST = ConfigType.BOOLEAN, ConfigType.STRING, ConfigType.LIST
INT, SHORT, LONG = ConfigType.INT, ConfigType.SHORT, ConfigType.LONG
DOUBLE = ConfigType.DOUBLE

_UNLIMITED: Final = 2**31 - 1

_NODE = (
    _field("node.id", INT, None, "This node's number, unique in its cluster.", minimum=0),
    _field("broker.rack", STRING, None, "The rack of this node; replicas are spread over racks."),
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
    _field("listeners", LIST, None, "Where the node listens for Kafka clients: NAME://host:port."),
    _field("advertised.listeners", LIST, None, "What clients are told to connect to: NAME://host:port."),
    _field("log.dirs", LIST, None, "The directory of this node's data."),
)

_TOPICS = (
    _field(
        "auto.create.topics.enable",
        BOOLEAN,
        True,
        "Whether a client that asks for the metadata of a missing topic has it created.",
        CLUSTER_WIDE,
    ),
    _field(
        "delete.topic.enable",
        BOOLEAN,
        True,
        "Whether topics can be deleted.",
        CLUSTER_WIDE,
    ),
    _field("num.partitions", INT, 1, "The partitions of a topic created without a number.", CLUSTER_WIDE, 1),
    _field(
        "default.replication.factor",
        INT,
        1,
        "The replicas of a topic created without a number.",
        CLUSTER_WIDE,
        1,
        maximum=2**15 - 1,
    ),
    _field(
        "max.request.partition.size.limit",
        INT,
        2000,
        "The most partitions in one answer of DescribeTopicPartitions.",
        READ_ONLY,
        1,
        "partitions",
    ),
)

_LOG_DEFAULTS = (
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
    _field(
        "log.retention.minutes",
        INT,
        None,
        "As log.retention.ms, which comes first when both are set.",
        minimum=-1,
        unit="minutes",
    ),
    _field(
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
    _field(
        "log.roll.jitter.hours",
        INT,
        0,
        "As log.roll.jitter.ms, which comes first when both are set.",
        minimum=0,
        unit="hours",
    ),
    replace(_topic_default("log.roll.ms", "segment.ms"), default=None),
    _field("log.roll.hours", INT, 168, "As log.roll.ms, which comes first when both are set.", minimum=1, unit="hours"),
    _topic_default("unclean.leader.election.enable", "unclean.leader.election.enable"),
)

_LOG_UPKEEP = (
    _field(
        "log.retention.check.interval.ms",
        LONG,
        300_000,
        "How often it is looked for segments that retention lets go.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "log.cleaner.backoff.ms",
        LONG,
        15_000,
        "How long compaction rests when there is nothing to compact.",
        CLUSTER_WIDE,
        0,
        "ms",
    ),
    _field(
        "log.cleaner.io.max.bytes.per.second",
        DOUBLE,
        "1.7976931348623157E308",
        "The most that compaction reads and writes in a second.",
        CLUSTER_WIDE,
        0,
        "bytes/s",
    ),
    _field(
        "producer.id.expiration.ms",
        INT,
        86_400_000,
        "An idempotent producer that wrote nothing for so long is forgotten.",
        CLUSTER_WIDE,
        1,
        "ms",
    ),
)

_CLUSTER = (
    _field(
        "broker.session.timeout.ms",
        INT,
        2000,
        "A broker of which the controller hears nothing for so long is taken for dead, and others lead in its place. "
        "Kafka's default is 9000. One whose process ended is noticed by its connection, and sooner.",
        READ_ONLY,
        500,
        "ms",
    ),
    _field(
        "replica.lag.time.max.ms",
        LONG,
        30_000,
        "A follower that has not caught up with its leader for so long leaves the in-sync replicas.",
        READ_ONLY,
        100,
        "ms",
    ),
    _field(
        "auto.leader.rebalance.enable",
        BOOLEAN,
        True,
        "Whether partitions go back to their preferred leaders when these are in sync again.",
    ),
    _field(
        "leader.imbalance.check.interval.seconds",
        LONG,
        300,
        "How often it is looked for partitions that their preferred leaders do not lead.",
        READ_ONLY,
        1,
        "seconds",
    ),
    _field(
        "leader.replication.throttled.rate",
        LONG,
        LONG_MAX,
        "The most that a broker sends in a second to followers of leader.replication.throttled.replicas.",
        PER_BROKER,
        0,
        "bytes/s",
    ),
    _field(
        "follower.replication.throttled.rate",
        LONG,
        LONG_MAX,
        "The most that a broker fetches in a second for follower.replication.throttled.replicas.",
        PER_BROKER,
        0,
        "bytes/s",
    ),
)

_CONNECTIONS = (
    _field(
        "socket.request.max.bytes",
        INT,
        104_857_600,
        "The largest request; a larger one ends its connection.",
        READ_ONLY,
        1,
        "bytes",
    ),
    _field(
        "connections.max.idle.ms",
        LONG,
        600_000,
        "A connection without a request for so long is closed; -1: never.",
        READ_ONLY,
        -1,
        "ms",
    ),
    _field("max.connections", INT, _UNLIMITED, "The most connections to this broker.", READ_ONLY, 0),
    _field(
        "max.incremental.fetch.session.cache.slots",
        INT,
        1000,
        "The most fetch sessions that are kept.",
        READ_ONLY,
        0,
    ),
    _field(
        "fetch.max.bytes",
        INT,
        57_671_680,
        "The most that one answer to a fetch carries, whatever the client asks for.",
        READ_ONLY,
        1024,
        "bytes",
    ),
)

_GROUPS = (
    _field(
        "group.initial.rebalance.delay.ms",
        INT,
        0,
        "How long a new group waits for more members before it first assigns partitions. 0, as in the configuration "
        "file that Kafka ships, lets a lone consumer start at once; but of members that start together the first gets "
        "all partitions until the next rebalance. Kafka's built-in default is 3000.",
        READ_ONLY,
        0,
        "ms",
    ),
    _field(
        "group.min.session.timeout.ms",
        INT,
        6000,
        "The shortest session timeout that a member may have.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "group.max.session.timeout.ms",
        INT,
        1_800_000,
        "The longest session timeout that a member may have.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field("group.max.size", INT, _UNLIMITED, "The most members of one group.", READ_ONLY, 1, "members"),
    _field(
        "group.consumer.session.timeout.ms",
        INT,
        45_000,
        "A member that uses the consumer group protocol is out after so long without a heartbeat.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "group.consumer.heartbeat.interval.ms",
        INT,
        1000,
        "How often members that use the consumer group protocol send heartbeats. Kafka's default is 5000; a partition "
        "changes hands within two heartbeats.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "group.consumer.max.size",
        INT,
        _UNLIMITED,
        "The most members of one group that uses the consumer group protocol.",
        READ_ONLY,
        1,
        "members",
    ),
    replace(
        _field(
            "group.consumer.assignors",
            LIST,
            "uniform,range",
            "The assignors that such a group may use; the first is for groups that ask for none.",
        ),
        choices=("uniform", "range"),
    ),
    replace(
        _field(
            "group.consumer.migration.policy",
            STRING,
            "bidirectional",
            "Whether a group with members changes its protocol: to the consumer group protocol with the first member "
            "that speaks it (upgrade), back when the last one has left (downgrade), both ways, or neither.",
        ),
        choices=("bidirectional", "upgrade", "downgrade", "disabled"),
    ),
    _field(
        "offset.metadata.max.bytes",
        INT,
        4096,
        "The longest text that may accompany a committed offset.",
        READ_ONLY,
        0,
        "bytes",
    ),
    _field(
        "offsets.commit.timeout.ms",
        INT,
        5000,
        "How long an offset commit waits for its replicas.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "offsets.retention.minutes",
        INT,
        10_080,
        "Offsets of a group without members are kept for so long.",
        READ_ONLY,
        1,
        "minutes",
    ),
    _field(
        "offsets.retention.check.interval.ms",
        LONG,
        600_000,
        "How often it is looked for offsets to forget.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "offsets.topic.num.partitions",
        INT,
        50,
        "The partitions of __consumer_offsets; must not change once it exists.",
        READ_ONLY,
        1,
        "partitions",
    ),
    _field(
        "offsets.topic.replication.factor",
        SHORT,
        1,
        "The replicas of __consumer_offsets when it is created.",
        READ_ONLY,
        1,
    ),
    _field(
        "offsets.topic.segment.bytes",
        INT,
        104_857_600,
        "The segment size of __consumer_offsets; small, so that it is compacted often and loads fast.",
        READ_ONLY,
        1 << 20,
        "bytes",
    ),
)

_TRANSACTIONS = (
    _field(
        "transaction.max.timeout.ms",
        INT,
        900_000,
        "The longest transaction.timeout.ms that a producer may ask for.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "transactional.id.expiration.ms",
        INT,
        604_800_000,
        "A transactional id whose last transaction ended so long ago is forgotten.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        INT,
        10_000,
        "After how long the abort of a transaction past its timeout is tried again.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        INT,
        3_600_000,
        "How often it is looked for transactional ids to forget.",
        READ_ONLY,
        1,
        "ms",
    ),
    _field(
        "transaction.state.log.num.partitions",
        INT,
        50,
        "The partitions of __transaction_state; must not change once it exists.",
        READ_ONLY,
        1,
        "partitions",
    ),
    _field(
        "transaction.state.log.replication.factor",
        SHORT,
        1,
        "The replicas of __transaction_state when it is created.",
        READ_ONLY,
        1,
    ),
    _field(
        "transaction.state.log.min.isr",
        INT,
        1,
        "The in-sync replicas that __transaction_state needs for a write, as set when it is created.",
        READ_ONLY,
        1,
    ),
    _field(
        "transaction.state.log.segment.bytes",
        INT,
        104_857_600,
        "The segment size of __transaction_state; small, so that it is compacted often and loads fast.",
        READ_ONLY,
        1 << 20,
        "bytes",
    ),
)

BROKER_CONFIGS = ConfigFields(
    "broker", (*_NODE, *_TOPICS, *_LOG_DEFAULTS, *_LOG_UPKEEP, *_CLUSTER, *_CONNECTIONS, *_GROUPS, *_TRANSACTIONS)
)

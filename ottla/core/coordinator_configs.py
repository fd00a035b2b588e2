"""Broker configs of the coordinators: consumer groups and transactions."""

from dataclasses import replace
from typing import Final

from ottla.core.broker_field import INT, LIST, LONG, READ_ONLY, SHORT, STRING, UNLIMITED, broker_field

GROUP_CONFIGS: Final = (
    broker_field(
        "group.initial.rebalance.delay.ms",
        INT,
        100,
        "How long a new group of the classic protocol waits for more members before it first assigns partitions, and "
        "once more as long as some came meanwhile. Of members that start together the first would get all partitions, "
        "and the others wait for its next heartbeat, which comes every 3 s. 0 lets a lone consumer start at once. "
        "Kafka's built-in default is 3000, the configuration file that it ships has 0.",
        READ_ONLY,
        0,
        "ms",
    ),
    broker_field(
        "group.min.session.timeout.ms",
        INT,
        6000,
        "The shortest session timeout that a member may have.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "group.max.session.timeout.ms",
        INT,
        1_800_000,
        "The longest session timeout that a member may have.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field("group.max.size", INT, UNLIMITED, "The most members of one group.", READ_ONLY, 1, "members"),
    broker_field(
        "group.consumer.session.timeout.ms",
        INT,
        45_000,
        "A member that uses the consumer group protocol is out after so long without a heartbeat.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "group.consumer.heartbeat.interval.ms",
        INT,
        1000,
        "How often members that use the consumer group protocol send heartbeats. Kafka's default is 5000; a partition "
        "changes hands within two heartbeats. For two intervals after a change of the group its members are told to "
        "send four times as many, but all together no more than 200 a second.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "group.consumer.max.size",
        INT,
        UNLIMITED,
        "The most members of one group that uses the consumer group protocol.",
        READ_ONLY,
        1,
        "members",
    ),
    replace(
        broker_field(
            "group.consumer.assignors",
            LIST,
            "uniform,range",
            "The assignors that such a group may use; the first is for groups that ask for none.",
        ),
        choices=("uniform", "range"),
    ),
    replace(
        broker_field(
            "group.consumer.migration.policy",
            STRING,
            "bidirectional",
            "Whether a group with members changes its protocol: to the consumer group protocol with the first member "
            "that speaks it (upgrade), back when the last one has left (downgrade), both ways, or neither.",
        ),
        choices=("bidirectional", "upgrade", "downgrade", "disabled"),
    ),
    broker_field(
        "ottla.group.disconnect.timeout.ms",
        INT,
        3000,
        "A member of a group, other than a static one, whose connection closed is out when it was not heard again, on "
        "any connection, for so long, or where that is longer, for a third of its session timeout, or three heartbeats "
        "in the consumer group protocol. A killed consumer is replaced so much sooner; one that merely lost its "
        "connection is back with its next heartbeat. -1: it has its whole session, as with Kafka.",
        READ_ONLY,
        -1,
        "ms",
    ),
    broker_field(
        "offset.metadata.max.bytes",
        INT,
        4096,
        "The longest text that may accompany a committed offset.",
        READ_ONLY,
        0,
        "bytes",
    ),
    broker_field(
        "offsets.commit.timeout.ms",
        INT,
        5000,
        "How long an offset commit waits for its replicas.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "offsets.retention.minutes",
        INT,
        10_080,
        "Offsets of a group without members are kept for so long.",
        READ_ONLY,
        1,
        "minutes",
    ),
    broker_field(
        "offsets.retention.check.interval.ms",
        LONG,
        600_000,
        "How often it is looked for offsets to forget.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "offsets.topic.num.partitions",
        INT,
        50,
        "The partitions of __consumer_offsets; must not change once it exists.",
        READ_ONLY,
        1,
        "partitions",
    ),
    broker_field(
        "offsets.topic.replication.factor",
        SHORT,
        1,
        "The replicas of __consumer_offsets when it is created.",
        READ_ONLY,
        1,
    ),
    broker_field(
        "offsets.topic.segment.bytes",
        INT,
        104_857_600,
        "The segment size of __consumer_offsets; small, so that it is compacted often and loads fast.",
        READ_ONLY,
        1 << 20,
        "bytes",
    ),
)

TRANSACTION_CONFIGS: Final = (
    broker_field(
        "transaction.max.timeout.ms",
        INT,
        900_000,
        "The longest transaction.timeout.ms that a producer may ask for.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "transactional.id.expiration.ms",
        INT,
        604_800_000,
        "A transactional id whose last transaction ended so long ago is forgotten.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        INT,
        10_000,
        "After how long the abort of a transaction past its timeout is tried again.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        INT,
        3_600_000,
        "How often it is looked for transactional ids to forget.",
        READ_ONLY,
        1,
        "ms",
    ),
    broker_field(
        "transaction.state.log.num.partitions",
        INT,
        50,
        "The partitions of __transaction_state; must not change once it exists.",
        READ_ONLY,
        1,
        "partitions",
    ),
    broker_field(
        "transaction.state.log.replication.factor",
        SHORT,
        1,
        "The replicas of __transaction_state when it is created.",
        READ_ONLY,
        1,
    ),
    broker_field(
        "transaction.state.log.min.isr",
        INT,
        1,
        "The in-sync replicas that __transaction_state needs for a write, as set when it is created.",
        READ_ONLY,
        1,
    ),
    broker_field(
        "transaction.state.log.segment.bytes",
        INT,
        104_857_600,
        "The segment size of __transaction_state; small, so that it is compacted often and loads fast.",
        READ_ONLY,
        1 << 20,
        "bytes",
    ),
)

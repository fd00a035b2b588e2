"""Reads the figures of `/metrics` from the running broker and its partitions."""

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ottla.node.metrics import counter, gauge
from ottla.protocol.apis import ApiKey

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.coordinators.groups.service import GroupCoordinator
    from ottla.kafka.door import KafkaDoor
    from ottla.node.standing import Standing
    from ottla.partitions.manager import PartitionManager

_API_NAMES = {int(key): key.name.lower() for key in ApiKey}


def figures(broker: "Broker", partitions: "PartitionManager", door: "KafkaDoor", standing: "Standing") -> list[Metric]:
    """All figures of this moment. Runs on the loop."""
    image, traffic = broker.image, door.traffic
    groups: GroupCoordinator | None = broker.extensions.get("groups")
    requests = CounterMetricFamily(
        "ottla_kafka_requests", "Requests of the Kafka protocol, by their type.", labels=["api"]
    )
    unknown = 0
    for key, count in traffic.requests.items():
        if key in _API_NAMES:
            requests.add_metric([_API_NAMES[key]], count)
        else:
            unknown += count
    requests.add_metric(["unknown"], unknown)
    end = GaugeMetricFamily("ottla_log_end_offset", "The offset after the last record.", labels=["topic", "partition"])
    start = GaugeMetricFamily("ottla_log_start_offset", "The first offset.", labels=["topic", "partition"])
    size = GaugeMetricFamily(
        "ottla_log_size_bytes", "Bytes of the partition's segments.", labels=["topic", "partition"]
    )
    offline = 0
    for partition in partitions:
        labels = [partition.topic, str(partition.index)]
        end.add_metric(labels, partition.log_end_offset)
        start.add_metric(labels, partition.log_start_offset)
        size.add_metric(labels, partition.size_bytes)
        offline += partition.error is not None
    return [
        gauge("kafka_connections", "Open connections of Kafka clients.", len(door.connections)),
        counter("kafka_connections_accepted", "Connections of Kafka clients since the start.", traffic.connections),
        requests,
        counter("kafka_received_bytes", "Bytes of requests from Kafka clients.", traffic.received_bytes),
        counter("kafka_sent_bytes", "Bytes of answers to Kafka clients.", traffic.sent_bytes),
        gauge("topics", "Topics of the cluster.", len(image.topics)),
        gauge("partitions", "Partitions on this node.", len(partitions)),
        gauge("offline_partitions", "Partitions that cannot be used, because of damage or a failed disk.", offline),
        gauge(
            "producers", "Producer ids that this node remembers, over all its partitions.", partitions.producer_count
        ),
        gauge("metadata_offset", "The last metadata record that this node has replayed.", image.offset),
        counter(
            "group_members_disconnected",
            "Members of groups that were put out since their connections had closed.",
            0 if groups is None else groups.disconnected,
        ),
        *_replication(standing),
        end,
        start,
        size,
    ]


def _replication(standing: "Standing") -> list[Metric]:
    """Labels are nodes and sizes of ISRs, of which there are few; never partitions."""
    by_isr = GaugeMetricFamily("ottla_led_partitions", "Partitions led, by the size of their ISR.", labels=["isr"])
    for size, count in standing.by_isr.items():
        by_isr.add_metric([str(size)], count)
    total = GaugeMetricFamily(
        "ottla_follower_lag_records", "Records that a follower lacks of what this node leads.", labels=["follower"]
    )
    most = GaugeMetricFamily(
        "ottla_follower_max_lag_records", "The same, of the partition furthest behind.", labels=["follower"]
    )
    for node, lag in sorted(standing.lag.items()):
        total.add_metric([str(node)], lag.total)
        most.add_metric([str(node)], lag.most)
    return [
        gauge("is_controller", "Whether this node decides: 1 on one node of the cluster.", standing.role == "leader"),
        gauge("fenced", "Whether the controller takes this node for gone.", standing.fenced),
        by_isr,
        gauge(
            "under_replicated_partitions",
            "Partitions led whose ISR lacks a replica.",
            standing.under_replicated,
        ),
        gauge("under_min_isr_partitions", "Partitions led that take no acks=all.", standing.under_min_isr),
        gauge("leaderless_partitions", "Partitions of the whole cluster without a leader.", standing.leaderless),
        total,
        most,
        counter("replication_received_bytes", "Bytes from leaders.", standing.replication_received_bytes),
        counter("replication_sent_bytes", "Bytes to followers.", standing.replication_sent_bytes),
    ]

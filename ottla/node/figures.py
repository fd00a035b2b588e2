"""Reads the figures of `/metrics` from the running broker and its partitions."""

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric

from ottla.node.metrics import gauge

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.partitions.manager import PartitionManager


def figures(broker: "Broker", partitions: "PartitionManager", connections: int) -> list[Metric]:
    """All figures of this moment. Runs on the loop."""
    image = broker.image
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
        gauge("kafka_connections", "Open connections of Kafka clients.", connections),
        gauge("topics", "Topics of the cluster.", len(image.topics)),
        gauge("partitions", "Partitions on this node.", len(partitions)),
        gauge("offline_partitions", "Partitions that cannot be used, because of damage or a failed disk.", offline),
        gauge("metadata_offset", "The last metadata record that this node has replayed.", image.offset),
        end,
        start,
        size,
    ]

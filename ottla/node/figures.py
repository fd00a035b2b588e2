"""Reads the figures of `/metrics` from the running broker and its partitions."""

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ottla.node.metrics import counter, gauge
from ottla.protocol.apis import ApiKey

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.kafka.door import KafkaDoor
    from ottla.partitions.manager import PartitionManager

_API_NAMES = {int(key): key.name.lower() for key in ApiKey}


def figures(broker: "Broker", partitions: "PartitionManager", door: "KafkaDoor") -> list[Metric]:
    """All figures of this moment. Runs on the loop."""
    image, traffic = broker.image, door.traffic
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
        gauge("metadata_offset", "The last metadata record that this node has replayed.", image.offset),
        end,
        start,
        size,
    ]

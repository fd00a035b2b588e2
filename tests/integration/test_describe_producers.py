"""DescribeProducers at the Kafka door, as Kafka's own tool for transactions asks it."""

from typing import Any

import confluent_kafka

from ottla.core.error_codes import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages import describe_producers_request as messages
from ottla.protocol.messages.describe_producers_response import PartitionResponse
from ottla.testing.cluster import Cluster
from tests.integration.kafka_request import ask


def describe(cluster: Cluster, topic: str, index: int) -> PartitionResponse:
    wanted = messages.TopicRequest(name=topic, partition_indexes=[index])
    request = messages.DescribeProducersRequest(topics=[wanted])
    answer: Any = ask(cluster.bootstrap, ApiKey.DESCRIBE_PRODUCERS, request)
    [found] = answer.topics[0].partitions
    assert isinstance(found, PartitionResponse)
    return found


def test_producers_and_their_open_transactions_are_told(ottla_cluster: Cluster, ottla_topic: str) -> None:
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": ottla_cluster.bootstrap, "transactional.id": ottla_topic, "log_level": 0}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(3):
        producer.produce(ottla_topic, b"x", partition=0)
    assert producer.flush(30) == 0
    [state] = describe(ottla_cluster, ottla_topic, 0).active_producers
    assert (state.producer_epoch, state.last_sequence, state.current_txn_start_offset) == (0, 2, 0)
    assert state.last_timestamp > 0
    producer.commit_transaction(30)
    [state] = describe(ottla_cluster, ottla_topic, 0).active_producers
    assert (state.current_txn_start_offset, state.coordinator_epoch) == (-1, 0)
    assert describe(ottla_cluster, ottla_topic, 9).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

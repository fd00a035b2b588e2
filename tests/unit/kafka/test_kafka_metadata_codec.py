"""Metadata: encoded as the generated codec would, quickly, and again only when something changed."""

import time
from dataclasses import replace

import pytest

from ottla.broker.metadata_answer import MetadataAnswer
from ottla.controller.image import PartitionImage, TopicImage
from ottla.core.errors import ErrorCode
from ottla.core.types import ZERO_UUID, NodeId, Uuid
from ottla.kafka.metadata_codec import MetadataEncoder
from ottla.protocol.messages.metadata_response import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

NODES = [NodeId(n) for n in (1, 2, 3)]


def topic(name: str, partitions: int, replicas: tuple[NodeId, ...] = (NODES[0],), internal: bool = False) -> TopicImage:
    images = tuple(PartitionImage(n, replicas[n % len(replicas)], n + 5, replicas, replicas) for n in range(partitions))
    return TopicImage(name, Uuid(name.encode().ljust(16, b"-")), images, internal)


def frame() -> MetadataResponse:
    return MetadataResponse(
        brokers=[MetadataResponseBroker(node_id=1, host="höst", port=9092, rack="r")],
        cluster_id="c",
        controller_id=1,
        cluster_authorized_operations=77,
    )


def as_message(image: TopicImage, live: frozenset[NodeId], operations: int, version: int) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        name=image.name,
        topic_id=image.id,
        is_internal=image.internal,
        topic_authorized_operations=operations,
        partitions=[
            MetadataResponsePartition(
                error_code=0 if p.leader in live else ErrorCode.LEADER_NOT_AVAILABLE,
                partition_index=p.index,
                leader_id=p.leader if p.leader in live else -1,
                leader_epoch=p.leader_epoch,
                replica_nodes=list(p.replicas),
                isr_nodes=list(p.isr),
                offline_replicas=[replica for replica in p.replicas if replica not in live],
            )
            for p in image.partitions
        ],
    )


@pytest.mark.parametrize("version", range(14))
def test_bytes_are_those_of_the_generated_codec(version: int) -> None:
    topics = [topic("one", 3), topic("two", 200, tuple(NODES)), topic("", 0), topic("__in", 1, internal=True)]
    missing = MetadataResponseTopic(
        error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name="nö", topic_id=ZERO_UUID, topic_authorized_operations=9
    )
    encoder = MetadataEncoder()
    for live in (frozenset(NODES), frozenset(NODES[:2]), frozenset(NODES)):
        answer = MetadataAnswer(
            response=frame(), topics=[*topics, missing], live_brokers=live, topic_authorized_operations=9
        )
        expected = frame()
        expected.topics = [*(as_message(one, live, 9, version) for one in topics), missing]
        assert encoder.encode(answer, version) == expected.encode(version)


def test_a_changed_topic_is_encoded_again() -> None:
    encoder = MetadataEncoder()
    before = topic("t", 1)
    after = replace(before, partitions=(replace(before.partitions[0], leader_epoch=99),))
    for image in (before, after):
        data = encoder.encode(MetadataAnswer(response=frame(), topics=[image], live_brokers=frozenset(NODES)), 12)
        read, _ = MetadataResponse.decode(data, 12)
        assert read.topics[0].partitions[0].leader_epoch == image.partitions[0].leader_epoch


def test_deleted_topics_are_forgotten() -> None:
    encoder = MetadataEncoder()
    many = [topic(f"t{n}", 1) for n in range(200)]
    encoder.encode(MetadataAnswer(response=frame(), topics=list(many), live_brokers=frozenset(NODES)), 12)
    encoder.forget_all_but({"t1", "t2"})
    assert len(encoder._cache) == 2


def test_ten_thousand_partitions_take_less_than_20_ms() -> None:
    encoder = MetadataEncoder()
    topics = [topic(f"topic-{n}", 100, tuple(NODES)) for n in range(99)] + [topic("large", 100)]
    live = frozenset(NODES)

    def encode() -> float:
        started = time.process_time()
        encoder.encode(MetadataAnswer(response=frame(), topics=list(topics), live_brokers=live), 12)
        return (time.process_time() - started) * 1000

    encode()
    assert min(encode() for _ in range(5)) < 20
    changed = []
    for n in range(5):
        topics[n] = replace(topics[n])
        changed.append(encode())
    assert min(changed) < 20


def test_one_topic_of_ten_thousand_partitions_takes_less_than_20_ms_after_a_change() -> None:
    encoder = MetadataEncoder()
    image = topic("t", 10_000, tuple(NODES))
    times = []
    for _ in range(5):
        image = replace(image)
        started = time.process_time()
        encoder.encode(MetadataAnswer(response=frame(), topics=[image], live_brokers=frozenset(NODES)), 12)
        times.append((time.process_time() - started) * 1000)
    assert min(times) < 20, times

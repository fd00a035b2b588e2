"""Offsets that real clients send to their transactions, over three nodes: when they show, and who is kept out."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import aiokafka
import confluent_kafka
import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.core.error_codes import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.end_txn_request import EndTxnRequest
from ottla.protocol.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.protocol.messages.txn_offset_commit_request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.testing.cluster import Cluster
from tests.integration.kafka_request import ask

WAIT_S = 40.0
GROUPS, TRANSACTIONS = 0, 1  # kinds of coordinators
TO_BE_REPEATED = (
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture
def topic(cluster: Cluster) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=3)])[name].result(WAIT_S)
    return name


@pytest.fixture
def name() -> str:
    """For a transactional id and a group."""
    return f"name-{uuid.uuid4().hex[:8]}"


def transactional(cluster: Cluster, name: str) -> Producer:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "transactional.id": name, "linger.ms": 0})
    producer.init_transactions(WAIT_S)
    return producer


def member(cluster: Cluster, group: str, topic: str) -> Any:
    """A consumer that has its partition."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([topic])
    deadline = time.monotonic() + WAIT_S
    while not consumer.assignment():
        assert time.monotonic() < deadline, "no partition was assigned"
        consumer.poll(0.1)
    return consumer


def coordinator(cluster: Cluster, key: str, kind: int) -> str:
    """Its address, from whichever node is up."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for address in cluster.bootstrap.split(","):
            try:
                request = FindCoordinatorRequest(key_type=kind, coordinator_keys=[key])
                (found,) = ask(address, ApiKey.FIND_COORDINATOR, request, wait_s=5).coordinators
            except OSError:
                continue
            if found.error_code == 0:
                return f"{found.host}:{found.port}"
        time.sleep(0.1)
    pytest.fail(f"no coordinator for {key}")


def until_ready(attempt: Callable[[], Any], code: Callable[[Any], int]) -> Any:
    """The first answer that says something about the request."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            answer = attempt()
            if code(answer) not in TO_BE_REPEATED:
                return answer
        except OSError:
            pass
        assert time.monotonic() < deadline, "the coordinator does not come back"
        time.sleep(0.05)


def fetch(cluster: Cluster, group: str, topic: str, *, require_stable: bool) -> tuple[ErrorCode, int]:
    topics = [OffsetFetchRequestTopics(name=topic, partition_indexes=[0])]
    request = OffsetFetchRequest(
        groups=[OffsetFetchRequestGroup(group_id=group, topics=topics)], require_stable=require_stable
    )
    answer = until_ready(
        lambda: ask(coordinator(cluster, group, GROUPS), ApiKey.OFFSET_FETCH, request, 9, wait_s=5),
        lambda response: int(response.groups[0].error_code),
    )
    partition = answer.groups[0].topics[0].partitions[0]
    return ErrorCode(partition.error_code), partition.committed_offset


@pytest.mark.confluent
@pytest.mark.parametrize("commits", [True, False])
def test_offsets_show_when_the_transaction_commits_and_not_before(
    cluster: Cluster, topic: str, name: str, commits: bool
) -> None:
    with closing(member(cluster, name, topic)) as consumer:
        consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
        producer = transactional(cluster, name)
        producer.begin_transaction()
        offsets = [TopicPartition(topic, 0, 7)]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), WAIT_S)
        assert fetch(cluster, name, topic, require_stable=False) == (ErrorCode.NONE, 3)
        assert fetch(cluster, name, topic, require_stable=True) == (ErrorCode.UNSTABLE_OFFSET_COMMIT, -1)
        (producer.commit_transaction if commits else producer.abort_transaction)(WAIT_S)
        # The answer to EndTxn may come before the markers: whoever wants it stable is told to wait.
        deadline = time.monotonic() + WAIT_S
        while (found := fetch(cluster, name, topic, require_stable=True))[0] is ErrorCode.UNSTABLE_OFFSET_COMMIT:
            assert time.monotonic() < deadline
        assert found == (ErrorCode.NONE, 7 if commits else 3)


@pytest.mark.confluent
def test_a_consumer_waits_for_offsets_that_are_about_to_change(cluster: Cluster, topic: str, name: str) -> None:
    """librdkafka asks for stable offsets when it reads committed records only."""
    writer = Producer({"bootstrap.servers": cluster.bootstrap})
    for number in range(10):
        writer.produce(topic, str(number).encode(), partition=0)
    assert writer.flush(WAIT_S) == 0
    first = member(cluster, name, topic)
    producer = transactional(cluster, name)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 7)], first.consumer_group_metadata(), WAIT_S)
    first.close()
    with closing(member(cluster, name, topic)) as second:
        assert second.poll(1.0) is None, "it began without knowing where"
        producer.commit_transaction(WAIT_S)
        message = second.poll(WAIT_S)
        assert message is not None
        assert message.error() is None
        assert message.offset() == 7


@pytest.mark.confluent
def test_a_member_that_was_replaced_cannot_commit(cluster: Cluster, topic: str, name: str) -> None:
    first = member(cluster, name, topic)
    former = first.consumer_group_metadata()
    first.close()
    with closing(member(cluster, name, topic)) as second:
        producer = transactional(cluster, name)
        producer.begin_transaction()
        offsets = [TopicPartition(topic, 0, 7)]
        with pytest.raises(KafkaException) as caught:
            producer.send_offsets_to_transaction(offsets, former, WAIT_S)
        assert caught.value.args[0].txn_requires_abort()
        producer.abort_transaction(WAIT_S)
        producer.begin_transaction()
        producer.send_offsets_to_transaction(offsets, second.consumer_group_metadata(), WAIT_S)
        producer.commit_transaction(WAIT_S)
    assert fetch(cluster, name, topic, require_stable=True) == (ErrorCode.NONE, 7)


@pytest.mark.aiokafka
async def test_aiokafka_sends_offsets_to_its_transactions(cluster: Cluster, topic: str, name: str) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, transactional_id=name)
    await producer.start()
    place = aiokafka.TopicPartition(topic, 0)
    async with producer.transaction():
        await producer.send_and_wait(topic, b"value", partition=0)
        await producer.send_offsets_to_transaction({place: 5}, name)
    await producer.begin_transaction()
    await producer.send_offsets_to_transaction({place: 9}, name)
    await producer.abort_transaction()
    await producer.stop()
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap, group_id=name, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    consumer.assign([place])
    assert await consumer.committed(place) == 5
    await consumer.stop()


def test_pending_offsets_survive_the_death_of_their_coordinator(name: str) -> None:
    """Transaction version 2, which no Python client speaks: TxnOffsetCommit 5 makes the group part of it."""
    topic = f"topic-{name}"
    with Cluster(nodes=3) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=3)])[topic].result(WAIT_S)
        init = InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=60_000)
        producer = until_ready(
            lambda: ask(coordinator(cluster, name, TRANSACTIONS), ApiKey.INIT_PRODUCER_ID, init, 5),
            lambda response: int(response.error_code),
        )
        commit = TxnOffsetCommitRequest(
            transactional_id=name,
            group_id=name,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            topics=[
                TxnOffsetCommitRequestTopic(
                    name=topic,
                    partitions=[TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=7)],
                )
            ],
        )
        committed = until_ready(
            lambda: ask(coordinator(cluster, name, GROUPS), ApiKey.TXN_OFFSET_COMMIT, commit, 5),
            lambda response: int(response.topics[0].partitions[0].error_code),
        )
        assert committed.topics[0].partitions[0].error_code == ErrorCode.NONE
        dead = cluster.bootstrap.split(",").index(coordinator(cluster, name, GROUPS)) + 1
        cluster.kill_node(dead)
        assert fetch(cluster, name, topic, require_stable=False) == (ErrorCode.NONE, -1)
        assert fetch(cluster, name, topic, require_stable=True) == (ErrorCode.UNSTABLE_OFFSET_COMMIT, -1)
        end = EndTxnRequest(
            transactional_id=name,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            committed=True,
        )
        ended = until_ready(
            lambda: ask(coordinator(cluster, name, TRANSACTIONS), ApiKey.END_TXN, end, 5, wait_s=5),
            lambda response: int(response.error_code),
        )
        assert ended.error_code == ErrorCode.NONE
        deadline = time.monotonic() + WAIT_S
        while (found := fetch(cluster, name, topic, require_stable=True))[0] is ErrorCode.UNSTABLE_OFFSET_COMMIT:
            assert time.monotonic() < deadline
        assert found == (ErrorCode.NONE, 7)
        commit.producer_epoch, commit.topics[0].partitions[0].committed_offset = producer.producer_epoch, 9
        late = ask(coordinator(cluster, name, GROUPS), ApiKey.TXN_OFFSET_COMMIT, commit, 5)
        assert late.topics[0].partitions[0].error_code == ErrorCode.INVALID_PRODUCER_EPOCH

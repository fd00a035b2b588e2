"""Transactions as real clients use them, over three nodes: all or nothing, once, also when nodes die in the middle."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import aiokafka
import confluent_kafka
import pytest
from aiokafka.errors import ProducerFenced
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.core.error_codes import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.end_txn_request import EndTxnRequest
from ottla.protocol.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.batch import encode_batch
from ottla.records.record import Record
from ottla.testing.cluster import Cluster
from tests.integration.kafka_request import ask

PARTITIONS = 4
WAIT_S = 40.0
TRANSACTION_TIMEOUT_MS = 30_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture
def new_topic(cluster: Cluster) -> Callable[[], str]:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})

    def create() -> str:
        name = f"topic-{uuid.uuid4().hex[:8]}"
        admin.create_topics([NewTopic(name, num_partitions=PARTITIONS, replication_factor=3)])[name].result(WAIT_S)
        return name

    return create


@pytest.fixture
def name() -> str:
    """For a transactional id or a group."""
    return f"name-{uuid.uuid4().hex[:8]}"


def transactional(cluster: Cluster, transactional_id: str) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "linger.ms": 0,
        }
    )
    producer.init_transactions(WAIT_S)
    return producer


def write(producer: Producer, topic: str, value: str, *, abort: bool = False) -> None:
    """The value into every partition, in one transaction."""
    producer.begin_transaction()
    for partition in range(PARTITIONS):
        producer.produce(topic, value.encode(), partition=partition)
    if abort:
        assert producer.flush(WAIT_S) == 0
        producer.abort_transaction(WAIT_S)
    else:
        producer.commit_transaction(WAIT_S)


def read(cluster: Cluster, topic: str, isolation: str = "read_committed") -> list[Counter[str]]:
    """What is in each partition up to its end."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": f"reader-{uuid.uuid4().hex}",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    found: list[Counter[str]] = [Counter() for _ in range(PARTITIONS)]
    with closing(consumer):
        consumer.assign([TopicPartition(topic, index, 0) for index in range(PARTITIONS)])
        at_end: set[int] = set()
        deadline = time.monotonic() + WAIT_S
        while len(at_end) < PARTITIONS:
            assert time.monotonic() < deadline, f"{topic} cannot be read to its end: {found}"
            message = consumer.poll(0.2)
            if message is None:
                continue
            if message.error() is None:
                found[message.partition()][message.value().decode()] += 1
            elif message.error().code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
    return found


@pytest.mark.confluent
def test_committed_transactions_are_seen_and_aborted_ones_only_by_who_reads_all(
    cluster: Cluster, new_topic: Callable[[], str], name: str
) -> None:
    topic = new_topic()
    producer = transactional(cluster, name)
    for number in range(20):
        write(producer, topic, str(number), abort=number % 3 == 2)
    committed = Counter(str(number) for number in range(20) if number % 3 != 2)
    assert read(cluster, topic) == [committed] * PARTITIONS
    everything = Counter(str(number) for number in range(20))
    assert read(cluster, topic, "read_uncommitted") == [everything] * PARTITIONS


@pytest.mark.confluent
def test_an_open_transaction_is_not_seen_and_holds_back_what_follows_it(
    cluster: Cluster, new_topic: Callable[[], str], name: str
) -> None:
    topic = new_topic()
    write(transactional(cluster, f"{name}-before"), topic, "before")
    producer = transactional(cluster, name)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    assert producer.flush(WAIT_S) == 0
    write(transactional(cluster, f"{name}-after"), topic, "after")
    assert read(cluster, topic) == [Counter(before=1), *[Counter(before=1, after=1)] * (PARTITIONS - 1)]
    producer.commit_transaction(WAIT_S)
    assert read(cluster, topic)[0] == Counter(before=1, open=1, after=1)


@pytest.mark.confluent
def test_a_second_producer_of_an_id_fences_the_first(cluster: Cluster, new_topic: Callable[[], str], name: str) -> None:
    topic = new_topic()
    zombie = transactional(cluster, name)
    zombie.begin_transaction()
    zombie.produce(topic, b"zombie", partition=0)
    assert zombie.flush(WAIT_S) == 0
    producer = transactional(cluster, name)  # aborts what the first one has begun
    write(producer, topic, "new")
    with pytest.raises(KafkaException) as caught:
        zombie.commit_transaction(WAIT_S)
    assert caught.value.args[0].fatal()
    assert read(cluster, topic) == [Counter(new=1)] * PARTITIONS


@pytest.mark.confluent
def test_what_is_consumed_transformed_and_produced_comes_out_once(
    cluster: Cluster, new_topic: Callable[[], str], name: str
) -> None:
    source, target = new_topic(), new_topic()
    write(transactional(cluster, f"{name}-source"), source, "a")
    write(transactional(cluster, f"{name}-source"), source, "b")
    aborted, handled = False, 0
    while handled < 2 * PARTITIONS:  # every round is a new process, as far as the cluster can tell
        with closing(_consumer(cluster, name, source)) as consumer:
            messages = _some(consumer)
            producer = transactional(cluster, name)
            producer.begin_transaction()
            for message in messages:
                producer.produce(target, f"{message.partition()}{message.value().decode()}".encode(), partition=0)
            offsets = consumer.position(consumer.assignment())
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), WAIT_S)
            if aborted:
                producer.commit_transaction(WAIT_S)
                handled += len(messages)
            else:
                producer.abort_transaction(WAIT_S)
                aborted = True
    expected = Counter(f"{partition}{value}" for partition in range(PARTITIONS) for value in "ab")
    assert read(cluster, target)[0] == expected


def _consumer(cluster: Cluster, group: str, topic: str) -> Any:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    return consumer


def _some(consumer: Any) -> list[Any]:
    """At most three messages, so that one round is not enough."""
    deadline = time.monotonic() + WAIT_S
    messages: list[Any] = []
    while not messages:
        assert time.monotonic() < deadline, "nothing is left to consume, or offsets were lost"
        messages = [one for one in consumer.consume(3, 0.5) if one.error() is None]
    return messages


@pytest.mark.aiokafka
async def test_aiokafka_commits_aborts_and_is_fenced(cluster: Cluster, new_topic: Callable[[], str], name: str) -> None:
    topic = new_topic()

    async def start() -> aiokafka.AIOKafkaProducer:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, transactional_id=name)
        await producer.start()
        return producer

    async def write(producer: aiokafka.AIOKafkaProducer, value: bytes) -> None:
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topic, value, partition=partition)

    first = await start()
    async with first.transaction():
        await write(first, b"committed")
    await first.begin_transaction()
    await write(first, b"aborted")
    await first.abort_transaction()
    await first.begin_transaction()
    await write(first, b"zombie")
    second = await start()
    async with second.transaction():
        await write(second, b"second")
    with pytest.raises(ProducerFenced):
        await first.commit_transaction()
    await second.stop()
    await first.stop()
    assert await asyncio.to_thread(read, cluster, topic) == [Counter(committed=1, second=1)] * PARTITIONS


def test_a_retried_end_is_answered_as_the_first_and_partitions_are_added_by_writing(
    cluster: Cluster, new_topic: Callable[[], str], name: str
) -> None:
    """Transaction version 2 (KIP-890), which no Python client speaks: Produce 12, EndTxn 5."""
    topic = new_topic()
    first, _, _ = cluster.bootstrap.partition(",")
    find = FindCoordinatorRequest(key_type=1, coordinator_keys=[name])
    (found,) = ask(first, ApiKey.FIND_COORDINATOR, find).coordinators
    coordinator = f"{found.host}:{found.port}"

    def initialize() -> Any:
        request = InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=TRANSACTION_TIMEOUT_MS)
        return ask(coordinator, ApiKey.INIT_PRODUCER_ID, request, 5)

    producer = _until_loaded(initialize)
    assert _produce(cluster, topic, name, producer.producer_id, producer.producer_epoch, b"a") is ErrorCode.NONE
    end = EndTxnRequest(
        transactional_id=name,
        producer_id=producer.producer_id,
        producer_epoch=producer.producer_epoch,
        committed=True,
    )
    answers = [ask(coordinator, ApiKey.END_TXN, end, 5) for _ in range(3)]
    expected = (0, producer.producer_id, producer.producer_epoch + 1)
    assert [(one.error_code, one.producer_id, one.producer_epoch) for one in answers] == [expected] * 3
    late = _produce(cluster, topic, name, producer.producer_id, producer.producer_epoch, b"late", sequence=1)
    assert late is ErrorCode.INVALID_PRODUCER_EPOCH
    assert _produce(cluster, topic, name, producer.producer_id, producer.producer_epoch + 1, b"b") is ErrorCode.NONE
    assert ask(coordinator, ApiKey.END_TXN, end, 5).error_code == ErrorCode.PRODUCER_FENCED
    end.producer_epoch += 1
    assert ask(coordinator, ApiKey.END_TXN, end, 5).error_code == 0
    assert read(cluster, topic)[0] == Counter(a=1, b=1)


def _until_loaded(attempt: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while (answer := attempt()).error_code in (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR):
        assert time.monotonic() < deadline, "the coordinator does not load"
        time.sleep(0.05)
    return answer


def _produce(
    cluster: Cluster,
    topic: str,
    transactional_id: str,
    producer_id: int,
    producer_epoch: int,
    value: bytes,
    *,
    sequence: int = 0,
) -> ErrorCode:
    batch = encode_batch(
        [Record(timestamp=int(time.time() * 1000), key=None, value=value)],
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=sequence,
        is_transactional=True,
    )
    partition = PartitionProduceData(index=0, records=batch)
    request = ProduceRequest(
        transactional_id=transactional_id,
        acks=-1,
        timeout_ms=10_000,
        topic_data=[TopicProduceData(name=topic, partition_data=[partition])],
    )
    for address in cluster.bootstrap.split(","):
        response = ask(address, ApiKey.PRODUCE, request, 12)
        code = ErrorCode(response.responses[0].partition_responses[0].error_code)
        if code is not ErrorCode.NOT_LEADER_OR_FOLLOWER:
            return code
    pytest.fail("nobody leads the partition")


def test_a_topic_that_is_deleted_in_the_middle_holds_nothing_up(
    cluster: Cluster, new_topic: Callable[[], str], name: str
) -> None:
    kept, doomed = new_topic(), new_topic()
    producer = transactional(cluster, name)
    producer.begin_transaction()
    for topic in (kept, doomed):
        producer.produce(topic, b"first", partition=0)
    assert producer.flush(WAIT_S) == 0
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.delete_topics([doomed])[doomed].result(WAIT_S)
    producer.commit_transaction(WAIT_S)
    write(producer, kept, "second")
    assert read(cluster, kept) == [Counter(first=1, second=1), *[Counter(second=1)] * (PARTITIONS - 1)]


def test_nodes_that_do_not_vote_lead_and_coordinate_too(name: str) -> None:
    """So nodes 4 and 5, which the quorum does not link, ask each other."""
    with Cluster(nodes=3) as cluster:
        for node in (4, 5):
            cluster.add_node(node)
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        deadline = time.monotonic() + WAIT_S
        while len(admin.list_topics(timeout=WAIT_S).brokers) < 5:
            assert time.monotonic() < deadline, "the new nodes do not take part"
            time.sleep(0.1)
        replicas = [[4], [5], [4], [5]]
        topic = NewTopic(name, PARTITIONS, replica_assignment=replicas, config={"min.insync.replicas": "1"})
        admin.create_topics([topic])[name].result(WAIT_S)
        coordinators: set[int] = set()
        count = 0
        while not {4, 5} <= coordinators:
            assert count < 60, f"transactional ids have coordinators {coordinators} only"
            find = FindCoordinatorRequest(key_type=1, coordinator_keys=[f"{name}-{count}"])
            (found,) = ask(cluster.node_address(1), ApiKey.FIND_COORDINATOR, find).coordinators
            if found.node_id in (4, 5) and found.node_id not in coordinators:
                write(transactional(cluster, f"{name}-{count}"), name, str(found.node_id))
                coordinators.add(found.node_id)
            count += 1
        assert read(cluster, name) == [Counter({"4": 1, "5": 1})] * PARTITIONS


def test_transactions_are_all_or_nothing_while_nodes_die(new_topic: Any, name: str) -> None:
    """Each node, so also the coordinator and every leader, is killed once while transactions are under way."""
    with Cluster(nodes=3) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        topic = f"topic-{name}"
        admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=3)])[topic].result(WAIT_S)
        producer = transactional(cluster, name)
        outcomes: dict[str, bool] = {}  # by value: whether it was committed; nothing where nobody knows
        number = 0
        for node in (1, 2, 3):
            for step in range(12):
                if step == 6:
                    cluster.kill_node(node)
                value, abort = str(number), number % 4 == 3
                number += 1
                try:
                    write(producer, topic, value, abort=abort)
                    outcomes[value] = not abort
                except KafkaException as error:
                    why = error.args[0]
                    if why.txn_requires_abort():
                        producer.abort_transaction(WAIT_S)
                        outcomes[value] = False
                    else:  # begin anew, as a process that crashed: nobody knows what became of the transaction
                        producer = transactional(cluster, name)
            cluster.start_node(node)
        found = read(cluster, topic)
        assert found == [found[0]] * PARTITIONS, "a transaction is in some of its partitions only"
        assert set(found[0].values()) <= {1}, "a transaction is there twice"
        wrong = {value: committed for value, committed in outcomes.items() if (value in found[0]) != committed}
        assert not wrong
        assert len(outcomes) >= number - 3, "hardly any transaction came through"

"""The consumer group protocol (KIP-848) as librdkafka speaks it, on three nodes of which some die."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import ConsumerGroupState, ConsumerGroupType, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from ottla.testing.cluster import Cluster

pytestmark = pytest.mark.confluent_consumer

PARTITIONS = 6
WAIT_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=3, settings={"group.consumer.heartbeat.interval.ms": 300}) as cluster:
        yield cluster


@pytest.fixture
def admin(cluster: Cluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})


@pytest.fixture
def topic(admin: AdminClient) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(name, num_partitions=PARTITIONS)])[name].result(WAIT_S)
    return name


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


class Writer:
    """Numbered records, one after the other over all partitions."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self.count = 0
        self._topic = topic
        self._producer = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap, "log_level": 0})

    def write(self, count: int) -> None:
        for _ in range(count):
            self._producer.produce(self._topic, str(self.count).encode(), partition=self.count % PARTITIONS)
            self.count += 1
        assert self._producer.flush(WAIT_S) == 0


class Reader:
    """A member, what it read, and how often its partitions changed."""

    def __init__(self, cluster: Cluster, group: str, *topics: str, **settings: Any) -> None:
        self.values: Counter[int] = Counter()
        self.changes = 0
        self.failures: list[str] = []
        self.consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "group.id": group,
                "group.protocol": "consumer",
                "auto.offset.reset": "earliest",
                "log_level": 0,
                **settings,
            }
        )
        self.consumer.subscribe(list(topics), on_assign=self._changed, on_revoke=self._changed, on_lost=self._changed)

    def _changed(self, consumer: Any, partitions: list[Any]) -> None:
        self.changes += bool(partitions)

    def poll(self) -> None:
        message = self.consumer.poll(0.02)
        if message is None:
            return
        error = message.error()
        if error is None:
            self.values[int(message.value())] += 1
        elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            self.failures.append(str(error))

    @property
    def partitions(self) -> set[tuple[str, int]]:
        return {(one.topic, one.partition) for one in self.consumer.assignment()}


def until(condition: Callable[[], bool], readers: list[Reader], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, (
            f"not within {WAIT_S} s: {what}; {[(one.partitions, sum(one.values.values())) for one in readers]}"
        )
        for reader in readers:
            reader.poll()


def is_spread(readers: list[Reader], partitions: int = PARTITIONS) -> bool:
    """Every partition once, and evenly."""
    parts = [reader.partitions for reader in readers]
    sizes = [len(part) for part in parts]
    return len(set().union(*parts)) == sum(sizes) == partitions and max(sizes) - min(sizes) <= 1


def read(readers: list[Reader]) -> Counter[int]:
    total: Counter[int] = Counter()
    for reader in readers:
        total += reader.values
    return total


def test_group_of_three_shares_and_hands_over(cluster: Cluster, admin: AdminClient, topic: str, group: str) -> None:
    writer = Writer(cluster, topic)
    writer.write(300)
    readers = [Reader(cluster, group, topic) for _ in range(3)]
    until(lambda: is_spread(readers) and len(read(readers)) == 300, readers, "three share")
    description = admin.describe_consumer_groups([group])[group].result(WAIT_S)
    assert (description.state, description.type) == (ConsumerGroupState.STABLE, ConsumerGroupType.CONSUMER)
    assert description.partition_assignor == "uniform"
    assert sorted(len(member.assignment.topic_partitions) for member in description.members) == [2, 2, 2]
    listing = {one.group_id: one for one in admin.list_consumer_groups().result(WAIT_S).valid}
    assert listing[group].type is ConsumerGroupType.CONSUMER

    kept = [reader.partitions for reader in readers[1:]]
    changes = [reader.changes for reader in readers[1:]]
    readers.pop(0).consumer.close()
    until(lambda: is_spread(readers), readers, "two share")
    for reader, former, count in zip(readers, kept, changes, strict=True):
        assert former <= reader.partitions, "a member that stays keeps what it had"
        assert reader.changes == count + 1
    writer.write(60)
    until(lambda: {*range(300, 360)} <= read(readers).keys(), readers, "the two read on")
    for reader in readers:
        reader.consumer.close()
    again = Reader(cluster, group, topic)
    writer.write(6)
    until(lambda: len(again.values) == 6, [again], "what was committed is not read again")
    assert set(again.values) == {*range(360, 366)}
    again.consumer.close()
    assert admin.delete_consumer_groups([group])[group].result(WAIT_S) is None


def test_new_partitions_are_given_out(cluster: Cluster, admin: AdminClient, topic: str, group: str) -> None:
    readers = [Reader(cluster, group, topic, **{"topic.metadata.refresh.interval.ms": 1000}) for _ in range(2)]
    until(lambda: is_spread(readers), readers, "two share")
    admin.create_partitions([NewPartitions(topic, PARTITIONS + 4)])[topic].result(WAIT_S)
    until(lambda: is_spread(readers, PARTITIONS + 4), readers, "the new ones are shared too")
    for reader in readers:
        reader.consumer.close()


def test_static_member_comes_back_to_its_partitions(cluster: Cluster, topic: str, group: str) -> None:
    readers = [Reader(cluster, group, topic, **{"group.instance.id": f"i{number}"}) for number in range(2)]
    until(lambda: is_spread(readers), readers, "two share")
    kept, changes = readers[0].partitions, readers[1].changes
    readers[0].consumer.close()
    until_s = time.monotonic() + 2
    until(lambda: time.monotonic() > until_s, readers[1:], "time passes")
    readers[0] = Reader(cluster, group, topic, **{"group.instance.id": "i0"})
    until(lambda: is_spread(readers), readers, "it is back")
    assert readers[0].partitions == kept
    assert readers[1].changes == changes
    for reader in readers:
        reader.consumer.close()


def test_coordinator_is_killed_and_nobody_loses_a_partition(
    cluster: Cluster, admin: AdminClient, topic: str, group: str
) -> None:
    writer = Writer(cluster, topic)
    readers = [Reader(cluster, group, topic, **{"enable.auto.commit": False}) for _ in range(3)]
    until(lambda: is_spread(readers), readers, "three share")
    writer.write(120)
    until(lambda: len(read(readers)) == 120, readers, "all is read")
    for reader in readers:
        reader.consumer.commit(asynchronous=False)
    parts, changes = [reader.partitions for reader in readers], [reader.changes for reader in readers]
    coordinator = admin.describe_consumer_groups([group])[group].result(WAIT_S).coordinator.id
    cluster.kill_node(coordinator)
    writer.write(120)
    until(lambda: len(read(readers)) == 240, readers, "the group reads on")
    until_s = time.monotonic() + 3
    until(lambda: time.monotonic() > until_s, readers, "heartbeats reach the new coordinator")
    assert [reader.partitions for reader in readers] == parts
    assert [reader.changes for reader in readers] == changes
    for reader in readers:
        reader.consumer.commit(asynchronous=False)
    cluster.start_node(coordinator)
    newcomer = Reader(cluster, group, topic)
    everybody = [*readers, newcomer]
    until(lambda: is_spread(everybody), everybody, "a fourth gets its part")
    assert not any(reader.failures for reader in everybody)
    for reader in everybody:
        reader.consumer.close()


def test_group_of_one_protocol_is_not_found_by_the_other_and_may_change_when_empty(
    cluster: Cluster, topic: str, group: str
) -> None:
    reader = Reader(cluster, group, topic)
    until(lambda: is_spread([reader]), [reader], "one reads")
    reader.consumer.close()
    classic = Reader(cluster, group, topic, **{"group.protocol": "classic", "session.timeout.ms": 6000})
    until(lambda: is_spread([classic]), [classic], "the classic protocol takes an empty group over")
    classic.consumer.close()
    reader = Reader(cluster, group, topic)
    until(lambda: is_spread([reader]), [reader], "and gives it back")
    reader.consumer.close()


def test_strangers_do_not_commit_to_a_group_with_members(cluster: Cluster, topic: str, group: str) -> None:
    reader = Reader(cluster, group, topic)
    until(lambda: is_spread([reader]), [reader], "one reads")
    stranger = confluent_kafka.Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": group, "log_level": 0})
    with pytest.raises(KafkaException, match="UNKNOWN_MEMBER_ID"):
        stranger.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, 5)], asynchronous=False)
    stranger.close()
    reader.consumer.close()


def test_expression_follows_the_topics(cluster: Cluster, admin: AdminClient, topic: str, group: str) -> None:
    readers = [Reader(cluster, group, f"^{topic}.*") for _ in range(2)]
    until(lambda: is_spread(readers), readers, "two share what matches")
    (member, _) = admin.describe_consumer_groups([group])[group].result(WAIT_S).members
    assert member.assignment.topic_partitions
    admin.create_topics([NewTopic(f"{topic}-more", num_partitions=4)])[f"{topic}-more"].result(WAIT_S)
    until(lambda: is_spread(readers, PARTITIONS + 4), readers, "a new topic that matches is shared too")
    for reader in readers:
        reader.consumer.close()


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_members_change_the_protocol_one_by_one_and_back(
    cluster: Cluster, admin: AdminClient, topic: str, group: str, strategy: str
) -> None:
    classic = {
        "group.protocol": "classic",
        "partition.assignment.strategy": strategy,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 300,
    }

    def kind() -> ConsumerGroupType:
        listing = {one.group_id: one for one in admin.list_consumer_groups().result(WAIT_S).valid}
        found: ConsumerGroupType = listing[group].type
        return found

    def replace(number: int, settings: dict[str, Any]) -> None:
        gone.append(readers[number])
        readers[number].consumer.close()
        readers[number] = Reader(cluster, group, topic, **settings)
        until(lambda: is_spread(readers), readers, f"number {number} is replaced")
        writer.write(60)
        until(lambda: len(read([*readers, *gone])) == writer.count, readers, "all is read")

    writer, gone = Writer(cluster, topic), list[Reader]()
    readers = [Reader(cluster, group, topic, **classic) for _ in range(2)]
    until(lambda: is_spread(readers), readers, "two share")
    assert kind() is ConsumerGroupType.CLASSIC
    replace(0, {})
    assert kind() is ConsumerGroupType.CONSUMER
    replace(1, {})
    replace(0, classic)
    assert kind() is ConsumerGroupType.CONSUMER
    replace(1, classic)
    assert kind() is ConsumerGroupType.CLASSIC
    assert not any(reader.failures for reader in [*readers, *gone])
    for reader in readers:
        reader.consumer.close()

"""Members of consumer groups (KIP-848) for tests: a cluster with their calls, and a client that does as clients do."""

from typing import Any

from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.records import GroupRecordCodec
from ottla.coordinators.runtime import CoordinatorRecord
from ottla.core.types import Uuid
from ottla.protocol.messages.consumer_group_describe_request import ConsumerGroupDescribeRequest
from ottla.protocol.messages.consumer_group_describe_response import ConsumerGroupDescribeResponse, DescribedGroup
from ottla.protocol.messages.consumer_group_heartbeat_request import (
    ConsumerGroupHeartbeatRequest,
    TopicPartitions,
)
from tests.unit.coordinators.coordinator_fakes import TOPIC_ID, Answer
from tests.unit.coordinators.group_cluster import Cluster

REBALANCE_TIMEOUT_MS = 60_000
Partitions = dict[Uuid, set[int]]


def lists(partitions: Partitions) -> list[TopicPartitions]:
    return [TopicPartitions(topic_id=topic_id, partitions=sorted(part)) for topic_id, part in partitions.items()]


def jobs(*partitions: int) -> Partitions:
    """Partitions of the topic that is always there."""
    return {TOPIC_ID: set(partitions)} if partitions else {}


def partitions_of(answer: Any) -> Partitions | None:
    """The assignment in a response; None when there is none."""
    if answer.assignment is None:
        return None
    return {one.topic_id: set(one.partitions) for one in answer.assignment.topic_partitions}


class ConsumerCluster(Cluster):
    """A node with the one partition of the internal topic, and the calls of members."""

    def send(self, request: ConsumerGroupHeartbeatRequest, *, version: int = 1, client: str = "client") -> Answer:
        answer = Answer(self.log)
        self.coordinator.consumer_group_heartbeat(request, self._caller(version, client), answer)
        return answer

    def beat(self, member_id: str, epoch: int, *, group: str = "g", version: int = 1, **fields: Any) -> Any:
        """One heartbeat, and its answer. `owned` are partitions by topic id."""
        owned = fields.pop("owned", None)
        request = ConsumerGroupHeartbeatRequest(
            group_id=group,
            member_id=member_id,
            member_epoch=epoch,
            topic_partitions=None if owned is None else lists(owned),
            **fields,
        )
        answer = self.send(request, version=version)
        self.run()
        return answer.take()

    def enter(self, member_id: str, *, topics: tuple[str, ...] | None = ("jobs",), **fields: Any) -> Any:
        """The first heartbeat of a member."""
        fields.setdefault("rebalance_timeout_ms", REBALANCE_TIMEOUT_MS)
        names = None if topics is None else list(topics)
        return self.beat(member_id, 0, subscribed_topic_names=names, owned={}, **fields)

    def consumer_group(self, group: str = "g") -> ConsumerGroup:
        (shard,) = self.coordinator.runtime.active_shards()
        found = shard.consumers.get(group)
        assert found is not None
        return found

    def described(self, group: str = "g") -> DescribedGroup:
        answer = Answer()
        request = ConsumerGroupDescribeRequest(group_ids=[group])
        self.coordinator.describe_consumer_groups(request, Caller("client", "/127.0.0.1", 1), answer)
        self.run()
        response: ConsumerGroupDescribeResponse = answer.take()
        return response.groups[0]

    def written(self) -> list[CoordinatorRecord]:
        """The whole log."""
        codec = GroupRecordCodec()
        found = []
        for record in self.log.records():
            assert record.key is not None
            decoded = codec.decode(record.key, record.value)
            assert decoded is not None
            found.append(decoded)
        return found

    def kinds(self, since: int = 0) -> list[str]:
        """The log from an offset on, in short: the kind of each record, with a minus for tombstones."""
        short = []
        for record in self.written()[since:]:
            name = type(record.key).__name__.removeprefix("ConsumerGroup").removesuffix("Key")
            short.append(name if record.value is not None else f"-{name}")
        return short


class Member:
    """A client: it takes what it is given, and gives up what it is not given any more."""

    def __init__(
        self,
        cluster: ConsumerCluster,
        member_id: str,
        *,
        topics: tuple[str, ...] = ("jobs",),
        instance: str | None = None,
        group: str = "g",
    ) -> None:
        self.cluster, self.member_id, self.topics, self.instance, self.group = (
            cluster,
            member_id,
            topics,
            instance,
            group,
        )
        self.epoch = 0
        self.owned: Partitions = {}
        self.interval_ms = 0

    @property
    def partitions(self) -> set[tuple[Uuid, int]]:
        return {(topic_id, index) for topic_id, part in self.owned.items() for index in part}

    def beat(self, **fields: Any) -> Any:
        """A heartbeat; what the answer takes away is given up at once, and told with the next one."""
        if self.epoch == 0:
            answer = self.cluster.enter(
                self.member_id, topics=self.topics, instance_id=self.instance, group=self.group, **fields
            )
        else:
            answer = self.cluster.beat(
                self.member_id, self.epoch, owned=self.owned, instance_id=self.instance, group=self.group, **fields
            )
        assert answer.error_code == 0, answer.error_message
        self.epoch, self.interval_ms = answer.member_epoch, answer.heartbeat_interval_ms
        given = partitions_of(answer)
        if given is not None:
            self.owned = given
        return answer


def settle(*members: Member) -> None:
    """Heartbeats of all until nothing moves any more."""
    for _ in range(20):
        before = [(member.epoch, member.owned) for member in members]
        for member in members:
            member.beat()
        if before == [(member.epoch, member.owned) for member in members]:
            return
    raise AssertionError(f"they do not settle: {before}")

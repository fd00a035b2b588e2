"""A broker's hot path over real partitions on the simulated disk and clock."""

import random
from collections.abc import Sequence
from dataclasses import replace

from ottla.broker.deadlines import Deadlines
from ottla.broker.fetch import Fetch, WaitingFetch
from ottla.broker.fetch_messages import FetchPartition, FetchRequest, FetchResponse
from ottla.broker.fetch_sessions import FetchSessions
from ottla.broker.produce import Produce, ProducedPartition, ProducedTopics, ProduceRequest
from ottla.broker.replicas import Replicas, TopicKey
from ottla.controller.image import MetadataImage, PartitionImage, TopicImage
from ottla.core.types import NodeId, Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import PartitionManager
from ottla.partitions.partition import Partition
from ottla.records.batch import Record, encode_batch
from ottla.testing.sim.clock import SimClock
from ottla.testing.sim.disk import SimDisk

ME = NodeId(1)
EPOCH = 3


def topic_id(name: str) -> Uuid:
    return Uuid(name.encode().ljust(16, b"."))


def batch(value: bytes = b"v", count: int = 1) -> memoryview:
    records = [Record(offset=n, timestamp=1_700_000_000_000, key=None, value=value, headers=()) for n in range(count)]
    return memoryview(bytearray(encode_batch(records)))


class HotPath:
    def __init__(self, topics: dict[str, int], *, seed: int = 1, cached: float = 1.0, slots: int = 10) -> None:
        self.clock = SimClock()
        self.disk = SimDisk(self.clock, random.Random(seed), cached=cached)
        self.manager = PartitionManager(self.disk, self.clock)
        self.manager.open()
        images = {}
        for name, count in topics.items():
            indexes = tuple(PartitionImage(n, ME, EPOCH, (ME,), (ME,)) for n in range(count))
            images[name] = TopicImage(name, topic_id(name), indexes)
            for n in range(count):
                self.manager.create(name, topic_id(name), n, LogConfig(), leader_epoch=EPOCH)
        self.replicas = Replicas(
            MetadataImage(topics=images, topics_by_id={image.id: image for image in images.values()}), self.manager
        )
        self.deadlines = Deadlines(self.clock)
        self.sessions = FetchSessions(self.clock, random.Random(seed), slots)
        self.produce = Produce(self.replicas, self.deadlines)
        self.fetch = Fetch(self.replicas, self.sessions, self.deadlines, self.clock)

    def partition(self, topic: str, index: int = 0) -> Partition:
        partition = self.manager.get(topic, index)
        assert partition is not None
        return partition

    def configure(self, topic: str, index: int = 0, **changes: object) -> None:
        partition = self.partition(topic, index)
        partition.update_config(replace(partition.config, **changes))  # type: ignore[arg-type]

    def append(self, topic: str, index: int = 0, value: bytes = b"v", count: int = 1) -> None:
        """Append durably."""
        [(_, [produced])] = self.finish(self.start_produce([(topic, [(index, batch(value, count))])]))
        assert not produced.error, produced.error

    def start_produce(
        self,
        topics: list[tuple[TopicKey, list[tuple[int, memoryview | None]]]],
        *,
        acks: int = -1,
        timeout_ms: int = 30_000,
        **fields: object,
    ) -> list[ProducedTopics]:
        outcomes: list[ProducedTopics] = []
        request = ProduceRequest(acks=acks, timeout_ms=timeout_ms, topics=topics, **fields)  # type: ignore[arg-type]
        self.produce(request, outcomes.append)
        return outcomes

    def finish(self, outcomes: list[ProducedTopics]) -> ProducedTopics:
        self.clock.run_until(lambda: bool(outcomes))
        [outcome] = outcomes
        return outcome

    def start_fetch(
        self, partitions: Sequence[FetchPartition], **fields: object
    ) -> tuple[list[FetchResponse], WaitingFetch | None]:
        responses: list[FetchResponse] = []
        request = FetchRequest(partitions=list(partitions), **fields)  # type: ignore[arg-type]
        return responses, self.fetch(request, responses.append)

    def fetch_now(self, partitions: Sequence[FetchPartition], **fields: object) -> FetchResponse:
        responses, _ = self.start_fetch(partitions, **fields)
        self.clock.run_until(lambda: bool(responses))
        [response] = responses
        return response


def wanted(
    topic: TopicKey, index: int = 0, offset: int = 0, max_bytes: int = 1 << 20, epoch: int = -1
) -> FetchPartition:
    return FetchPartition(topic, index, offset, max_bytes, epoch)


def only(outcome: ProducedTopics) -> ProducedPartition:
    [(_, [produced])] = outcome
    return produced

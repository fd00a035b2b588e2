"""A node's partitions follow the metadata, also faster than files can be moved out of the way."""

from collections.abc import Callable
from typing import Any, cast

from ottla.broker.local_partitions import LocalPartitions
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import MetadataDelta, MetadataImage, PartitionImage, TopicImage
from ottla.core.types import NodeId, Uuid

ME, OTHER = NodeId(1), NodeId(2)


class Partitions:
    """Stands for both managers: writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []
        self.moving: list[Callable[[], None]] = []
        self.peers: dict[NodeId, Any] = {}

    def create(self, topic: str, topic_id: Uuid, index: int, config: object, **more: object) -> None:
        self.asked.append(("create", topic_id))

    def remove(self, topic: str, index: int, done: Callable[[], None], *, may_return: bool) -> None:
        self.asked.append(("remove", topic))
        self.moving.append(done)

    def forget(self, partition: tuple[Uuid, int]) -> None:
        self.asked.append(("forget", partition[0]))

    def follow(self, assignments: list[Any], peers: object) -> None:
        self.asked += [("follow", one.topic_id) for one in assignments]


class Metadata:
    """Images, one after the other."""

    def __init__(self) -> None:
        self.partitions = Partitions()
        self.local = LocalPartitions(ME, cast(Any, self.partitions), cast(Any, self.partitions))
        self.topic: TopicImage | None = None

    def have(self, topic_id: bytes | None, *replicas: NodeId) -> list[tuple[str, object]]:
        """The next image has this topic, or none; what came of it."""
        before, after = self.topic, None
        if topic_id is not None:
            partition = PartitionImage(0, replicas[0], 0, replicas, replicas)
            after = TopicImage("t", _id(topic_id), (partition,))
        self.topic = after
        topics = {} if after is None else {"t": after}
        image = MetadataImage(topics=topics, topics_by_id={t.id: t for t in topics.values()})
        self.partitions.asked.clear()
        self.local.follow(image, MetadataDelta(topics={"t": (before, after)}), EffectiveConfigs(image, {}, ME))
        return self.partitions.asked


def _id(text: bytes) -> Uuid:
    return Uuid(text.ljust(16, b"."))


A, B, C = _id(b"a"), _id(b"b"), _id(b"c")


def test_a_replica_that_is_gone_leads_and_follows_nothing_before_its_files_are_moved() -> None:
    metadata = Metadata()
    assert metadata.have(b"a", ME, OTHER) == [("create", A), ("follow", A)]
    assert metadata.have(b"a", OTHER) == [("forget", A), ("remove", "t")]


def test_a_topic_made_again_waits_until_its_namesakes_files_are_out_of_the_way() -> None:
    metadata = Metadata()
    metadata.have(b"a", ME, OTHER)
    metadata.have(None)
    assert metadata.have(b"b", ME, OTHER) == []
    metadata.partitions.moving[0]()
    assert metadata.partitions.asked == [("create", B), ("follow", B)]


def test_nor_does_the_one_after_that_begin_before() -> None:
    metadata = Metadata()
    metadata.have(b"a", ME, OTHER)
    metadata.have(None)
    metadata.have(b"b", ME, OTHER)
    assert metadata.have(None) == []
    assert metadata.have(b"c", ME, OTHER) == []
    [moved] = metadata.partitions.moving
    moved()
    assert metadata.partitions.asked == [("create", C), ("follow", C)]

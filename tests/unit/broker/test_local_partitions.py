"""A node's partitions follow the metadata, also faster than files can be moved out of the way."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.local_partitions import LocalPartitions
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import NO_LEADER, MetadataDelta, MetadataImage, PartitionImage, TopicImage
from ottla.core.types import NodeId, Uuid

pytestmark = pytest.mark.interpreted

ME, OTHER = NodeId(1), NodeId(2)


class Partitions:
    """Stands for both managers: writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []
        self.moving: list[Callable[[], None]] = []
        self.peers: dict[NodeId, Any] = {}
        self.damaged = False

    def create(self, topic: str, topic_id: Uuid, index: int, config: object, **more: object) -> None:
        self.asked.append(("create", topic_id))

    def get(self, topic: str, index: int) -> object:
        return SimpleNamespace(is_damaged=self.damaged)

    def remove(self, topic: str, index: int, done: Callable[[], None], *, may_return: bool, keep: bool = False) -> None:
        self.asked.append(("set aside" if keep else "remove", topic))
        self.moving.append(done)

    def drop_damaged(self, topic: str, topic_id: Uuid, index: int) -> None:
        self.asked.append(("drop damaged", topic_id))

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
        if topic_id is None:
            return self.next(None)
        return self.next(TopicImage("t", _id(topic_id), (PartitionImage(0, replicas[0], 0, replicas, replicas),)))

    def next(self, after: TopicImage | None) -> list[tuple[str, object]]:
        """The next image has this topic, or none; what came of it."""
        before, self.topic = self.topic, after
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
    assert metadata.partitions.asked == [("drop damaged", A), ("create", B), ("follow", B)]


def test_nor_does_the_one_after_that_begin_before() -> None:
    metadata = Metadata()
    metadata.have(b"a", ME, OTHER)
    metadata.have(None)
    metadata.have(b"b", ME, OTHER)
    assert metadata.have(None) == []
    assert metadata.have(b"c", ME, OTHER) == []
    [moved] = metadata.partitions.moving
    moved()
    assert metadata.partitions.asked == [("drop damaged", A), ("create", C), ("follow", C)]


# -- damaged replicas


def image(leader: NodeId, isr: tuple[NodeId, ...], elr: tuple[NodeId, ...] = ()) -> TopicImage:
    return TopicImage("t", A, (PartitionImage(0, leader, 0, (ME, OTHER), isr, elr=elr),))


def test_a_damaged_replica_is_made_anew_when_nobody_counts_on_it() -> None:
    metadata = Metadata()
    metadata.partitions.damaged = True
    assert metadata.next(image(OTHER, (OTHER,))) == [("create", A), ("forget", A), ("set aside", "t")]
    assert metadata.next(image(OTHER, (OTHER,))) == []  # its files are on their way out
    metadata.partitions.damaged = False
    metadata.partitions.moving[0]()
    assert metadata.partitions.asked == [("create", A), ("follow", A)]


@pytest.mark.parametrize("next_one", [None, b"b"], ids=["deleted", "made again"])
def test_what_was_set_aside_of_a_damaged_replica_goes_with_its_topic(next_one: bytes | None) -> None:
    metadata = Metadata()
    metadata.have(b"a", ME, OTHER)
    metadata.have(next_one, ME, OTHER)
    metadata.partitions.asked.clear()
    metadata.partitions.moving[0]()
    assert metadata.partitions.asked[0] == ("drop damaged", A)


def test_also_when_its_topic_is_deleted_while_it_is_set_aside() -> None:
    metadata = Metadata()
    metadata.partitions.damaged = True
    assert ("set aside", "t") in metadata.next(image(OTHER, (OTHER,)))
    assert metadata.have(None) == []
    metadata.partitions.moving[0]()
    assert metadata.partitions.asked == [("drop damaged", A)]


def test_and_with_a_replica_that_moves_to_another_node() -> None:
    metadata = Metadata()
    metadata.have(b"a", ME, OTHER)
    metadata.have(b"a", OTHER)
    metadata.partitions.asked.clear()
    metadata.partitions.moving[0]()
    assert metadata.partitions.asked == [("drop damaged", A)]


@pytest.mark.parametrize(
    "counted_on",
    [image(OTHER, (OTHER, ME)), image(OTHER, (OTHER,), (ME,)), image(NO_LEADER, (OTHER,)), image(ME, (ME,))],
    ids=["in sync", "eligible", "no leader", "the last"],
)
def test_a_damaged_replica_stays_as_it_is_while_it_counts_or_nobody_leads(counted_on: TopicImage) -> None:
    metadata = Metadata()
    metadata.partitions.damaged = True
    assert metadata.next(counted_on) == [("create", A), ("follow", A)]
    assert ("set aside", "t") in metadata.next(image(OTHER, (OTHER,)))
